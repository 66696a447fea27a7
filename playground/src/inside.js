// The third tab: attention between words and patches, block by block and step by step.

import { byId, choose, heatGrid, make, on, paint } from "./dom.js";
import { between, cellName, everywhere, gaze, GRID, PATCHES, percent, placeOf, told } from "./gaze.js";
import { showStage } from "./stage.js";
import { deed, state } from "./state.js";

const PACE = 600; // milliseconds between the steps that are played

let showPatches, showTotals;
let shares = null;
let built = null; // the run whose words and blocks are on the page
let isPlaying = false;

/** The run that is looked into. */
export function insideNow() {
  const { look, edit, portrait } = state;
  return (look.of === "edit" && edit?.inside) || portrait?.inside || edit?.inside || null;
}

/**
 * @param {(inside: object, step: number) => Promise<HTMLCanvasElement | undefined>} guess the picture of a step
 * @returns {(step: number) => Promise<void>} goes to a step
 */
export function openInside(guess) {
  const { look } = state;
  on("inside-some", "change", () => {
    const [of, way, block] = ["inside-of", "way", "block"].map((id) => byId(id).querySelector(":checked").value);
    Object.assign(look, { of, way, block: block === "mean" ? null : Number(block), clean: of === look.of ? look.clean : null });
    showInside();
  });
  const goTo = async (step) => {
    const inside = insideNow();
    look.step = step;
    showInside();
    const picture = await guess(inside, step);
    if (!picture || insideNow() !== inside || look.step !== step) return;
    look.clean = picture;
    showStage();
  };
  on("step", "input", (event) => {
    isPlaying = false;
    goTo(Number(event.target.value));
    deed("step");
  });
  on("play", "click", () => (isPlaying ? (isPlaying = false) : play(goTo)));
  const onPick = (patch) => focusOn(patch, "to");
  showPatches = heatGrid(byId("patches"), { rows: GRID, columns: GRID, label: "Patches of the picture", onPick });
  return goTo;
}

/** Look from a word or a patch; chosen once more, no longer. */
function focusOn(row, way) {
  const { look } = state;
  if (look.row < 0 || look.row < PATCHES !== row < PATCHES) look.way = way;
  look.row = look.row === row ? -1 : row;
  if (look.row >= 0) deed(row < PATCHES ? "patch" : "word");
  showInside();
}

async function play(goTo) {
  isPlaying = true;
  byId("play").textContent = "Stop";
  const steps = insideNow().sigmas.length;
  for (let step = (state.look.step + 1) % steps; step < steps && isPlaying; step++) {
    await Promise.all([goTo(step), new Promise((resolve) => setTimeout(resolve, PACE))]);
  }
  isPlaying = false;
  byId("play").textContent = "Play";
}

/** Show what attends to what. */
export function showInside() {
  const [inside, { look, portrait, edit }] = [insideNow(), state];
  byId("inside-none").hidden = Boolean(inside);
  byId("inside-some").hidden = !inside;
  if (inside) {
    if (inside !== built) build(inside);
    byId("inside-of").hidden = !(portrait?.inside && edit?.inside);
    choose("inside-of", look.of);
    choose("way", look.way);
    choose("block", look.block === null ? "mean" : String(look.block));
    showStep(inside);
    showGaze(inside);
    showTable(inside);
  }
  showStage();
}

/** Words, blocks and steps of another run. */
function build(inside) {
  built = inside;
  const { look } = state;
  if (look.row >= PATCHES && !inside.words.some(({ row }) => row === look.row - PATCHES)) look.row = -1;
  const [rows, columns] = [inside.blocks, inside.sigmas.length];
  look.step = Math.min(look.step, columns - 1);
  byId("words").replaceChildren(...inside.words.map(({ text, row }) => make("button", {
    type: "button", value: PATCHES + row, text, click: () => focusOn(PATCHES + row, "from"),
  })));
  showTotals = heatGrid(byId("totals"), {
    rows, columns, label: "Attention by block (down) and step (across)",
    onPick: (cell) => {
      look.block = Math.floor(cell / columns);
      byId("step").value = String(cell % columns);
      byId("step").dispatchEvent(new Event("input"));
    },
  });
}

function showStep({ sigmas }) {
  const { step } = state.look;
  const said = `${step + 1} of ${sigmas.length}, ${percent(sigmas[step])} noise`;
  Object.assign(byId("step"), { max: sigmas.length - 1, value: step });
  byId("step").setAttribute("aria-valuetext", said);
  byId("step-value").textContent = said;
}

/** Shade patches and words. */
function showGaze(inside) {
  const { look } = state;
  shares = look.row < 0 ? null : gaze(inside, look, look.step, look.block);
  byId("peek").textContent = "";
  byId("told").textContent = shares ? told(inside, look, shares) : "";
  for (const part of ["told-none", "totals-none"]) byId(part).hidden = Boolean(shares);
  for (const part of ["told", "way", "totals", "totals-what"]) byId(part).hidden = !shares;
  const said = (row) => (shares ? `, ${percent(shares[row])}` : "");
  const scaled = (rows) => {
    const values = rows.map((row) => shares?.[row] ?? 0);
    return values.map((value) => value / (Math.max(...values) || 1));
  };
  const patches = [...Array(PATCHES).keys()];
  const words = [...byId("words").children];
  const rows = words.map((button) => Number(button.value));
  showPatches(scaled(patches), patches.map((k) => placeOf(k) + said(k)), look.row < PATCHES ? look.row : -1);
  const names = words.map((button, k) => button.textContent + said(rows[k]));
  paint(words, scaled(rows), names, rows.indexOf(look.row), "aria-pressed");
}

/** Shade every block and step by the attention between what is chosen and the other stream. */
function showTable(inside) {
  const { look } = state;
  if (!shares) return;
  const others = look.row < PATCHES ? "words" : "patches";
  const all = everywhere(inside, (step, block) => between(inside, look, step, block));
  const [most, steps] = [Math.max(...all), inside.sigmas.length];
  const names = all.map((share, k) => `${cellName(k, steps)}, ${percent(share)}`);
  showTotals(all.map((share) => share / (most || 1)), names, look.block === null ? -1 : look.block * steps + look.step);
  const what = look.way === "to" ? `How much of its attention goes to all ${others}.`
    : `How much of their attention ${others} give to it, in the mean.`;
  const now = percent(between(inside, look, look.step, look.block));
  byId("totals-what").textContent = `${what} Strongest: ${percent(most)}; now ${now}.`;
}
