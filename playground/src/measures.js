// What the oracle reads before and after an edit, as rows of a table.

import { hidden, levelOf, spokenLevel } from "./words.js";

const MOVED = 0.02; // share of an attribute's range from which a change is worth a row

/** "smile" of "the smile". */
export const bare = (spoken) => spoken.replace(/^the /, "");

/** "a, b and c" */
export const listed = (parts) => parts.join(", ").replace(/, ([^,]*)$/, " and $1");

/**
 * @param {object} before values @param {object} after values @param {any} table
 * @param {Record<string, number> | null} changes the levels that were asked for
 * @returns {{shown: object[], stayed: number}} those that were asked for first, then by how far they moved
 */
export function changeRows(before, after, changes, table) {
  const unseen = new Set([...hidden(before, table), ...hidden(after, table)]);
  const rows = Object.entries(table.attributes).map(([name, { spoken, kind, low, high }]) => {
    const both = [before[name], after[name]];
    const levels = both.map((value) => levelOf(name, value, table));
    const places = kind === "continuous" ? both.map((value) => (value - low) / (high - low)) : null;
    const asked = changes !== null && name in changes;
    const [wanted, reached] = asked ? [spokenLevel(name, changes[name], table), levels[1] === changes[name]] : [];
    const words = levels.map((level) => spokenLevel(name, level, table));
    const moved = places ? Math.abs(places[1] - places[0]) : Number(both[0] !== both[1]);
    return { name, spoken: bare(spoken), asked, places, unseen: unseen.has(name), words, moved, wanted, reached };
  });
  const shown = rows.filter((row) => row.asked || (row.moved > MOVED && !row.unseen));
  shown.sort((a, b) => Number(b.asked) - Number(a.asked) || b.moved - a.moved);
  return { shown, stayed: rows.length - shown.length };
}
