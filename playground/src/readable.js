// Readable or used? Live attention beside two maps that were measured before: data/maps.json.

import { byId, choose, heatGrid, make, on } from "./dom.js";
import { everywhere, GRID, mean, percent, placeOf, rowsOf, toRows } from "./gaze.js";
import { insideNow } from "./inside.js";
import { bare } from "./measures.js";
import { draw } from "./picture.js";
import { deed, state } from "./state.js";

let maps = null;
let by = "patch";

/** @param {object} measured what data/maps.json holds */
export function openReadable(measured) {
  maps = measured;
  const { attributes } = state.table;
  const options = Object.keys(maps.maps).map((name) => make("option", { value: name, text: bare(attributes[name].spoken) }));
  byId("map-attribute").append(...options);
  byId("maps-how").textContent = maps.how;
  byId("readable").hidden = false;
  on("map-attribute", "change", () => {
    deed("attribute");
    showReadable();
  });
  on("map-by", "change", (event) => {
    by = event.target.value;
    showReadable();
  });
  choose("map-by", by);
}

/** Show the three maps of an attribute. */
export function showReadable(name = byId("map-attribute").value) {
  if (!maps || !name) return;
  byId("map-attribute").value = name;
  const { readable, used } = maps.maps[name];
  byId("maps").className = `maps maps-by-${by}`;
  const made = by === "patch" ? [lookedAt(name), readPatches(readable), usedPatches(used)]
    : [lookedAt(name), readBlocks(readable), usedBlocks(used)];
  [...byId("maps").children].forEach((figure, k) => showMap(figure, made[k]));
}

/**
 * @param {Element} figure
 * @param {{found: string, values?: number[], rows: number, columns: number, name: (cell: number) => string,
 *   low: number, high: number, said?: (value: number) => string}} map found: what is to be said of it
 */
function showMap(figure, map) {
  const [frame, peek] = [figure.querySelector(".map-frame"), figure.querySelector(".peek")];
  figure.querySelector(".found").textContent = map.found;
  frame.replaceChildren();
  if (!map.values) return;
  const said = map.said ?? ((value) => value.toFixed(2).replace("-", "−"));
  const names = map.values.map((value, k) => `${map.name(k)}: ${value === null ? "not known" : said(value)}`);
  const grid = make("div", { class: `heat ${by === "patch" ? "image-heat" : "text-heat"}` });
  const label = figure.querySelector("figcaption").textContent;
  const onLook = (k) => (peek.textContent = k === null ? "" : names[k]);
  const show = heatGrid(grid, { ...map, label, onLook });
  show(map.values.map((value) => (value - map.low) / (map.high - map.low || 1)), names);
  if (by === "patch") {
    const face = make("canvas", { width: 128, height: 128, "aria-hidden": "true" });
    draw(face, state.portrait.canvas);
    frame.append(face);
  }
  frame.append(grid);
}

const patchwise = (values, low, high) => ({ values, rows: GRID, columns: GRID, name: placeOf, low, high });
const most = (values, said = (value) => value.toFixed(2)) => {
  const best = values.indexOf(Math.max(...values));
  return `Most: ${said(values[best])}, ${placeOf(best)}.`;
};

function lookedAt(name) {
  const inside = insideNow();
  if (!inside) return { found: "Needs a picture that the model has drawn." };
  const rows = rowsOf(inside.words, name, state.table);
  if (!rows.length) return { found: "This text says nothing about it." };
  const words = inside.words.filter(({ row }) => rows.includes(row)).map(({ text }) => text).join(" ");
  const steps = inside.sigmas.length;
  if (by === "patch") {
    const each = inside.sigmas.map((_, step) => toRows(inside, rows, step, null));
    const values = each[0].map((_, patch) => mean(each.map((shares) => shares[patch])));
    const found = `“${words}”. ${most(values, percent)}`;
    return { ...patchwise(values, 0, Math.max(...values)), said: percent, found };
  }
  const values = everywhere(inside, (step, block) => mean(toRows(inside, rows, step, block)));
  const cell = (k) => `block ${Math.floor(k / steps) + 1}, step ${(k % steps) + 1}`;
  return { values, rows: inside.blocks, columns: steps, name: cell, low: 0, high: Math.max(...values), said: percent,
           found: `“${words}”. Most: ${percent(Math.max(...values))}.` };
}

const readPatches = ({ patches, measure, guessing, control }) => ({
  ...patchwise(patches, guessing, 1),
  found: `${most(patches)} Control, shuffled labels: ${control.toFixed(2)} at most (${measure}).`,
});

function readBlocks({ blocks, steps, measure, guessing }) {
  const place = (row) => (row ? `after block ${row + 1}` : "before block 1");
  const columns = steps.length;
  const name = (k) => `${place(Math.floor(k / columns))}, step ${steps[k % columns] + 1} of ${maps.sampling_steps.readable}`;
  const control = Math.max(...blocks[0]).toFixed(2);
  return { values: blocks.flat(), rows: blocks.length, columns, name, low: guessing, high: 1,
           found: `Control, the top row: what the noisy latents show before any block, ${control} at most (${measure}).` };
}

const usedPatches = ({ patches, patches_control: control }) => (patches
  ? { ...patchwise(patches, 0, 1), found: `${most(patches)} Control, a run about other things or noise: ${control.toFixed(2)}.` }
  : { found: "Not measured: one patch alone makes no other category. Look by block and step." });

function usedBlocks({ blocks, steps, control }) {
  const [columns, all] = [steps.length, maps.sampling_steps.used];
  return { values: blocks.flat(), rows: blocks.length, columns, low: 0, high: 1,
           name: (k) => `from block ${Math.floor(k / columns) + 1} on, first ${steps[k % columns]} of ${all} steps`,
           found: `Control, a text about other things or noise: ${control.toFixed(2)} at most.` };
}
