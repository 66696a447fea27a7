// The first tab: whose portrait it is.

import { byId, make, on, onSubmit, say } from "./dom.js";
import { fromFile } from "./picture.js";
import { state } from "./state.js";
import { unknownWords } from "./words.js";

/**
 * @param {{text: string, seed: number}[]} gallery @param {HTMLCanvasElement[]} pictures
 * @param {{draw: (asked: {text: string, seed: number, steps?: number}) => void,
 *   open: (read: () => Promise<Float32Array>) => void}} actions
 */
export function openPortrait(gallery, pictures, { draw, open }) {
  const steps = () => Number(byId("steps").value);
  const seed = () => Math.min(Math.abs(Math.floor(byId("seed").value)), 2 ** 32 - 1);
  const drawText = () => draw({ text: byId("text").value.trim(), seed: seed(), steps: steps() });
  const take = ([file]) => file && open(() => fromFile(file));
  byId("gallery").append(...gallery.map(({ text, seed }, k) => make("button", {
    type: "button", "aria-label": text, click: () => draw({ text, seed, steps: steps() }),
  }, pictures[k])));
  onSubmit("text-form", drawText);
  on("text", "keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey) return;
    event.preventDefault();
    drawText();
  });
  on("another", "click", () => {
    byId("seed").value = Math.floor(1000 * Math.random());
    drawText();
  });
  on("file", "change", ({ target }) => {
    take(target.files);
    target.value = "";
  });
  for (const place of ["drop", "frame"]) {
    const isOver = (over) => byId("drop").classList.toggle("over", over);
    on(place, "dragover", (event) => event.preventDefault(isOver(true)));
    on(place, "dragleave", () => isOver(false));
    on(place, "drop", (event) => {
      event.preventDefault(isOver(false));
      take(event.dataTransfer.files);
    });
  }
}

/** The numbers of steps for which the model's recipe has noise levels. */
export function offerSteps({ sigmas, draft }) {
  byId("steps").append(...Object.keys(sigmas).map((count) => make("option", { value: count, text: count })));
  byId("steps").value = String(draft);
}

/** Show whose portrait it is. */
export function showPortrait() {
  const { portrait } = state;
  if (!portrait) return;
  for (const button of byId("gallery").children) {
    button.setAttribute("aria-pressed", String(!portrait.own && button.getAttribute("aria-label") === portrait.text));
  }
  const unknown = portrait.own || !state.ready ? [] : unknownWords(portrait.text, state.table);
  say("unknown", unknown.length ? `The model has no word for: ${unknown.join(", ")}. It draws what it makes of the rest.` : "");
  if (portrait.own) return;
  byId("text").value = portrait.text;
  byId("seed").value = String(portrait.seed);
  if (portrait.steps) byId("steps").value = String(portrait.steps);
}
