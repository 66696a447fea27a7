// The page: what a person does, the engine carries out; then the views show what is there.

import { nearest, nextDegree, withNode } from "./degrees.js";
import { Desk } from "./desk.js";
import { announce, byId } from "./dom.js";
import { openEdit, showEdit, showMeasures, showSubject } from "./edit.js";
import { Engine, supported } from "./engine.js";
import { openInside, showInside, insideNow } from "./inside.js";
import { fromLink, toLink } from "./link.js";
import { cutStrip, download, toCanvas, toPixels } from "./picture.js";
import { offerSteps, openPortrait, showPortrait } from "./portrait.js";
import { openReadable, showReadable, suggestAttribute } from "./readable.js";
import { deed, state } from "./state.js";
import { openStage, showStage } from "./stage.js";
import { openTour } from "./tour.js";
import { caption, levelsOf, pair, readWish } from "./words.js";

const TABS = ["portrait", "edit", "inside"];
const SEED = 0; // of an edit's noise, as in Python

/** @type {Engine} */
let engine;
/** @type {Desk} */
let desk;
let recorded, pictures, glance;

// --- before the model is there -------------------------------------------------------------------------

const json = async (name) => (await fetch(name)).json();

async function open() {
  openTheme();
  openKeys();
  openTabs();
  openStage({ settle, moved });
  openEdit({ wish, change, texts, reset, save });
  recorded = await json("data/recorded.json");
  const gallery = await cutStrip("data/gallery.webp");
  openPortrait({ gallery: recorded.gallery, pictures: gallery }, { draw, open: openOwn });
  pictures = await cutStrip("data/recorded.webp");
  showRecorded();
  openTour(await json("data/tour.json"), goTo);
  setUsable(false);
  if (!supported()) {
    return fail("start", "This browser cannot run the model: it lacks WebAssembly with SIMD, or workers. The pictures here were " +
      "recorded, and the slider moves between them; a current Firefox, Chrome, Edge or Safari runs all of it.");
  }
  engine = new Engine();
  desk = new Desk(engine, meanwhile);
  glance = openInside(guess);
  byId("start").addEventListener("click", start);
  await offer();
}

/** Say how large the download is; start by itself if it is here already. */
async function offer() {
  try {
    const { download: bytes, cached, recipe } = await engine.describe();
    state.recipe = recipe;
    const left = bytes - cached;
    byId("size").textContent = left > 0
      ? `${megabytes(left)} once, kept in your browser. Nothing you do leaves this device.`
      : "Already in your browser. Nothing you do leaves this device.";
    byId("start-row").hidden = false;
    if (left <= 0 && !navigator.connection?.saveData) await start();
  } catch (error) {
    fail("start", `${error.message} Reload the page to try again.`);
  }
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;

/** The recorded edit, as if it had been made here. */
function showRecorded() {
  const { edit } = recorded;
  state.table = recorded.table;
  const nodes = edit.nodes.map((node, k) => ({ ...node, canvas: pictures[k], pixels: toPixels(pictures[k]) }));
  const first = nodes[0];
  state.portrait = { ...recorded.gallery[0], own: false, values: edit.values, pixels: first.pixels, canvas: first.canvas };
  state.edit = { ...edit, nodes };
  Object.assign(byId("degree"), { min: 0, max: nodes.at(-1).degree });
  byId("wish").value = edit.wish;
  showPortrait();
  showEdit();
  goTo("edit");
}

/** Controls that need the model. */
function setUsable(usable) {
  for (const control of document.querySelectorAll("#portrait :is(button, input, select, textarea), #wish-form :is(button, input), " +
    "#levels-box, #texts-box, #mask")) control.toggleAttribute("inert", !usable);
  document.body.classList.toggle("before", !usable);
}

async function start() {
  byId("start-row").hidden = true;
  byId("load-error").hidden = true;
  byId("loading").hidden = false;
  try {
    state.table = await engine.load(showProgress);
    state.ready = true;
  } catch (error) {
    byId("loading").hidden = true;
    byId("start-row").hidden = false;
    byId("start").textContent = "Try again";
    byId("start").focus();
    return fail("start", error.message);
  }
  byId("loading").hidden = true;
  byId("welcome").hidden = true;
  setUsable(true);
  offerSteps(state.recipe);
  Object.assign(byId("degree"), { min: -1, max: 2 });
  json("data/maps.json").then(openReadable);
  await follow(location.hash);
}

function showProgress({ phase, done, total }) {
  const bar = byId("load-bar");
  [bar.max, bar.value] = [total, done];
  byId("load-text").textContent = phase === "download" ? `${megabytes(done)} of ${megabytes(total)}` : "Starting the model …";
}

/** Make what a link asks for, or the first portrait of the gallery. */
async function follow(hash) {
  const asked = fromLink(hash, state.table.attributes);
  state.edit = null;
  byId("wish").value = asked?.edit?.wish ?? "";
  goTo(asked?.edit ? "edit" : "portrait");
  if (!(await draw(asked ?? recorded.gallery[0])) || !asked?.edit) return;
  const { wish: text, changes, source, target } = asked.edit;
  if (text) await wish(text, asked.degree);
  else if (changes) await change(changes, asked.degree);
  else await makeEdit({ wish: "", changes: null, source, target }, asked.degree);
}

// --- what a person asks for ----------------------------------------------------------------------------

/** Carry out a call; show what is going on, and a sentence if it fails. */
async function attempt(text, call) {
  fail("error", "");
  state.busy = { text, share: 0 };
  showStage();
  try {
    return await desk.now(call);
  } catch (error) {
    fail("error", `${error.message} What was there is still there; try again.`);
    return undefined;
  } finally {
    if (state.busy?.text === text) [state.busy, state.preview] = [null, null];
    showAll();
  }
}

const onStep = (text) => ({ step, steps, pixels }) => {
  state.busy = { text, share: (step + 1) / steps };
  if (pixels) state.preview = toCanvas(pixels);
  showStage();
};

async function draw(asked) {
  if (!asked.text) return fail("error", "Describe somebody first, for example: an old person with a beard and a hat.");
  const before = state.portrait;
  const made = await attempt("drawing", () => engine.sample({ ...asked, steps: asked.steps ?? undefined, previews: 3 }, onStep("drawing")));
  if (!made) return false;
  adopt({ ...made, steps: asked.steps ?? state.recipe.draft, own: false, canvas: toCanvas(made.pixels) });
  deed("drawn");
  if (before?.seed === asked.seed && before.text !== asked.text) deed("reworded");
  return true;
}

async function openOwn(read) {
  const made = await attempt("reading the picture", async () => engine.read({ pixels: await read() }));
  if (made) adopt({ ...made, text: "", seed: 0, own: true, canvas: toCanvas(made.pixels) });
}

/** A new portrait takes the place of the old one and of its edit. */
function adopt(portrait) {
  Object.assign(state, { portrait, edit: null, preview: null, busy: null, degree: 1 });
  Object.assign(state.look, { of: "portrait", clean: null, step: Math.floor((portrait.inside?.sigmas.length ?? 1) / 2) });
  showSubject();
  fail("refusal", "");
  remember();
  announce(`Portrait ready: ${caption(levelsOf(portrait.values, state.table), state.table)}`);
  showAll();
}

async function wish(text, degree = 1) {
  const { portrait, table } = state;
  const read = readWish(text, portrait.values, table);
  fail("refusal", read.refused ?? "");
  if (read.refused) return;
  if (!Object.keys(read.changes).length) return fail("refusal", "The portrait is like that already: nothing would change. Ask for something else.");
  await makeEdit({ wish: text, changes: read.changes, ...textsOf(read.changes) }, degree);
}

async function change(changes, degree = 1) {
  byId("wish").value = "";
  if (!Object.keys(changes).length) return reset();
  await makeEdit({ wish: "", changes, ...textsOf(changes) }, degree);
}

const textsOf = (changes) => pair(levelsOf(state.portrait.values, state.table), state.portrait.values, changes, state.table);

async function texts(source, target) {
  if (!source || !target || source === target) {
    return fail("refusal", "Two texts are needed that differ: what the picture shows, and what it should show.");
  }
  fail("refusal", "");
  byId("wish").value = "";
  await makeEdit({ wish: "", changes: null, source, target }, 1);
}

function reset() {
  Object.assign(state, { edit: null, degree: 1 });
  byId("wish").value = "";
  fail("refusal", "");
  remember();
  showSubject();
  showAll();
}

async function makeEdit(asked, degree) {
  const { portrait } = state;
  const made = await attempt("editing", async (current) => {
    const { plan, reconstruction, mask } = await engine.plan({ pixels: portrait.pixels, source: asked.source, target: asked.target, seed: SEED });
    const zero = { degree: 0, pixels: reconstruction, canvas: toCanvas(reconstruction), ...(await readValues(reconstruction)) };
    const edit = { ...asked, values: portrait.values, plan, mask, nodes: [zero] };
    if (current()) await compute(edit, degree);
    return edit;
  });
  if (!made) return;
  Object.assign(state, { edit: made, degree });
  suggestAttribute(Object.keys(made.changes ?? { smile: 0 })[0]);
  remember();
  deed("edited");
  announce(`Edit ready. ${byId("verdict").textContent}`);
  showAll();
  announce(`Edit ready. ${byId("verdict").textContent}`);
}

const readValues = async (pixels) => ({ values: (await engine.read({ pixels })).values });

/** Compute an edit at a degree and keep it as a node. */
async function compute(edit, degree, tell = onStep("editing")) {
  const { inside, ...made } = await engine.edit({ plan: edit.plan, degree }, tell);
  edit.nodes = withNode(edit.nodes, { ...made, degree, canvas: toCanvas(made.pixels) });
  return inside && Object.assign(edit, { inside, insideDegree: degree });
}

/** Between two requests: the next node of the slider. */
function meanwhile() {
  const { edit } = state;
  if (!edit?.plan) return null;
  const degree = nextDegree(edit.nodes, state.recipe.degrees.nodes);
  if (degree === undefined) return null;
  return async () => {
    const { inside, insideDegree } = edit;
    await compute(edit, degree, () => {});
    Object.assign(edit, { inside, insideDegree }); // looking inside stays with what was asked for
    if (state.edit === edit) showStage();
  };
}

function moved() {
  showMeasuresSoon();
  if (state.degree <= 0.5) deed("dragged");
}

let frame = 0;
function showMeasuresSoon() {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(showMeasures);
}

/** The degree rests: make the true edit there. */
async function settle() {
  const { edit, degree } = state;
  remember();
  if (!edit?.plan || nearest(edit.nodes, degree).degree === degree) return;
  await attempt("editing", () => compute(edit, degree));
  if (state.edit === edit) announce(`Degree ${degree.toFixed(2)} computed. ${byId("verdict").textContent}`);
}

/** The model's guess of the picture at a step of a run. */
async function guess(inside, step) {
  inside.pictures ??= [];
  if (!inside.pictures[step]) {
    const size = inside.clean.length / inside.sigmas.length;
    const pixels = await desk.now(() => engine.decode({ latents: inside.clean.slice(step * size, (step + 1) * size) })).catch(() => null);
    if (pixels) inside.pictures[step] = toCanvas(pixels);
  }
  return inside.pictures[step];
}

function save() {
  const { edit, degree } = state;
  const node = nearest(edit.nodes, degree);
  download(node.canvas, `portrait-degree-${node.degree}.png`);
}

// --- what the page shows -------------------------------------------------------------------------------

function showAll() {
  showPortrait();
  showEdit();
  if (state.ready) showInside();
  if (state.tab === "inside") showReadable();
  showStage();
}

/** Keep what is shown in the address, so that a reload or a copied link brings it back. */
function remember() {
  const { portrait, edit, degree } = state;
  if (!state.ready || !portrait) return;
  history.replaceState(null, "", portrait.own ? location.pathname + location.search : toLink(portrait, edit, degree));
}

/** Show a sentence in a place for them, or take it away. */
function fail(where, text) {
  const place = byId(where === "start" ? "load-error" : where);
  place.textContent = text;
  place.hidden = !text;
}

function openTabs() {
  const tabs = TABS.map((name) => byId(`tab-${name}`));
  TABS.forEach((name, k) => {
    tabs[k].addEventListener("click", () => goTo(name));
    tabs[k].addEventListener("keydown", (event) => {
      const to = { ArrowRight: k + 1, ArrowLeft: k - 1, Home: 0, End: TABS.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      goTo(TABS[(to + TABS.length) % TABS.length]);
      byId(`tab-${state.tab}`).focus();
    });
  });
}

function goTo(name) {
  state.tab = name;
  for (const tab of TABS) {
    byId(tab).hidden = tab !== name;
    byId(`tab-${tab}`).setAttribute("aria-selected", String(tab === name));
    byId(`tab-${tab}`).tabIndex = tab === name ? 0 : -1;
  }
  if (state.ready && name === "inside") {
    showInside();
    showReadable();
    if (insideNow()) glance(state.look.step);
  } else showStage();
}

function openTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = byId("theme");
  const show = () => {
    const isDark = (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
    button.textContent = isDark ? "Light" : "Dark";
    return isDark;
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = show() ? "light" : "dark";
    show();
  });
  dark.addEventListener("change", show);
  show();
}

function openKeys() {
  const keys = byId("keys");
  byId("keys-open").addEventListener("click", () => keys.showModal());
  byId("keys-close").addEventListener("click", () => keys.close());
  document.addEventListener("keydown", (event) => {
    const isTyping = /** @type {HTMLElement} */ (event.target).matches("input, textarea, select");
    if (event.key === "?" && !isTyping && !keys.open) keys.showModal();
  });
}

open().catch((error) => fail("start", `The page could not be opened: ${error.message}. Reload it to try again.`));
