// Readable or used? Live attention beside two maps that were measured before: data/maps.json.

import { byId, heatGrid, make, segments } from "./dom.js";
import { gaze, GRID, PATCHES, percent, placeOf, rowsOf } from "./gaze.js";
import { insideNow } from "./inside.js";
import { bare } from "./measures.js";
import { draw } from "./picture.js";
import { deed, state } from "./state.js";

let maps = null;
let chosen = { name: "smile", by: "patch" };

/** Build the section. @param {object} measured what data/maps.json holds */
export function openReadable(measured) {
  maps = measured;
  const select = make("select", { id: "map-attribute", change: () => {
    chosen.name = select.value;
    deed("attribute");
    showReadable();
  } });
  for (const [name, spec] of Object.entries(state.table.attributes)) {
    if (maps.maps[name]) select.append(make("option", { value: name, text: bare(spec.spoken), selected: name === chosen.name }));
  }
  const by = make("fieldset", { id: "map-by", class: "segments" }, make("legend", { class: "unseen", text: "Maps by" }));
  const pick = segments(by, [["patch", "by patch"], ["block", "by block and step"]], (value) => {
    chosen.by = value;
    showReadable();
  });
  pick(chosen.by);
  byId("readable").replaceChildren(
    make("div", { class: "row" }, make("label", { class: "inline", for: "map-attribute", text: "Attribute" }), select, by),
    make("div", { class: "maps", id: "maps" }),
    make("p", { class: "soft small", text: "None of the three implies another. What can be read somewhere need not be used there; " +
      "what is looked at need not decide anything." }),
    make("p", { class: "soft small", text: `How the two measured maps were made: ${maps.how}. Python counts blocks and steps from 0.` }),
  );
  showReadable();
}

/** Choose the attribute that an edit changes first. */
export function suggestAttribute(name) {
  chosen.name = name;
  if (maps) byId("map-attribute").value = name;
}

/** Show the three maps of the attribute. */
export function showReadable() {
  if (!maps) return;
  const spec = state.table.attributes[chosen.name];
  const { readable, used } = maps.maps[chosen.name];
  const cards = chosen.by === "patch"
    ? [lookedAt(spec, patchesLookAt), readPatches(spec, readable), usedPatches(spec, used)]
    : [lookedAt(spec, blocksLookAt), readBlocks(readable), usedBlocks(spec, used)];
  const titles = ["Looked at, in this picture", "Readable", "Used"];
  byId("maps").replaceChildren(...cards.map((card, k) => mapCard(titles[k], card)));
}

/** A map with its title and sentence. */
function mapCard(title, { values, rows, columns, names, scale, says, isImage }) {
  const card = make("figure", { class: isImage ? "map image-map" : "map" }, make("figcaption", {}, make("strong", { text: title })));
  if (values) {
    const face = isImage ? make("canvas", { width: 128, height: 128, "aria-hidden": "true" }) : "";
    if (isImage && state.portrait) draw(face, state.portrait.canvas);
    const grid = make("div", { class: `heat ${isImage ? "image-heat" : "text-heat"}` });
    const peek = make("p", { class: "peek soft small" });
    const named = values.map((value, k) => `${names(k)}: ${scale.say(value)}`);
    const show = heatGrid(grid, { rows, columns, label: title, onPick: () => {}, onLook: (k) => (peek.textContent = k === null ? "" : named[k]) });
    show(values.map((value) => (value - scale.low) / (scale.high - scale.low || 1)), named);
    card.append(make("div", { class: "map-frame" }, face, grid), peek);
  }
  card.append(make("p", { class: "small", text: says }));
  return card;
}

const unit = { low: 0, high: 1, say: (value) => (value === null ? "not known" : value.toFixed(2).replace("-", "−")) };
const most = (values) => values.indexOf(Math.max(...values));

function lookedAt(spec, see) {
  const inside = insideNow();
  if (!inside) return { says: "Needs a picture that the model has drawn." };
  const rows = rowsOf(aboutHair(inside.words), spec.levels.flatMap(({ phrases, bare }) => [...phrases, ...bare]));
  if (!rows.length) return { says: `The text says nothing about ${spec.spoken}.` };
  const words = inside.words.filter(({ row }) => rows.includes(row)).map(({ text }) => text).join(" ");
  return see(inside, rows, words);
}

/** The words in which a text may speak of the chosen attribute: "red" of hair stands before "hair". */
function aboutHair(words) {
  if (!state.table.hair.includes(chosen.name)) return words;
  const at = words.findIndex(({ text }) => text === "hair");
  return words.slice(Math.max(0, at - 4), Math.max(0, at));
}

/** The share of attention that goes to some rows of the text, for each patch. */
function toRows(inside, rows, step, block) {
  const found = new Float32Array(PATCHES);
  for (const row of rows) {
    const shares = gaze(inside, { row: PATCHES + row, way: "from" }, step, block);
    found.forEach((_, k) => (found[k] += shares[k]));
  }
  return [...found];
}

function patchesLookAt(inside, rows, words) {
  const each = inside.sigmas.map((_, step) => toRows(inside, rows, step, null));
  const values = each[0].map((_, k) => each.reduce((sum, step) => sum + step[k], 0) / each.length);
  const best = most(values);
  return { values, rows: GRID, columns: GRID, names: placeOf, isImage: true, scale: { low: 0, high: values[best], say: percent },
    says: `How much of its attention each patch gives to “${words}”, mean over blocks and steps. Most: ${percent(values[best])}, ${placeOf(best)}.` };
}

function blocksLookAt(inside, rows, words) {
  const steps = inside.sigmas.length;
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const values = Array.from({ length: inside.blocks * steps }, (_, k) => mean(toRows(inside, rows, k % steps, Math.floor(k / steps))));
  return { values, rows: inside.blocks, columns: steps, names: (k) => `block ${Math.floor(k / steps) + 1}, step ${(k % steps) + 1}`,
    scale: { low: 0, high: Math.max(...values), say: percent },
    says: `How much of their attention the patches give to “${words}”, in the mean. Down: blocks; right: steps.` };
}

function readPatches(spec, { patches, measure, guessing, control }) {
  const best = most(patches);
  return { values: patches, rows: GRID, columns: GRID, names: placeOf, isImage: true, scale: { ...unit, low: guessing },
    says: `How well a linear probe reads ${spec.spoken} of the finished portrait from one patch after block 5 (${measure}, 1 is ` +
      `perfect). Best: ${unit.say(patches[best])}, ${placeOf(best)}. Control, shuffled labels: ${unit.say(control)} at most.` };
}

function readBlocks({ blocks, steps, measure, guessing }) {
  const values = blocks.flat();
  const columns = steps.length;
  const row = (k) => (k < columns ? "before block 1" : `after block ${Math.floor(k / columns) + 1}`);
  return { values, rows: blocks.length, columns, names: (k) => `${row(k)}, step ${steps[k % columns] + 1} of ${maps.sampling_steps.readable}`,
    scale: { ...unit, low: guessing },
    says: `The best patch’s score (${measure}) after each block, early, midway and late. Control, the top row: what the noisy ` +
      `latents show before any block, ${unit.say(Math.max(...blocks[0]))} at most.` };
}

function usedPatches(spec, { patches, patches_control }) {
  if (!patches) return { says: `One patch alone makes no other ${spec.spoken}: this was not measured. Look by block and step.` };
  const best = most(patches);
  return { values: patches, rows: GRID, columns: GRID, names: placeOf, isImage: true, scale: unit,
    says: `How much of another prompt’s ${spec.spoken} comes along when this patch alone is put in from its run, into block 6 (1 is ` +
      `all). Most: ${unit.say(patches[best])}, ${placeOf(best)}. Control, a run about other things or noise: ${unit.say(patches_control)}.` };
}

function usedBlocks(spec, { blocks, steps, control }) {
  const columns = steps.length;
  return { values: blocks.flat(), rows: blocks.length, columns, scale: unit,
    names: (k) => `from block ${Math.floor(k / columns) + 1} on, first ${steps[k % columns]} of ${maps.sampling_steps.used} steps`,
    says: `How much of another prompt’s ${spec.spoken} comes along when its text is put in from this block on, for the first steps, half ` +
      `of them, and so on. Control, a text about other things or noise: ${unit.say(control)} at most.` };
}
