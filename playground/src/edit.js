// The second tab: a wish, both texts, and what was measured.

import { nearest } from "./degrees.js";
import { byId, copy, make, on, onSubmit } from "./dom.js";
import { toPython } from "./link.js";
import { bare, changeRows, listed } from "./measures.js";
import { download } from "./picture.js";
import { state } from "./state.js";
import { caption, changedWords, drift, hidden, levelOf, levelsOf, readWish, spokenLevel } from "./words.js";

const IDEAS = 5; // of those that fit
const HARDLY = 0.05; // share of a range that is hardly seen
const PATIENCE = 600; // milliseconds after which the levels that were chosen are carried out

/** @param {{reset: () => void, ask: (asked: object) => void}} actions ask for a wish, changes, or source and target */
export function openEdit({ ask, reset }) {
  const typed = (id) => byId(id).value.trim();
  onSubmit("wish-form", () => typed("wish") && ask({ wish: typed("wish") }));
  onSubmit("texts-form", () => ask({ source: typed("source"), target: typed("target") }));
  let waiting = 0;
  on("levels", "change", () => {
    markLevels();
    clearTimeout(waiting);
    waiting = setTimeout(() => ask({ changes: chosenLevels() }), PATIENCE);
  });
  on("reset", "click", () => {
    clearTimeout(waiting);
    reset();
  });
  on("again", "click", reset);
  on("save", "click", () => {
    const { canvas, degree } = nearest(state.edit.nodes, state.degree);
    download(canvas, `portrait-degree-${degree}.png`);
  });
  on("ideas", "click", ({ target }) => target.matches("button") && ask({ wish: target.textContent }));
  on("link", "click", (event) => copy(location.href, event.target));
  on("python-copy", "click", (event) => copy(byId("python").textContent, event.target));
}

const selects = () => [...byId("levels").querySelectorAll("select")];
const measuredLevel = (name) => levelOf(name, state.portrait.values[name], state.table);

/** The levels that are not those measured. @returns {Record<string, number>} */
function chosenLevels() {
  const chosen = selects().map(({ name, value }) => [name, Number(value)]);
  return Object.fromEntries(chosen.filter(([name, level]) => level !== measuredLevel(name)));
}

function markLevels() {
  const changed = chosenLevels();
  for (const select of selects()) select.closest("label").classList.toggle("changed", select.name in changed);
  byId("reset").hidden = !Object.keys(changed).length;
}

/** The controls of a new portrait: its levels, and wishes that fit it. */
export function showSubject() {
  const { portrait, table } = state;
  const unseen = hidden(portrait.values, table);
  const control = (name) => {
    const options = table.attributes[name].levels.map((_, level) => (
      make("option", { value: level, selected: level === measuredLevel(name), text: spokenLevel(name, level, table) })));
    const text = bare(table.attributes[name].spoken) + (unseen.has(name) ? " (cannot be seen)" : "");
    return make("label", {}, make("span", { text }), make("select", { name }, ...options));
  };
  for (const group of byId("levels").children) {
    group.replaceChildren(group.firstElementChild, ...group.dataset.names.split(" ").map(control));
  }
  const ideas = [...byId("ideas").children];
  const fits = ideas.filter((idea) => {
    const names = Object.keys(readWish(idea.textContent, portrait.values, table).changes ?? {});
    return names.length && !names.some((name) => unseen.has(name));
  });
  for (const idea of ideas) idea.hidden = !fits.slice(0, IDEAS).includes(idea);
}

/** Show the edit, or that there is none. */
export function showEdit() {
  const { edit, portrait } = state;
  byId("result").hidden = !edit;
  for (const id of ["source", "target"]) byId(id).value = edit?.[id] ?? caption(levelsOf(portrait.values, state.table), state.table);
  if (!edit) return;
  const { source, target } = changedWords(edit.source, edit.target);
  const marked = (words, tag) => words.flatMap(({ text, changed }) => (
    changed ? [" ", make(tag, { text: text.trim() })] : [text]));
  byId("source-words").replaceChildren(...marked(source, "del"));
  byId("target-words").replaceChildren(...marked(target, "ins"));
  for (const select of selects()) select.value = String(edit.changes?.[select.name] ?? measuredLevel(select.name));
  markLevels();
  byId("link").disabled = portrait.own || !edit.plan;
  byId("link").title = portrait.own ? "Your picture stays on this device: a link cannot hold it" : "";
  showMeasures();
}

/** Show what was measured at the computed picture that is nearest to the degree. */
export function showMeasures() {
  const { edit, table, portrait } = state;
  if (!edit) return;
  const node = nearest(edit.nodes, state.degree);
  const { shown, stayed } = changeRows(edit.values, node.values, edit.changes, table);
  byId("measures-of").textContent = `at degree ${node.degree.toFixed(2)}; ${stayed} more attributes stayed`;
  byId("measures").replaceChildren(...shown.map(measureRow));
  byId("python").textContent = toPython(portrait, edit, node.degree);
  const asked = shown.filter((row) => row.asked);
  const missing = asked.filter((row) => !row.reached).map((row) => row.wanted);
  const { degree } = node;
  byId("verdict").className = degree <= 0 || !edit.changes ? "" : missing.length ? "open" : "good";
  byId("verdict").textContent = !edit.changes ? "Your own texts: what the second leaves out is free to change."
    : degree === 0 ? "Degree 0: nothing has changed." : degree < 0 ? "Below 0, the edit goes the other way."
    : missing.length ? `${asked.length - missing.length} of ${asked.length} reached; not yet: ${listed(missing)}.`
    : `Reached: ${listed(asked.map((row) => row.wanted))}.`;
  const moved = drift(edit.values, node.values, edit.changes ?? {}, table);
  const what = edit.changes ? "everything that was not asked for" : "everything";
  byId("drift").textContent = `Drift ${moved.toFixed(3)}: ${what} moved by ` +
    `${(100 * moved).toFixed(1)} % of its range in the mean. 0 is nothing.`;
}

function measureRow({ spoken, asked, reached, wanted, words, places, moved, unseen }) {
  const [before, after] = words;
  const [kind, note] = asked ? (reached ? ["good", "✓ reached"] : ["open", `not ${wanted} yet`]) : ["stray", moved < HARDLY ? "" : "not asked for"];
  return make("tr", { class: asked ? "asked" : "stray" },
    make("th", { scope: "row", text: spoken }),
    make("td", { class: "track-cell" }, ...(places ? [track(places)] : [])),
    make("td", { text: before === after ? after : `${before} → ${after}` },
      make("span", { class: `note ${kind}`, text: unseen ? "cannot be seen" : note })),
    make("td", { class: "number", text: `${Math.round(100 * moved)} %` }));
}

/** A bar from where an attribute was in its range to where it is. */
function track(places) {
  const [from, to] = places.map((place) => 100 * place);
  const way = { left: `${Math.min(from, to)}%`, width: `${Math.abs(to - from)}%` };
  const parts = { u: way, i: { left: `${from}%` }, b: { left: `${to}%` } };
  const name = `from ${from.toFixed(0)} to ${to.toFixed(0)} % of its range`;
  return make("div", { class: "track", role: "img", "aria-label": name }, ...Object.entries(parts).map(([tag, style]) => {
    const element = make(tag);
    Object.assign(element.style, style);
    return element;
  }));
}
