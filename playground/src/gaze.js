// Attention, read from a word or a patch: where it looks, and what looks at it.
//
// Rows 0 to 63 are the picture's patches, rows 64 to 127 the positions of the text.

export const PATCHES = 64;
export const GRID = 8;

/**
 * @typedef {{sigmas: number[], blocks: number, rows: number, words: {text: string, row: number}[],
 *   attention: Float32Array, clean: Float32Array}} Inside
 * @typedef {{row: number, way: string}} Focus way: "to" where the row looks, "from" what looks at it
 */

const sum = (values) => values.reduce((a, b) => a + b, 0);
export const mean = (values) => sum(values) / values.length;

/**
 * The shares of attention that go from a row to all rows, or from all rows to it, one for each row.
 * @param {Inside} inside @param {Focus} focus @param {number} step
 * @param {number | null} block none: the mean over blocks
 */
export function gaze({ attention, blocks, rows }, { row, way }, step, block) {
  const found = new Float32Array(rows);
  const chosen = block === null ? Array.from({ length: blocks }, (_, k) => k) : [block];
  for (const each of chosen) {
    const start = (step * blocks + each) * rows * rows;
    const [first, stride] = way === "to" ? [start + row * rows, 1] : [start + row, rows];
    for (let k = 0; k < rows; k++) found[k] += attention[first + k * stride] / chosen.length;
  }
  return found;
}

/** How much of its attention each patch gives to some positions of the text together. @returns {number[]} */
export function toRows(inside, positions, step, block) {
  const all = positions.map((at) => gaze(inside, { row: PATCHES + at, way: "from" }, step, block));
  return Array.from({ length: PATCHES }, (_, patch) => sum(all.map((shares) => shares[patch])));
}

/** What is between the two kinds of rows: a word's share with the patches, a patch's with the words. */
export function between(inside, focus, step, block) {
  const shares = gaze(inside, focus, step, block);
  const words = inside.words.map((word) => shares[PATCHES + word.row]);
  const others = focus.row < PATCHES ? words : [...shares.slice(0, PATCHES)];
  return focus.way === "to" ? sum(others) : mean(others);
}

/** Something of every block and step, blocks by steps. @returns {number[]} */
export function everywhere(inside, found) {
  const steps = inside.sigmas.length;
  return Array.from({ length: inside.blocks * steps }, (_, k) => found(k % steps, Math.floor(k / steps)));
}

/** A block and a step in words. */
export const cellName = (k, steps) => `block ${Math.floor(k / steps) + 1}, step ${(k % steps) + 1}`;

export const percent = (share) => {
  const value = 100 * share;
  return `${value.toFixed(value >= 9.95 || value < 0.005 ? 0 : value < 0.95 ? 2 : 1)} %`;
};

/** A patch in words. */
export const placeOf = (patch) => `row ${Math.floor(patch / GRID) + 1}, column ${(patch % GRID) + 1}`;

/** What a map shows, in a sentence. @param {Inside} inside @param {Focus} focus @param {Float32Array} shares */
export function told(inside, { row, way }, shares) {
  const word = inside.words.find((each) => each.row === row - PATCHES)?.text;
  const who = word ? `“${word}”` : `the patch in ${placeOf(row)}`;
  const patches = shares.slice(0, PATCHES);
  const best = patches.indexOf(Math.max(...patches));
  if (way === "from") {
    return `How much of its attention each patch and each word gives to ${who}. ` +
      `Most among patches: ${percent(patches[best])}, ${placeOf(best)}.`;
  }
  const words = sum(inside.words.map((each) => shares[PATCHES + each.row]));
  const rest = Math.max(0, 1 - sum(patches) - words);
  return `Of its attention, ${who} gives ${percent(sum(patches))} to patches, ${percent(words)} to words, ` +
    `${percent(rest)} to the rest of the text’s 64 rows: its beginning and end, padding.`;
}

/** The positions of the words with which a text speaks of an attribute. @returns {number[]} */
export function rowsOf(words, name, table) {
  const hair = words.findIndex(({ text }) => text === "hair"); // "red" of hair stands before "hair"
  const some = table.hair.includes(name) ? words.slice(Math.max(0, hair - 4), Math.max(0, hair)) : words;
  const phrases = table.attributes[name].levels.flatMap((level) => [...level.phrases, ...level.bare]);
  const wanted = phrases.map((phrase) => phrase.match(/[\p{L}\p{N}]+/gu)).sort((a, b) => b.length - a.length);
  for (const parts of wanted) {
    const at = some.findIndex((_, k) => parts.every((part, i) => some[k + i]?.text.toLowerCase() === part));
    if (at >= 0) return some.slice(at, at + parts.length).map(({ row }) => row);
  }
  return [];
}
