// The third tab: attention between words and patches, block by block and step by step.

import { byId, heatGrid, make, segments } from "./dom.js";
import { between, gaze, PATCHES, percent, placeOf, told, totals } from "./gaze.js";
import { deed, state } from "./state.js";
import { openPatches, showStage } from "./stage.js";

const PACE = 600; // milliseconds between the steps that are played

let showPatches, showTotals, pickWay, pickBlock, pickOf, playing;
let shares = null;
let built = null; // the run whose words and grid are on the page

/** The run that is looked into. */
export function insideNow() {
  const { look, edit, portrait } = state;
  return (look.of === "edit" && edit?.inside) || portrait?.inside || edit?.inside || null;
}

/** @param {(inside: object, step: number) => Promise<HTMLCanvasElement | undefined>} guess the picture of a step */
export function openInside(guess) {
  showPatches = openPatches((patch) => focusOn(patch, "to"), peekAtPatch);
  pickOf = segments(byId("inside-of"), [["portrait", "how it was drawn"], ["edit", "the edit"]], (of) => {
    state.look.of = of;
    showInside();
  });
  pickWay = segments(byId("way"), [["from", "what looks at it"], ["to", "where it looks"]], (way) => {
    state.look.way = way;
    showInside();
  });
  const goTo = async (step) => {
    state.look.step = step;
    const inside = insideNow();
    state.look.clean = inside.pictures?.[step] ?? state.look.clean;
    showInside();
    const picture = await guess(inside, step);
    if (picture && insideNow() === inside && state.look.step === step) state.look.clean = picture;
    showStage();
  };
  byId("step").addEventListener("input", (event) => {
    stop();
    goTo(Number(event.target.value));
    deed("step");
  });
  byId("play").addEventListener("click", () => (playing ? stop() : play(goTo)));
  openWords();
  return goTo;
}

function openWords() {
  const wordOf = (event) => event.target.closest("button");
  const words = byId("words");
  words.addEventListener("click", (event) => wordOf(event) && focusOn(PATCHES + Number(wordOf(event).value), "from"));
  for (const kind of ["pointerover", "focusin"]) {
    words.addEventListener(kind, (event) => wordOf(event) && peek(wordOf(event).textContent, PATCHES + Number(wordOf(event).value)));
  }
  for (const kind of ["pointerout", "focusout"]) words.addEventListener(kind, () => peek());
}

/** Look from a word or a patch; chosen once more, no longer. */
function focusOn(row, way) {
  const { look } = state;
  const isPatch = (each) => each < PATCHES;
  if (look.row < 0 || isPatch(look.row) !== isPatch(row)) look.way = way;
  look.row = look.row === row ? -1 : row;
  if (look.row >= 0) deed(isPatch(row) ? "patch" : "word");
  showInside();
}

async function play(goTo) {
  playing = setTimeout(() => {}, 0);
  byId("play").textContent = "Stop";
  const steps = insideNow().sigmas.length;
  for (let step = state.look.step + 1 < steps ? state.look.step + 1 : 0; step < steps && playing; step++) {
    await goTo(step);
    await new Promise((resolve) => (playing = playing && setTimeout(resolve, PACE)));
  }
  if (playing) deed("played");
  stop();
}

function stop() {
  playing = null;
  byId("play").textContent = "Play";
}

/** Show what attends to what. */
export function showInside() {
  const inside = insideNow();
  byId("inside-none").hidden = Boolean(inside);
  byId("inside-some").hidden = !inside;
  if (!inside) return showStage();
  const { look, portrait, edit } = state;
  byId("inside-of").hidden = !(portrait?.inside && edit?.inside);
  if (inside !== built) build(inside);
  look.step = Math.min(look.step, inside.sigmas.length - 1);
  pickOf(look.of);
  pickWay(look.way);
  pickBlock(look.block === null ? "mean" : String(look.block));
  const step = byId("step");
  step.max = String(inside.sigmas.length - 1);
  step.value = String(look.step);
  const said = `${look.step + 1} of ${inside.sigmas.length}, ${percent(inside.sigmas[look.step])} noise`;
  byId("step-value").textContent = said;
  step.setAttribute("aria-valuetext", said);
  showGaze(inside);
  showStage();
}

function build(inside) {
  built = inside;
  byId("words").replaceChildren(...inside.words.map(({ text, row }) => make("button", { type: "button", value: row, text })));
  if (state.look.row >= PATCHES && !inside.words.some(({ row }) => row === state.look.row - PATCHES)) state.look.row = -1;
  const frame = make("div", { class: "heat text-heat", id: "totals" });
  byId("totals").replaceWith(frame);
  const [rows, columns] = [inside.blocks, inside.sigmas.length];
  showTotals = heatGrid(frame, {
    rows, columns, label: "Attention by block (down) and step (across)",
    onPick: (cell) => {
      [state.look.block, state.look.step] = [Math.floor(cell / columns), cell % columns];
      byId("step").value = String(state.look.step);
      byId("step").dispatchEvent(new Event("input"));
    },
  });
  byId("block").querySelectorAll("label").forEach((label) => label.remove());
  const choices = Array.from({ length: rows }, (_, k) => [String(k), String(k + 1)]);
  pickBlock = segments(byId("block"), [["mean", "mean"], ...choices], (value) => {
    state.look.block = value === "mean" ? null : Number(value);
    showInside();
  });
}

function showGaze(inside) {
  const { look } = state;
  const none = look.row < 0;
  byId("way").hidden = none;
  shares = none ? null : gaze(inside, look, look.step, look.block);
  byId("told").textContent = none
    ? "Choose a word to see which patches look at it, or a patch to see which words it looks at."
    : told(inside, look, shares);
  const patches = none ? new Float32Array(PATCHES) : shares.slice(0, PATCHES);
  const most = Math.max(...patches) || 1;
  const names = [...patches].map((share, k) => `${placeOf(k)}${none ? "" : `, ${percent(share)}`}`);
  showPatches([...patches].map((share) => share / most), names, look.row < PATCHES ? look.row : -1);
  showWords(inside);
  byId("totals").hidden = none;
  byId("totals-what").textContent = none ? "Choose a word or a patch first." : totalsSay(look);
  if (none) return;
  const all = totals(inside, look);
  const [top, steps] = [Math.max(...all) || 1, inside.sigmas.length];
  const cells = all.map((share, k) => `block ${Math.floor(k / steps) + 1}, step ${(k % steps) + 1}, ${percent(share)}`);
  showTotals(all.map((share) => share / top), cells, look.block === null ? -1 : look.block * steps + look.step);
  byId("totals-what").textContent += ` Darkest: ${percent(top)}; now ${percent(between(inside, look, look.step, look.block))}.`;
}

function totalsSay({ row, way }) {
  const others = row < PATCHES ? "words" : "patches";
  return way === "to" ? `How much of its attention goes to all ${others}.` : `How much of their attention ${others} give to it, in the mean.`;
}

function showWords(inside) {
  const most = shares ? Math.max(...inside.words.map(({ row }) => shares[PATCHES + row])) || 1 : 1;
  for (const button of byId("words").children) {
    const row = PATCHES + Number(button.value);
    button.style.setProperty("--share", String(shares ? shares[row] / most : 0));
    button.setAttribute("aria-pressed", String(row === state.look.row));
    button.setAttribute("aria-label", button.textContent + (shares ? `, ${percent(shares[row])}` : ""));
  }
}

const peekAtPatch = (patch) => (patch === null ? peek() : peek(placeOf(patch), patch));

function peek(name, row) {
  byId("peek").textContent = name ? `${name}${shares ? `: ${percent(shares[row])}` : ""}` : "";
}
