// What the oracle reads before and after an edit, as rows of a table.

import { hidden, levelOf, spokenLevel } from "./words.js";

/** Share of an attribute's range from which a change is worth a row. */
const MOVED = 0.02;

/** Where a value lies in its range, 0 to 1; null for a category. */
export function placeIn(spec, value) {
  return spec.kind === "continuous" ? Math.max(0, Math.min(1, (value - spec.low) / (spec.high - spec.low))) : null;
}

/** "smile" of "the smile". */
export const bare = (spoken) => spoken.replace(/^the /, "");

/**
 * @param {object} before values @param {object} after values
 * @param {Record<string, number> | null} changes what was asked for
 * @param {any} table
 * @returns {{shown: object[], stayed: number}} those that were asked for first, then by how far they moved
 */
export function changeRows(before, after, changes, table) {
  const unseen = new Set([...hidden(before, table), ...hidden(after, table)]);
  const rows = Object.entries(table.attributes).map(([name, spec]) => {
    const places = [before, after].map((values) => placeIn(spec, values[name]));
    const levels = [before, after].map((values) => levelOf(name, values[name], table));
    const moved = spec.kind === "continuous"
      ? Math.abs(after[name] - before[name]) / (spec.high - spec.low)
      : Number(before[name] !== after[name]);
    const asked = changes !== null && name in changes;
    const wanted = asked ? spokenLevel(name, changes[name], table) : null;
    const words = levels.map((level) => spokenLevel(name, level, table));
    return { name, spoken: bare(spec.spoken), asked, wanted, words, places, moved, unseen: unseen.has(name),
             reached: asked && levels[1] === changes[name] };
  });
  const shown = rows.filter((row) => row.asked || (row.moved > MOVED && !row.unseen));
  shown.sort((a, b) => Number(b.asked) - Number(a.asked) || b.moved - a.moved);
  return { shown, stayed: rows.length - shown.length };
}

/** "a, b and c" */
export function listed(parts) {
  return parts.length < 2 ? parts.join("") : `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
}
