// The second tab: a wish, both texts, and what was measured.

import { byId, copy, make } from "./dom.js";
import { nearest } from "./degrees.js";
import { toPython } from "./link.js";
import { bare, changeRows, listed } from "./measures.js";
import { state } from "./state.js";
import { changedWords, drift, hidden, levelOf, readWish, spokenLevel } from "./words.js";

const WISHES = [
  "a big smile", "give them a crown", "make them frown", "dye the hair pink", "make them old", "a long beard",
  "take off the hat", "put on sunglasses", "take off the glasses", "shave the beard", "look to the right",
  "a purple shirt", "make them young",
];
const IDEAS = 5;
const PATIENCE = 600; // milliseconds after which the levels that were chosen are carried out
const GROUPS = {
  Expression: ["smile", "mouth_open", "eye_open", "brow_tilt", "gaze", "head_tilt"],
  Face: ["face_width", "skin_tone", "age", "beard"],
  Hair: ["hair_length", "hair_color", "hair_style"],
  Things: ["glasses", "hat", "earrings", "shirt", "background"],
};

/**
 * @param {{wish: (text: string) => void, change: (changes: Record<string, number>) => void,
 *   texts: (source: string, target: string) => void, reset: () => void, save: () => void}} actions
 */
export function openEdit({ wish, change, texts, reset, save }) {
  const onSubmit = (id, act) => byId(id).addEventListener("submit", (event) => {
    event.preventDefault();
    act();
  });
  onSubmit("wish-form", () => byId("wish").value.trim() && wish(byId("wish").value.trim()));
  onSubmit("texts-form", () => texts(byId("source").value.trim(), byId("target").value.trim()));
  let waiting = 0;
  byId("levels").addEventListener("change", () => {
    markLevels();
    clearTimeout(waiting);
    waiting = setTimeout(() => change(chosenLevels()), PATIENCE);
  });
  byId("reset").addEventListener("click", () => {
    clearTimeout(waiting);
    reset();
  });
  byId("save").addEventListener("click", save);
  byId("link").addEventListener("click", () => copy(location.href, byId("link")));
  byId("python-copy").addEventListener("click", () => copy(byId("python").textContent, byId("python-copy")));
  byId("ideas").addEventListener("click", (event) => {
    const idea = event.target.closest("button");
    if (!idea) return;
    byId("wish").value = idea.textContent;
    wish(idea.textContent);
  });
}

const measuredLevel = (name) => levelOf(name, state.portrait.values[name], state.table);
const selects = () => [...byId("levels").querySelectorAll("select")];

/** The levels that are not those measured. @returns {Record<string, number>} */
function chosenLevels() {
  const changed = selects().filter((select) => Number(select.value) !== measuredLevel(select.name));
  return Object.fromEntries(changed.map((select) => [select.name, Number(select.value)]));
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
  byId("levels").replaceChildren(...Object.entries(GROUPS).map(([group, names]) => make(
    "fieldset", {}, make("legend", { text: group }),
    ...names.map((name) => levelControl(name, unseen.has(name))),
  )));
  const fits = WISHES.filter((wish) => {
    const { changes } = readWish(wish, portrait.values, table);
    return changes && Object.keys(changes).length && !Object.keys(changes).some((name) => unseen.has(name));
  });
  byId("ideas").replaceChildren(...fits.slice(0, IDEAS).map((text) => make("button", { type: "button", text })));
}

function levelControl(name, unseen) {
  const [spec, measured] = [state.table.attributes[name], measuredLevel(name)];
  const options = spec.levels.map((_, level) => make("option", {
    value: level, selected: level === measured, text: spokenLevel(name, level, state.table),
  }));
  const said = bare(spec.spoken) + (unseen ? " (cannot be seen)" : "");
  return make("label", {}, make("span", { text: said }), make("select", { name }, ...options));
}

/** Show the edit, or that there is none. */
export function showEdit() {
  const { edit, portrait } = state;
  byId("result").hidden = !edit;
  if (!edit) return;
  showWords(byId("source-words"), byId("target-words"), changedWords(edit.source, edit.target));
  byId("source").value = edit.source;
  byId("target").value = edit.target;
  for (const select of selects()) select.value = String(edit.changes?.[select.name] ?? measuredLevel(select.name));
  if (selects().length) markLevels();
  byId("link").disabled = portrait.own || !edit.plan;
  byId("link").title = portrait.own ? "Your picture stays on this device: a link cannot hold it" : "";
  showMeasures();
}

function showWords(before, after, { source, target }) {
  const marked = (words, tag) => words.flatMap(({ text, changed }) => (changed ? [" ", make(tag, { text: text.trim() })] : text));
  before.replaceChildren(...marked(source, "del"));
  after.replaceChildren(...marked(target, "ins"));
}

/** Show what was measured at the computed picture that is nearest to the degree. */
export function showMeasures() {
  const { edit, table } = state;
  if (!edit) return;
  const node = nearest(edit.nodes, state.degree);
  const { shown, stayed } = changeRows(edit.values, node.values, edit.changes, table);
  byId("measures-of").textContent = `at degree ${node.degree.toFixed(2)}; ${stayed} more attributes stayed`;
  byId("measures").replaceChildren(...shown.map((row) => measureRow(row, table.attributes[row.name])));
  showVerdict(shown, node);
  byId("python").textContent = toPython(state.portrait, edit, node.degree);
}

function measureRow(row, spec) {
  const [before, after] = row.words;
  const words = make("td", { text: before === after ? after : `${before} → ${after}` });
  const note = row.unseen ? "cannot be seen" : !row.asked ? "not asked for" : row.reached ? "✓ reached" : `not ${row.wanted} yet`;
  words.append(make("span", { class: `note ${row.asked ? (row.reached ? "good" : "open") : "stray"}`, text: note }));
  const track = make("td", { class: "track-cell" });
  if (spec.kind === "continuous") track.append(bar(row.places, row.asked));
  return make("tr", { class: row.asked ? "asked" : "stray" }, make("th", { scope: "row", text: row.spoken }), track, words,
    make("td", { class: "number", text: `${Math.round(100 * row.moved)} %` }));
}

function bar([before, after]) {
  const track = make("div", { class: "track", role: "img", "aria-label": `from ${before.toFixed(2)} to ${after.toFixed(2)}` });
  const way = make("u");
  way.style.left = `${100 * Math.min(before, after)}%`;
  way.style.width = `${100 * Math.abs(after - before)}%`;
  const [from, to] = [make("i"), make("b")];
  from.style.left = `${100 * before}%`;
  to.style.left = `${100 * after}%`;
  track.append(way, from, to);
  return track;
}

function showVerdict(rows, node) {
  const { edit, table } = state;
  const asked = rows.filter((row) => row.asked);
  const done = asked.filter((row) => row.reached);
  const missing = asked.filter((row) => !row.reached).map((row) => row.wanted);
  byId("verdict").textContent = !edit.changes ? "Your own texts: nothing counts as asked for."
    : missing.length ? `${done.length} of ${asked.length} reached; not yet: ${listed(missing)}.`
    : `Reached: ${listed(done.map((row) => row.wanted))}.`;
  byId("verdict").className = missing.length ? "open" : "good";
  const moved = drift(edit.values, node.values, Object.keys(edit.changes ?? {}), table);
  byId("drift").textContent = `Drift ${moved.toFixed(3)}: everything ${edit.changes ? "that was not asked for" : ""} moved by ` +
    `${(100 * moved).toFixed(1)} % of its range in the mean. 0 is nothing.`;
}
