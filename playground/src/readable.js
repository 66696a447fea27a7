// Readable or used? Live attention beside two maps that were measured before: data/maps.json.

import { byId, heatGrid, make, on } from "./dom.js";
import { cellName, everywhere, GRID, mean, percent, placeOf, rowsOf, toRows } from "./gaze.js";
import { insideNow } from "./inside.js";
import { bare } from "./measures.js";
import { draw } from "./picture.js";
import { deed, state } from "./state.js";

let maps = null;
let by = "patch";

/** @param {{how: string, maps: object}} measured what data/maps.json holds */
export function openReadable(measured) {
  maps = measured.maps;
  const { attributes } = state.table;
  const names = Object.keys(maps);
  byId("map-attribute").append(...names.map((name) => make("option", { value: name, text: bare(attributes[name].spoken) })));
  byId("maps-how").textContent = measured.how;
  byId("readable").hidden = false;
  on("map-attribute", "change", () => deed("attribute"));
  on("readable", "change", () => {
    by = byId("map-by").querySelector(":checked").value;
    showReadable();
  });
  showReadable();
}

/** Show the three maps of an attribute. */
export function showReadable(name = byId("map-attribute").value) {
  if (!maps) return;
  byId("map-attribute").value = name;
  byId("maps").className = `maps maps-by-${by}`;
  const { readable, used } = maps[name];
  const alone = { found: "Not measured: one patch alone makes no other category. Look by block and step." };
  const made = [lookedAt(name), measured(readable[by]), used[by] ? measured(used[by]) : alone];
  [...byId("maps").children].forEach((figure, k) => showMap(figure, made[k]));
}

/**
 * @param {Element} figure
 * @param {{found: string, values?: number[], columns?: number, name?: (cell: number) => string, low?: number,
 *   high?: number, said?: (value: number) => string}} map found: what is to be said of it
 */
function showMap(figure, { found, values, columns, name, low, high, said }) {
  const frame = figure.querySelector(".map-frame");
  figure.querySelector(".found").textContent = found;
  frame.replaceChildren();
  if (!values) return;
  const names = values.map((value, k) => `${name(k)}: ${value === null ? "not known" : said(value)}`);
  const grid = make("div", { class: `heat ${by === "patch" ? "image-heat" : "text-heat"}` });
  const label = figure.querySelector("figcaption").textContent;
  const show = heatGrid(grid, { rows: values.length / columns, columns, label });
  show(values.map((value) => (value - low) / (high - low || 1)), names);
  if (by === "patch") {
    const face = make("canvas", { width: 128, height: 128, "aria-hidden": "true" });
    draw(face, state.portrait.canvas);
    frame.append(face);
  }
  frame.append(grid);
}

const number = (value) => value.toFixed(2).replace("-", "−");

/** A map that was measured before. */
function measured({ values, low, control, rows = null, columns = [] }) {
  const best = values.indexOf(Math.max(...values));
  const name = (k) => (rows ? `${rows[Math.floor(k / columns.length)]}, ${columns[k % columns.length]}` : placeOf(k));
  const found = `Most: ${number(values[best])}, ${name(best)}. Control: ${control}`;
  return { values, columns: rows ? columns.length : GRID, name, low, high: 1, said: number, found };
}

/** What looks at the words with which the text speaks of an attribute, in the run that is looked into. */
function lookedAt(attribute) {
  const inside = insideNow();
  if (!inside) return { found: "Needs a picture that the model has drawn." };
  const rows = rowsOf(inside.words, attribute, state.table);
  if (!rows.length) return { found: "This text says nothing about it." };
  const steps = inside.sigmas.length;
  const each = everywhere(inside, (step, block) => toRows(inside, rows, step, block));
  const values = by === "block" ? each.map(mean) : each[0].map((_, patch) => mean(each.map((shares) => shares[patch])));
  const name = by === "block" ? (k) => cellName(k, steps) : placeOf;
  const high = Math.max(...values);
  const words = inside.words.filter(({ row }) => rows.includes(row)).map(({ text }) => text).join(" ");
  const found = `The words: “${words}”. Most: ${percent(high)}, ${name(values.indexOf(high))}.`;
  return { values, columns: by === "block" ? steps : GRID, name, low: 0, high, said: percent, found };
}
