// The first tab: whose portrait it is.

import { byId, make } from "./dom.js";
import { fromFile } from "./picture.js";
import { state } from "./state.js";

/**
 * @param {{gallery: {text: string, seed: number}[], pictures: HTMLCanvasElement[]}} recorded
 * @param {{draw: (asked: {text: string, seed: number, steps?: number}) => void,
 *   open: (read: () => Promise<Float32Array>) => void}} actions
 */
export function openPortrait({ gallery, pictures }, { draw, open }) {
  gallery.forEach(({ text, seed }, k) => {
    pictures[k].setAttribute("aria-hidden", "true");
    const button = make("button", { type: "button", "aria-label": text, click: () => draw({ text, seed, steps: steps() }) });
    button.append(pictures[k]);
    byId("gallery").append(button);
  });
  const asked = () => ({ text: byId("text").value.trim(), seed: Math.max(0, Math.floor(byId("seed").value)), steps: steps() });
  const steps = () => Number(byId("steps").value) || undefined;
  byId("text-form").addEventListener("submit", (event) => {
    event.preventDefault();
    draw(asked());
  });
  byId("text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    draw(asked());
  });
  byId("another").addEventListener("click", () => {
    byId("seed").value = Math.floor(1000 * Math.random());
    draw(asked());
  });
  openDrop(open);
}

function openDrop(open) {
  const drop = byId("drop");
  const take = (file) => file && open(() => fromFile(file));
  byId("file").addEventListener("change", (event) => {
    take(event.target.files[0]);
    event.target.value = "";
  });
  for (const place of [drop, byId("frame")]) {
    place.addEventListener("dragover", (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
    place.addEventListener("dragleave", () => drop.classList.remove("over"));
    place.addEventListener("drop", (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      take(event.dataTransfer.files[0]);
    });
  }
}

/** The numbers of steps for which the model's recipe has noise levels. */
export function offerSteps(recipe) {
  const counts = Object.keys(recipe.sigmas).map(Number).sort((a, b) => a - b);
  byId("steps").replaceChildren(...counts.map((count) => make("option", { value: count, text: count })));
  byId("steps").value = String(recipe.draft);
}

/** Show whose portrait it is. */
export function showPortrait() {
  const { portrait } = state;
  if (!portrait || portrait.own) return;
  byId("text").value = portrait.text;
  byId("seed").value = String(portrait.seed);
  if (portrait.steps) byId("steps").value = String(portrait.steps);
  for (const button of byId("gallery").children) {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-label") === portrait.text));
  }
}
