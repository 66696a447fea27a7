/**
 * Captions of portraits, what changes between two of them, and how near an edit came: the same as in Python, from the
 * tables that Python wrote (`words.json`).
 *
 * @typedef {Object<string, number|string>} Values  A portrait: a number, or the name of a value, for each attribute.
 * @typedef {Object<string, number>} Levels  The index of a level, or of a value, for each attribute that is named.
 * @typedef {Object} Table  The content of words.json.
 */
export { readWish } from "./wish.js";

// --- texts ---------------------------------------------------------------------------------------------------------

/**
 * Split a text into words, commas and question marks.
 * @param {string} text
 * @param {Object<string, string>} spellings  `table.spellings`
 * @returns {string[]}
 */
export function tokens(text, spellings) {
  const plain = text.toLowerCase().replace(/['’]s(?![\p{L}\p{N}_])|['’"“”`]/gu, "").replace(/[-_‐‑–—]/g, " ");
  const found = [];
  for (const [typed] of plain.matchAll(/[\p{L}\p{N}]+|[^\p{L}\p{N}_\s]|\n/gu)) {
    const word = Object.hasOwn(spellings, typed) ? spellings[typed] : typed;
    const token = /^[\p{L}\p{N}?]/u.test(word) ? word : ",";
    if (token !== "," || (found.length && !",?".includes(found.at(-1)))) found.push(token);
  }
  return found.at(-1) === "," ? found.slice(0, -1) : found;
}

/** Words of a text that no caption of the model's training has. */
export function unknownWords(text, table) {
  return [...new Set(tokens(text, table.spellings).filter((word) => !table.vocabulary.includes(word)))];
}

/** Tokens as a text: one space between words, none before a comma or a question mark. */
export const join = (words) => words.join(" ").replace(/ ([,?])/g, "$1");

/** A text in the form in which captions are written. */
export const normalise = (text, spellings) => join(tokens(text, spellings));

const article = (word) => ("aeiou".includes(word[0]) ? "an" : "a");
const first = (phrase) => phrase.split(" ")[0];
const count = (text) => text.split(" ").length + text.split(",").length - 1;
const isNounPhrase = (phrase, table) => !table.notAfterWith.includes(first(phrase));

/** How captions name a level: "a big smile", "red hair". */
export function spokenLevel(name, level, table) {
  return table.attributes[name].levels[level].phrases[0] + (table.hair.includes(name) ? " hair" : "");
}

// --- levels and measures -------------------------------------------------------------------------------------------

/** The level that a value has: a number's cell, or the index of a value's name. */
export function levelOf(name, value, table) {
  const { kind, levels } = table.attributes[name];
  if (kind === "categorical") return levels.findIndex((level) => level.value === value);
  return levels.slice(0, -1).filter((level) => level.high <= value).length;
}

/** Attributes that cannot be seen: eyes behind sunglasses, the style of cropped hair under a hat. */
export function hidden(values, table) {
  const covers = table.hides.filter(({ when }) => when.every(({ name, is, not, upTo }) => (
    (is === undefined || values[name] === is) && (not === undefined || values[name] !== not)
    && (upTo === undefined || Math.fround(values[name]) <= Math.fround(upTo)))));
  return new Set(covers.flatMap(({ names }) => names));
}

/** What captions name: visible attributes whose value lies in the core of a level. */
export function levelsOf(values, table) {
  const unseen = hidden(values, table), found = {};
  for (const [name, { kind, levels }] of Object.entries(table.attributes)) {
    const value = kind === "continuous" ? Math.fround(values[name]) : values[name]; // as precise as a tensor
    const level = levelOf(name, value, table), core = levels[level].core;
    const isSure = kind === "categorical" || (core[0] <= value && value <= core[1]);
    if (isSure && !unseen.has(name)) found[name] = level;
  }
  return found;
}

const mean = (numbers) => numbers.reduce((sum, number) => sum + number, 0) / numbers.length;

/** Mean change, in units of each range, of what is visible and not wanted to change. */
export function drift(before, after, wanted, table) {
  const ignored = new Set([...Object.keys(wanted), ...hidden(before, table), ...hidden(after, table)]);
  const moved = Object.entries(table.attributes).filter(([name]) => !ignored.has(name)).map(([name, { kind, low, high }]) => (
    kind === "categorical" ? Number(before[name] !== after[name]) : Math.abs(before[name] - after[name]) / (high - low)));
  return moved.length ? mean(moved) : 0;
}

/** Whether each changed attribute now has the wanted level. */
export function reached(after, wanted, table) {
  return Object.fromEntries(Object.entries(wanted).map(([name, level]) => [name, levelOf(name, after[name], table) === level]));
}

/** Share of the way to the wanted levels, from -1 to 1; a category counts 0 or 1. */
export function progress(before, after, wanted, table) {
  const shares = Object.entries(wanted).map(([name, level]) => {
    const { kind, levels } = table.attributes[name];
    if (kind === "categorical") return Number(levelOf(name, after[name], table) === level);
    const way = levels[level].value - before[name];
    return Math.abs(way) > 1e-3 ? Math.max(-1, Math.min(1, (after[name] - before[name]) / way)) : 1;
  });
  return shares.length ? mean(shares) : 0;
}

// --- captions ------------------------------------------------------------------------------------------------------

/** Stretches of a canonical caption, each with the attribute that it is about, if any; "" joins without a comma. */
function pieces(levels, table, form, choose) {
  const phrase = (name) => choose(table.attributes[name].levels[levels[name]][form]);
  const hair = table.hair.filter((name) => name in levels), found = [];
  for (const name of Object.keys(table.attributes)) {
    if (name === table.hair[0] && hair.length) found.push([...hair.map((each) => ({ name: each, text: phrase(each) })), { text: "hair" }]);
    else if (!table.hair.includes(name) && name !== "age" && name in levels) found.push([{ name, text: phrase(name) }]);
  }
  return found;
}

const shortest = (phrases) => phrases.reduce((best, phrase) => (count(phrase) < count(best) ? phrase : best));

/** A canonical caption as words, each with the attribute that its phrase is about. */
function marked(levels, table) {
  const write = (opening, listed, comma) => [...opening, ...listed.flatMap((piece, i) => [...(i ? [","] : comma), ...piece])]
    .flatMap((part) => (typeof part === "string" ? tokens(part, {}).concat(part === "," ? [","] : []).map((word) => ({ word }))
      : part.text.split(" ").map((word) => ({ word, name: part.name }))));
  const listed = pieces(levels, table, "phrases", (phrases) => phrases[0]);
  const age = "age" in levels ? table.attributes.age.levels[levels.age].phrases[0] : "";
  const opening = ["a portrait of", { text: age ? `${article(age)} ${age}` : "a", name: age ? "age" : undefined }, "person"];
  const link = listed.length ? [isNounPhrase(listed[0][0].text, table) ? "with" : ","] : [];
  const full = write(opening, listed, link);
  if (full.length <= table.longest) return full;
  const person = age ? [[{ text: age, name: "age" }, { text: "person" }]] : [];
  const [plain, short] = [(phrases) => phrases[0], shortest].map((choose) => write([], [...person, ...pieces(levels, table, "bare", choose)], []));
  return plain.length <= table.longest ? plain : short;
}

/** The canonical caption that names exactly these levels. */
export const caption = (levels, table) => join(marked(levels, table).map(({ word }) => word));

/** The changed phrase on both sides, with as many words on each as synonyms allow. */
function replaced(name, source, target, written, table) {
  const { levels } = table.attributes[name];
  const all = (form) => levels.some((level) => level[form].includes(written));
  const form = all("bare") && !all("phrases") ? "bare" : "phrases";
  const old = levels[source][form], sources = [written, ...old];
  let best = null;
  for (const [i, before] of sources.entries()) {
    for (const [j, after] of levels[target][form].entries()) {
      const longer = Math.abs(before.split(" ").length - after.split(" ").length);
      const unlike = isNounPhrase(written, table) !== isNounPhrase(after, table);
      const cost = [longer, Number(unlike), Number(i > 0), Math.abs(Math.max(old.indexOf(before), 0) - j), j];
      if (!best || compare(cost, best.cost) < 0) best = { cost, before, after };
    }
  }
  return best;
}

const compare = (a, b) => a.map((number, i) => number - b[i]).find((difference) => difference) ?? 0;

/**
 * The canonical caption of a portrait, and the same with the changed phrases.
 * @param {Levels} levels  What the caption names.
 * @param {Values} values  Of the portrait, for attributes that the caption does not name.
 * @param {Levels} changes
 * @param {Table} table
 * @returns {{source: string, target: string}}
 */
export function pair(levels, values, changes, table) {
  const words = marked(levels, table);
  const wanted = Object.entries(changes).map(([name, target]) => ({ name, target, source: levels[name] ?? levelOf(name, values[name], table) }));
  let sides = words.map(({ word, name }) => ({ name, source: [word], target: [word] }));
  for (const { name, source, target } of wanted.filter((each) => each.source !== each.target)) {
    const at = sides.findIndex((side) => side.name === name);
    const old = sides.filter((side) => side.name === name).flatMap((side) => side.source);
    const own = name === "age" && at >= 0 && /^an?$/.test(old[0]) ? old.slice(1) : old;
    const written = at < 0 ? table.attributes[name].levels[source].phrases[0] : own.join(" ");
    const { before, after } = replaced(name, source, target, written, table);
    const side = (text) => [...(own.length < old.length ? [article(text)] : []), ...text.split(" ")];
    const changed = { name, source: side(before), target: side(after) };
    if (at >= 0) sides.splice(at, old.length, changed);
    else inserted(sides, changed, table);
  }
  const text = (which) => join(sides.flatMap((side) => side[which]).map((word, i, all) => (/^an?$/.test(word) && all[i + 1] ? article(all[i + 1]) : word)));
  return { source: text("source"), target: text("target") };
}

/** Name an attribute that the caption does not: within the phrase about hair if there is one, or last. */
function inserted(sides, changed, table) {
  const same = (word) => ({ source: [word], target: [word] });
  const isHair = table.hair.includes(changed.name);
  const at = sides.findIndex((side, i) => i && side.source[0] === "hair" && table.hair.includes(sides[i - 1].name));
  if (isHair && at > 0) sides.splice(at, 0, changed);
  else sides.push(same(","), ...(changed.name === "age" ? [same("looking")] : []), changed, ...(isHair ? [same("hair")] : []));
}

/**
 * Both texts in stretches that are the same or changed, for marking.
 * @returns {{source: {text: string, changed: boolean}[], target: {text: string, changed: boolean}[]}}
 */
export function changedWords(source, target) {
  const [a, b] = [source, target].map((text) => text.match(/[^\s,?]+|[,?]/g) ?? []);
  const common = Array.from({ length: a.length + 1 }, () => new Array(b.length + 1).fill(0));
  for (let i = a.length - 1; i >= 0; i--) {
    for (let j = b.length - 1; j >= 0; j--) common[i][j] = a[i] === b[j] ? common[i + 1][j + 1] + 1 : Math.max(common[i + 1][j], common[i][j + 1]);
  }
  const marks = [a.map(() => true), b.map(() => true)];
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    if (a[i] === b[j]) marks[0][i++] = marks[1][j++] = false;
    else if (common[i + 1][j] >= common[i][j + 1]) i++;
    else j++;
  }
  const runs = (words, changed) => words.reduce((found, word, i) => {
    const space = i && !",?".includes(word) ? " " : "";
    if (i && changed[i] === changed[i - 1]) found.at(-1).text += space + word;
    else found.push({ text: space + word, changed: changed[i] });
    return found;
  }, []);
  return { source: runs(a, marks[0]), target: runs(b, marks[1]) };
}
