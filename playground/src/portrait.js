// The first tab: whose portrait it is.

import { byId, make, on, onSubmit } from "./dom.js";
import { fromFile } from "./picture.js";
import { state } from "./state.js";

/**
 * @param {{text: string, seed: number}[]} gallery
 * @param {HTMLCanvasElement[]} pictures
 * @param {{draw: (asked: {text: string, seed: number, steps?: number}) => void,
 *   open: (read: () => Promise<Float32Array>) => void}} actions
 */
export function openPortrait(gallery, pictures, { draw, open }) {
  const steps = () => Number(byId("steps").value);
  const asked = () => ({ text: byId("text").value.trim(), seed: Math.abs(Math.floor(byId("seed").value)), steps: steps() });
  byId("gallery").append(...gallery.map(({ text, seed }, k) => make("button", {
    type: "button", "aria-label": text, click: () => draw({ text, seed, steps: steps() }),
  }, pictures[k])));
  onSubmit("text-form", () => draw(asked()));
  on("text", "keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    draw(asked());
  });
  on("another", "click", () => {
    byId("seed").value = Math.floor(1000 * Math.random());
    draw(asked());
  });
  on("file", "change", ({ target }) => {
    const [file] = target.files;
    if (file) open(() => fromFile(file));
    target.value = "";
  });
  for (const place of ["drop", "frame"]) {
    const isOver = (over) => byId("drop").classList.toggle("over", over);
    on(place, "dragover", (event) => event.preventDefault(isOver(true)));
    on(place, "dragleave", () => isOver(false));
    on(place, "drop", (event) => {
      event.preventDefault(isOver(false));
      const [file] = event.dataTransfer.files;
      if (file) open(() => fromFile(file));
    });
  }
}

/** The numbers of steps for which the model's recipe has noise levels. */
export function offerSteps({ sigmas, draft }) {
  const options = Object.keys(sigmas).map((count) => make("option", { value: count, text: count }));
  byId("steps").replaceChildren(...options);
  byId("steps").value = String(draft);
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
