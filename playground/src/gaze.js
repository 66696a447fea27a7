// Attention, read from a word or a patch: where it looks, and what looks at it.
//
// Rows 0 to 63 are the image's patches, rows 64 to 127 the positions of the text.

export const PATCHES = 64;
export const GRID = 8;

/**
 * @typedef {{sigmas: number[], blocks: number, rows: number, words: {text: string, row: number}[],
 *   attention: Float32Array, clean: Float32Array}} Inside
 * @typedef {{row: number, way: string}} Focus way: "to" where the row looks, "from" what looks at it
 */

/**
 * The shares of attention that go from a row to all rows, or from all rows to it.
 * @param {Inside} inside
 * @param {Focus} focus
 * @param {number} step
 * @param {number | null} block none: the mean over blocks
 * @returns {Float32Array} one share for each row
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

/** What is between the two kinds of rows: a word's share with the patches, a patch's with the words. */
export function between(inside, focus, step, block) {
  const shares = gaze(inside, focus, step, block);
  const others = focus.row < PATCHES
    ? inside.words.map((word) => shares[PATCHES + word.row])
    : [...shares.slice(0, PATCHES)];
  const sum = others.reduce((a, b) => a + b, 0);
  return focus.way === "to" ? sum : sum / others.length;
}

/** `between` of every block and step, blocks by steps. @returns {number[]} */
export function totals(inside, focus) {
  const steps = inside.sigmas.length;
  return Array.from({ length: inside.blocks * steps }, (_, k) =>
    between(inside, focus, k % steps, Math.floor(k / steps)));
}

export const percent = (share) => {
  const value = 100 * share;
  return `${value >= 9.95 || value < 0.005 ? value.toFixed(0) : value.toFixed(value < 0.95 ? 2 : 1)} %`;
};

/** A patch in words. */
export const placeOf = (patch) => `row ${Math.floor(patch / GRID) + 1}, column ${(patch % GRID) + 1}`;

/** What a map shows, in a sentence. @param {Inside} inside @param {Focus} focus @param {Float32Array} shares */
export function told(inside, focus, shares) {
  const isPatch = focus.row < PATCHES;
  const word = inside.words.find((each) => each.row === focus.row - PATCHES);
  const who = isPatch ? `The patch in ${placeOf(focus.row)}` : `“${word?.text}”`;
  const patches = shares.slice(0, PATCHES);
  const best = patches.indexOf(Math.max(...patches));
  if (focus.way === "from") {
    return `How much of its attention each patch and each word gives to ${who.replace("The", "the")}. ` +
      `Most among patches: ${percent(patches[best])}, ${placeOf(best)}.`;
  }
  const image = patches.reduce((a, b) => a + b, 0);
  const words = inside.words.reduce((sum, each) => sum + shares[PATCHES + each.row], 0);
  const rest = Math.max(0, 1 - image - words);
  return `${who} looks: ${percent(image)} at patches, ${percent(words)} at words, ${percent(rest)} at the rest of the ` +
    "text’s 64 rows (its beginning and end, padding).";
}

/** The rows of the words in which a text says something about an attribute. */
export function rowsOf(words, phrases) {
  const plain = words.map((word) => word.text.toLowerCase());
  const wanted = phrases.map((phrase) => phrase.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? []);
  for (const parts of wanted.sort((a, b) => b.length - a.length)) {
    for (let at = 0; parts.length && at + parts.length <= plain.length; at++) {
      if (parts.every((part, k) => plain[at + k] === part)) return words.slice(at, at + parts.length).map((w) => w.row);
    }
  }
  return [];
}
