// The page: what a person does, the engine carries out; then the views show what is there.

import { nearest, nextDegree, withNode } from "./degrees.js";
import { Desk } from "./desk.js";
import { announce, byId, on, say } from "./dom.js";
import { openEdit, showEdit, showMeasures, showSubject } from "./edit.js";
import { Engine, supported } from "./engine.js";
import { openFrame } from "./frame.js";
import { insideNow, openInside, showInside } from "./inside.js";
import { fromLink, toLink } from "./link.js";
import { cutStrip, toCanvas, toPixels } from "./picture.js";
import { offerSteps, openPortrait, showPortrait } from "./portrait.js";
import { openReadable, showReadable } from "./readable.js";
import { openStage, showStage } from "./stage.js";
import { deed, state } from "./state.js";
import { openTour } from "./tour.js";
import { caption, levelOf, levelsOf, pair, readWish } from "./words.js";

const SEED = 0; // of an edit's noise, as in Python
const FURTHER = "going there";
const PREVIEWS = 3; // steps from one picture on its way to the next

let /** @type {Engine} */ engine, /** @type {Desk} */ desk;
let recorded, showTab, goToStep;
let arriving = Promise.resolve(); // a portrait that is being made: an edit waits for it

const json = async (name) => (await fetch(name)).json();

async function open() {
  showTab = openFrame(enter);
  openStage(settle);
  openEdit({ ask, reset });
  recorded = await json("data/recorded.json");
  openPortrait(recorded.gallery, await cutStrip("data/gallery.webp"), { draw, open: openOwn });
  openTour(await json("data/tour.json"), showTab);
  showRecorded(await cutStrip("data/recorded.webp"));
  byId("unsupported").hidden = supported();
  if (!supported()) {
    byId("start-row").hidden = true;
    return;
  }
  engine = new Engine();
  desk = new Desk(engine, meanwhile);
  goToStep = openInside(guess);
  on("start", "click", start);
  await offer();
}

/** The recorded edit, as if it had been made here. */
function showRecorded(pictures) {
  const { edit, gallery, table } = recorded;
  const nodes = edit.nodes.map((node, k) => ({ ...node, canvas: pictures[k], pixels: toPixels(pictures[k]) }));
  const portrait = { ...gallery[0], ...nearest(nodes, 0), own: false, values: edit.values };
  Object.assign(state, { table, portrait, edit: { ...edit, nodes } });
  byId("wish").value = edit.wish;
  setUsable(false);
  showPortrait();
  showEdit();
  showTab("edit");
}

/** Controls that need the model. */
function setUsable(isUsable) {
  document.querySelectorAll(".needs-model").forEach((part) => part.toggleAttribute("inert", !isUsable));
  document.body.classList.toggle("before", !isUsable);
  byId("tour-open").hidden = !isUsable;
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;

/** Say how large the download is; start by itself if it is here already. */
async function offer() {
  try {
    const { download: bytes, cached, recipe } = await engine.describe();
    const left = bytes - cached;
    state.recipe = recipe;
    byId("size").textContent = left > 0 ? `${megabytes(left)} once, kept in your browser.` : "Already in your browser.";
    if (fromLink(location.hash, recorded.table.attributes)) byId("size").textContent += " A portrait from a link is waiting.";
    byId("start").disabled = false;
    if (left <= 0 && !(/** @type {any} */ (navigator).connection?.saveData)) await start();
  } catch (error) {
    say("load-error", `${error.message} Reload the page to try again.`);
  }
}

async function start() {
  const showLoading = (isLoading) => [["start-row", isLoading], ["loading", !isLoading]].forEach(
    ([part, isHidden]) => (byId(part).hidden = isHidden));
  showLoading(true);
  say("load-error", "");
  try {
    state.table = await engine.load(({ phase, done, total }) => {
      Object.assign(byId("load-bar"), { max: total, value: done });
      const isDownload = phase === "download";
      byId("load-text").textContent = isDownload ? `${megabytes(done)} of ${megabytes(total)}` : "Starting the model …";
    });
  } catch (error) {
    showLoading(false);
    byId("start").textContent = "Try again";
    byId("start").focus();
    return say("load-error", error.message);
  }
  performance.mark("model-ready");
  state.ready = true;
  byId("welcome").hidden = true;
  setUsable(true);
  offerSteps(state.recipe);
  json("data/maps.json").then(openReadable);
  return follow(fromLink(location.hash, state.table.attributes));
}

/** Make what a link asks for, or the first portrait of the gallery. */
async function follow(asked) {
  state.edit = null;
  byId("wish").value = asked?.edit?.wish ?? "";
  showTab(asked && !asked.edit ? "portrait" : "edit");
  if ((await draw(asked ?? recorded.gallery[0])) && asked?.edit) await ask(asked.edit, asked.degree);
}

/** Carry out a call; show what is going on, and a sentence if it fails. */
async function attempt(text, call) {
  const busy = { text, share: 0 };
  say("error", "");
  state.busy = busy;
  showStage();
  try {
    return await desk.now(call);
  } catch (error) {
    return say("error", `${error.message} What was there is still there; try again.`);
  } finally {
    if (state.busy === busy) Object.assign(state, { busy: null, preview: null });
    showMeasures();
    showStage();
  }
}

function onStep({ step, steps, pixels }) {
  if (!state.busy) return;
  state.busy.share = (step + 1) / steps;
  if (pixels) state.preview = toCanvas(pixels);
  showStage();
}

const draw = (asked) => (arriving = drawn(asked));
const openOwn = (read) => (arriving = opened(read));

async function drawn({ text, seed, steps: wanted }) {
  const steps = state.recipe.sigmas[wanted] ? wanted : state.recipe.draft;
  if (!text) return say("error", "Describe somebody first, for example: an old person with a beard and a hat.");
  const before = state.portrait;
  const made = await attempt("drawing", () => engine.sample({ text, seed, steps, previews: PREVIEWS }, onStep));
  if (!made) return false;
  adopt({ ...made, steps, own: false, canvas: toCanvas(made.pixels) });
  performance.mark("first-picture");
  deed("drawn");
  if (before.seed === seed && before.text !== text) deed("reworded");
  return true;
}

async function opened(read) {
  const made = await attempt("reading", async () => engine.read({ pixels: await read() }));
  if (made) adopt({ ...made, text: "", seed: 0, own: true, canvas: toCanvas(made.pixels) });
}

/** A new portrait takes the place of the old one and of its edit. */
function adopt(portrait) {
  Object.assign(state, { portrait, edit: null, degree: 1 });
  const steps = portrait.inside?.sigmas.length ?? 1;
  Object.assign(state.look, { of: "portrait", clean: null, step: Math.floor(steps / 2) });
  say("refusal", "");
  [showPortrait, showSubject, showEdit, remember, enter].forEach((show) => show());
  announce(`Portrait ready: ${caption(levelsOf(portrait.values, state.table), state.table)}`);
}

/**
 * Make an edit of what was asked for: a wish, levels, or two texts.
 * @param {{wish?: string, changes?: Record<string, number> | null, source?: string, target?: string}} asked
 */
async function ask({ wish = "", changes = null, source = "", target = "" }, degree = 1) {
  await arriving;
  const [{ pixels, values }, { table, edit: before }] = [state.portrait, state];
  const read = wish ? readWish(wish, asShown(values, before), table) : { changes };
  if (read.refused) return say("refusal", `${read.refused}${before ? " Below is still the edit before." : ""}`);
  if (wish && before?.changes) { // wishes add up
    const all = Object.entries({ ...before.changes, ...read.changes });
    read.changes = Object.fromEntries(all.filter(([name, level]) => level !== levelOf(name, values[name], table)));
    if (!Object.keys(read.changes).length) return reset();
    if (all.length > 1) [wish, changes] = ["", read.changes];
  }
  if (read.changes) [source, target] = Object.values(pair(levelsOf(values, table), values, read.changes, table));
  if (!source || !target || source === target) {
    if (changes) return reset();
    return say("refusal", wish ? "The portrait is like that already. Ask for something else."
      : "Two texts are needed that differ: what the picture shows, and what it should show.");
  }
  say("refusal", "");
  const made = await attempt("editing", async (isCurrent) => {
    const { plan, reconstruction, mask } = await engine.plan({ pixels, source, target, seed: SEED });
    const zero = { ...(await engine.read({ pixels: reconstruction })), degree: 0, canvas: toCanvas(reconstruction) };
    const edit = { wish, changes: read.changes, source, target, values, plan, mask, nodes: [zero] };
    if (isCurrent()) edit.inside = await compute(edit, degree, onStep);
    return edit;
  });
  if (!made) return undefined;
  Object.assign(state, { edit: made, degree });
  Object.assign(state.look, { of: "edit", clean: null });
  showReadable(Object.keys(read.changes ?? {})[0]);
  remember();
  showEdit();
  enter();
  return announce(`Edit ready. ${byId("verdict").textContent}`);
}

/** What a portrait would be with all that was asked for. */
function asShown(values, before) {
  const { attributes } = state.table;
  const wanted = Object.entries(before?.plan && before.changes ? before.changes : {});
  return { ...values, ...Object.fromEntries(wanted.map(([name, level]) => [name, attributes[name].levels[level].value])) };
}

function reset() {
  Object.assign(state, { edit: null, degree: 1 });
  Object.assign(state.look, { of: "portrait", clean: null });
  byId("wish").value = "";
  say("refusal", "");
  [remember, showSubject, showEdit, showStage].forEach((show) => show());
}

/** Compute an edit at a degree, keep it as a node, and give what can be looked into. */
async function compute(edit, degree, tell) {
  const { inside, ...made } = await engine.edit({ plan: edit.plan, degree }, tell);
  edit.nodes = withNode(edit.nodes, { ...made, degree, canvas: toCanvas(made.pixels) });
  return inside;
}

/** Between two requests: the next node of the slider. */
function meanwhile() {
  const { edit, recipe } = state;
  const degree = edit?.plan && nextDegree(edit.nodes, recipe.degrees.nodes);
  if (degree == null) return null;
  return async () => {
    await compute(edit, degree);
    if (state.edit === edit) showStage();
  };
}

/** The degree rests: make the true edit there. */
async function settle() {
  const { edit, degree } = state;
  remember();
  const isElsewhere = state.busy && state.busy.text !== FURTHER;
  if (!edit?.plan || isElsewhere || nearest(edit.nodes, degree).degree === degree) return;
  const inside = await attempt(FURTHER, () => compute(edit, degree, onStep));
  if (!inside || state.edit !== edit) return;
  edit.inside = inside;
  announce(`Degree ${degree.toFixed(2)} computed. ${byId("verdict").textContent}`);
}

/** The model's guess of the picture at a step of a run. */
async function guess(inside, step) {
  inside.pictures ??= [];
  const size = inside.clean.length / inside.sigmas.length;
  const latents = inside.clean.slice(step * size, (step + 1) * size);
  const pixels = !inside.pictures[step] && (await desk.after(() => engine.decode({ latents })).catch(() => null));
  if (pixels) inside.pictures[step] = toCanvas(pixels);
  return inside.pictures[step];
}

/** A tab is opened, or has other things to show. */
function enter() {
  if (!state.ready || state.tab !== "inside") return showStage();
  showInside();
  showReadable();
  return insideNow() && goToStep(state.look.step);
}

/** Keep what is shown in the address, so that a reload or a copied link brings it back. */
function remember() {
  const { portrait, edit, degree } = state;
  const plain = location.pathname + location.search;
  if (state.ready) history.replaceState(null, "", portrait.own ? plain : toLink(portrait, edit, degree));
}

open().catch((error) => say("load-error", `The page could not be opened: ${error.message}. Reload it to try again.`));
