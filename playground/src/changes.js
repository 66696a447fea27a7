// What two texts change, one change at a time: ditlens.description.single_changes.

const WORD = /[\p{L}\p{N}_]+(?:['’-][\p{L}\p{N}_]+)*|[^\p{L}\p{N}_\s]/gu;
const JOINTS = new Set(
  ", ; . : and but with without on in at under over above behind beside near before".split(" "),
);
const NEAR = 2;

/**
 * The longest run that both lists share, the first one among equals.
 * @returns {[number, number, number]} where in a, where in b, how long
 */
function longest(a, b, [fromA, toA, fromB, toB]) {
  let best = [fromA, fromB, 0];
  let lengths = new Map();
  for (let i = fromA; i < toA; i++) {
    const now = new Map();
    for (let j = fromB; j < toB; j++) {
      if (a[i] !== b[j]) continue;
      const length = (lengths.get(j - 1) ?? 0) + 1;
      now.set(j, length);
      if (length > best[2]) best = [i - length + 1, j - length + 1, length];
    }
    lengths = now;
  }
  return best;
}

/** The runs that both lists share, in order, as Python's difflib finds them. */
function runs(a, b, range) {
  const [i, j, length] = longest(a, b, range);
  if (!length) return [];
  const [fromA, toA, fromB, toB] = range;
  return [
    ...runs(a, b, [fromA, i, fromB, j]),
    [i, j, length],
    ...runs(a, b, [i + length, toA, j + length, toB]),
  ];
}

/**
 * The differing stretches of two lists; a common beginning is always kept.
 * @param {string[]} a
 * @param {string[]} b
 * @returns {[number, number, number, number][]} from and to in a, from and to in b
 */
export function differences(a, b) {
  let head = 0;
  while (head < Math.min(a.length, b.length) && a[head] === b[head]) head++;
  const found = [];
  let [i, j] = [head, head];
  const kept = runs(a, b, [head, a.length, head, b.length]);
  for (const [nextA, nextB, length] of [...kept, [a.length, b.length, 0]]) {
    if (i < nextA || j < nextB) found.push([i, nextA, j, nextB]);
    [i, j] = [nextA + length, nextB + length];
  }
  return found;
}

/**
 * Target texts that each make only one of the changes.
 * @param {string} source what the picture shows
 * @param {string} target what it should show
 * @returns {string[]} one text for each change; none if the texts have the same words
 */
export function singleChanges(source, target) {
  const a = [...source.matchAll(WORD)];
  const b = [...target.matchAll(WORD)];
  const words = a.map((word) => word[0]);
  const changes = [];
  for (const [i, j, k, m] of differences(words, b.map((word) => word[0]))) {
    const last = changes.at(-1);
    const between = last ? words.slice(last[1], i) : [];
    if (last && between.length <= NEAR && !between.some((word) => JOINTS.has(word))) {
      [last[1], last[3]] = [j, m];
    } else {
      changes.push([i, j, k, m]);
    }
  }
  return changes.map((change) => withChange(source, target, a, b, change));
}

/** The source with some of its words replaced by some of the target's. */
function withChange(source, target, a, b, [first, end, k, m]) {
  const endOf = (word) => word.index + word[0].length;
  const start = first < a.length ? a[first].index : source.length;
  const stop = end > first ? endOf(a[end - 1]) : start;
  let fresh = m > k ? target.slice(b[k].index, endOf(b[m - 1])) : "";
  if (fresh && end === first) {
    const left = !start || /\s/.test(source[start - 1]) || ",;.:".includes(fresh[0]) ? "" : " ";
    const right = start < source.length && !",;.:".includes(source[start]) ? " " : "";
    fresh = left + fresh + right;
  }
  const text = source.slice(0, start) + fresh + source.slice(stop);
  return fresh ? text : text.replace(/\s+(?=[,;.:\s]|$)/g, "").trim();
}
