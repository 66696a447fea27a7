/**
 * Reads a wish by looking its clauses up in the table that Python wrote (`wish_table.py`). There is no grammar here:
 * every word must have a part in a clause that the table knows, or the whole wish is refused.
 */
import { clausesOf, wordsOf } from "./clauses.js";
import { hidden, levelOf, spokenLevel } from "./words.js";

/** A wish that is not carried out; the message says why. */
class Refusal extends Error {}

const DEGREES = new Set(["more", "less", "mild", "strong", "most", "too"]);
const REMOVALS = new Set(["remove", "delete", "no", "without"]);
const SHORT = new Set(["no", "without"]);
const CHANGES = new Set(["change", "alter", "remove", "delete"]);
const IDLE = new Set(["him", "them", "at", "be", "been", "being"]);
const IDLE_AT_END = new Set([...IDLE, "for", "her", "his", "their"]);
const PEOPLE = new Set(["him", "her", "he", "she", "them"]);
const FREE = new Set(["want", "need", "make", "let", "have"]); // verbs that may have a subject: "she should have"
const LINKS = new Set(["", ",", "and", "but", "plus", "then"]);
const NOBODY = { id: "-", heads: [""] };

// --- what a clause is made of --------------------------------------------------------------------------------------

/** What a word says about a noun with these heads: the number of its sense, if it says anything. */
function about(unit, heads, w) {
  const said = w.sayings[unit.saying] ?? {};
  const found = heads.filter((head) => head in said).map((head) => said[head]);
  return found.find((sense) => w.senses[sense][1]) ?? found[0];
}

const fits = (units, noun, w) => units.length > 0 && units.every((unit) => about(unit, noun.heads.filter(Boolean), w) !== undefined);
const typed = (units) => `"${units.map((unit) => unit.typed).join(" ")}"`;

/** The noun of a clause; a verb such as "look" may stand for one. */
function nounOf(units, w) {
  const nouns = units.filter((unit) => unit.noun >= 0);
  if (nouns.length) return { unit: nouns.at(-1), id: String(nouns.at(-1).noun), ...w.nouns[nouns.at(-1).noun] };
  const verb = units.find((unit, i) => w.nouns[unit.stem] && units.slice(i + 1).some((later) => about(later, w.nouns[unit.stem].heads, w) !== undefined));
  return verb ? { unit: verb, id: verb.stem, ...w.nouns[verb.stem] } : NOBODY;
}

/** The part of one word in a frame: the noun N, a word A about it, a verb or a degree; none for fillers. */
function partOf(unit, next, noun, alone, w) {
  const { has } = w, form = unit.typed !== unit.stem, isNoun = unit === noun.unit;
  const sense = isNoun ? undefined : about(unit, noun.heads, w);
  const told = unit.typed.endsWith("s") && form && unit.noun < 0 && !(alone && has("asking", unit.typed));
  const done = /(ing|ed)$/.test(unit.typed) && form && unit.noun >= 0 && !has("calls", unit.stem);
  if (unit.part === "unknown") throw new Refusal(`this world has no "${unit.typed}"`);
  if (told) throw new Refusal(`"${unit.typed}" tells of something instead of asking for it`);
  if (done || has("media", unit.stem)) throw new Refusal(`${typed([unit])} is not understood`);
  const free = unit.part && !unit.typed.endsWith("ed") && !(unit.typed in w.words.irregular);
  const isSubject = (word) => free && (word === "you" || (FREE.has(unit.part) && has("subjects", word)));
  const small = unit.before.filter((word) => !(IDLE.has(word) || has("owners", word) || has("articles", word) || isSubject(word)));
  const flags = ["owners", "articles"].map((list, i) => (unit.before.some((word) => has(list, word)) ? ["the", "a"][i] : "")).filter(Boolean);
  const before = [...small.map((word) => (word === "are" ? "is" : word)), ...flags];
  if (unit.part === "grow") return { before, tag: "grow" };
  if (isNoun) return { before, tag: "N" };
  if (sense !== undefined) {
    const touches = next === noun.unit && !next?.before.length && !unit.typed.endsWith("s");
    if (unit.noun >= 0 && !touches) throw new Refusal(`"${unit.typed}" and "${noun.unit?.typed}" are two things`);
    return { before, tag: "A", unit, sense };
  }
  if (unit.part === "filler" || (unit.part === "quality" && !Object.keys(w.sayings[unit.saying]).length)) {
    return small.length ? { before: [], tag: "?" } : null;
  }
  if (!unit.part || ["quality", "?"].includes(unit.part)) throw new Refusal(`"${unit.typed}" says nothing ${noun.unit ? `about "${noun.unit.typed}" ` : ""}in this world`);
  return { before, tag: unit.part, verb: !DEGREES.has(unit.part) };
}

/** The parts of a clause. */
function partsOf({ units, after, alone }, noun, w) {
  const parts = units.map((unit, i) => partOf(unit, units[i + 1], noun, alone, w)).filter(Boolean);
  return [...parts, ...after.filter((word) => !IDLE_AT_END.has(word)).map((tag) => ({ before: [], tag }))];
}

// --- what a clause comes to ----------------------------------------------------------------------------------------

/** What the table says of a clause with these parts: attributes, and the level that each gets from every level. */
function lookUp(parts, noun, w) {
  const place = w.places.get(parts.flatMap(({ before, tag }) => [...before, tag]).join(" "));
  const word = parts.find((part) => part.unit);
  const row = w.rows[noun.id]?.[word ? `${word.sense}.${word.unit.kind}` : ""] ?? "";
  const found = row.split(" ").map((entry) => entry.split(":")).find(([, set]) => w.sets[set]?.has(place));
  return found ? w.meanings[found[0]] : null;
}

/** The same for a noun with several words about it: "long red hair" is long hair and red hair. */
function meaningOf(parts, noun, w) {
  const words = parts.filter((part) => part.unit);
  if (words.length < 2) return lookUp(parts, noun, w);
  const names = words.map((part) => w.senses[part.sense][0]);
  if (new Set(names).size < names.length || words.some((part) => part.unit.noun >= 0)) return null;
  if (parts.some((part) => REMOVALS.has(part.tag))) return null;
  const owner = (i) => (DEGREES.has(parts[i]?.tag) ? owner(i + 1) : parts[i]);
  const { before } = parts.find((_, i) => owner(i) === words[0]);
  const found = words.map((word) => {
    const kept = parts.filter((_, i) => !owner(i)?.unit || owner(i) === word);
    const first = kept.findIndex((part) => part === word || DEGREES.has(part.tag));
    if (word !== words[0]) kept[first] = { ...kept[first], before: [...before, ...kept[first].before] };
    return lookUp(kept, noun, w);
  });
  return found.includes(null) ? null : found.flat();
}

/** The noun of a clause nearby that words without one are about: "make the hair long and curly". */
function borrowed(units, near, w) {
  const words = units.filter((unit) => about(unit, [""], w) !== undefined || near.some((noun) => fits([unit], noun, w)));
  const fitting = near.filter((noun) => fits(words, noun, w));
  for (const unit of fitting.length ? words : []) {
    const senses = [...fitting, NOBODY].map((noun) => about(unit, noun.heads, w)).filter((sense) => sense !== undefined);
    if (new Set(senses.map((sense) => w.senses[sense][0])).size > 1) throw new Refusal(`it is not clear what is to be "${unit.typed}"`);
  }
  return fitting[0];
}

/** The parts with the verb of the clause before: "remove the hat and the glasses"; refused where it could be either. */
function inherited(parts, noun, { units }, before, w) {
  const removal = before?.verbs.find((verb) => REMOVALS.has(verb)), flags = parts[0].before;
  if (before?.verbs.includes("keep")) throw new Refusal(`it is not clear whether ${typed(units)} is to stay`);
  if (!removal || flags.includes("a")) return parts;
  const closed = REMOVALS.has(before.parts.at(-1)?.tag); // "hat off, round glasses"
  const named = SHORT.has(removal) && !w.words.worn.includes(noun.gone); // "no hat, brown hair"
  if (!flags.includes("the") && (closed || named)) return parts;
  const alike = flags.includes("the") === before.parts.some((part) => part.before.includes("the"));
  const listed = parts.length === 1 && noun.gone && noun.gone !== before.noun.gone && alike;
  if (!listed || closed || SHORT.has(removal)) throw new Refusal(`it is not clear whether ${typed(units)} is to be removed, too`);
  return [{ before: [], tag: "remove" }, ...parts];
}

/** What a clause wants: changes (`found`), or attributes that stay (`kept`); null if it says nothing. */
function wantOf(clause, near, before, following, w) {
  const { units } = clause;
  let noun = nounOf(units, w);
  const bare = noun === NOBODY && !units.some(({ part }) => part && !DEGREES.has(part) && !["filler", "quality"].includes(part));
  const people = units.some((unit) => unit.before.some((word) => PEOPLE.has(word))) && !units.at(-1).before.some((word) => w.has("articles", word));
  const beside = noun === NOBODY && (bare || !people) ? borrowed(units, near, w) : undefined;
  const lent = bare ? beside : undefined;
  noun = lent ?? noun;
  const parts = [...partsOf(clause, noun, w), ...(lent ? [{ before: [], tag: "N" }] : [])];
  const verbs = parts.filter((part) => part.verb || part.tag === "grow").map((part) => part.tag);
  const want = { noun, parts, verbs, kept: [], found: [] };
  if (!parts.length) return null;
  const stays = verbs[0] === "keep" || (verbs[0] === "dont" && CHANGES.has(verbs[1]));
  if (stays && noun.unit && !parts.some((part) => part.unit)) return { ...want, kept: noun.about };
  if (parts.length === 1 && following && fits(following, noun, w) && !lookUp(parts, noun, w)) return { ...want, open: true }; // "her blouse: yellow"
  const all = verbs.length || bare ? parts : inherited(parts, noun, clause, before, w);
  const found = meaningOf(all, noun, w);
  if (!found) throw new Refusal(`${typed(units)} is not understood`);
  return { ...want, verbs: all === parts ? verbs : before.verbs, found };
}

/** The same, or what the table says of the very words of the clause. */
function wantOrIdiom(clause, near, before, following, w) {
  try {
    return wantOf(clause, near, before, following, w);
  } catch (error) {
    const inDoubt = clause.after.length || (near.length && nounOf(clause.units, w) === NOBODY); // "the eyes and open wide"
    const found = inDoubt ? undefined : w.idioms.get(plain(clause.units, w));
    if (!found || !(error instanceof Refusal)) throw error;
    return { noun: nounOf(clause.units, w), parts: [], verbs: clause.units.map((unit) => unit.part), kept: [], found };
  }
}

/** A clause without fillers and pronouns, its words in their base form. */
function plain(units, w) {
  const small = (unit) => unit.before.filter((word) => !IDLE.has(word) && !w.has("articles", word)).map((word) => (w.has("owners", word) ? "the" : word));
  return units.filter((unit) => unit.part !== "filler" || unit.noun >= 0).flatMap((unit) => [...small(unit), unit.phrase]).join(" ");
}

/** What every clause wants, in order. */
function wantsOf(clauses, w) {
  const found = [];
  for (const [i, clause] of clauses.entries()) {
    if (!LINKS.has(clause.link)) throw new Refusal(`"${clause.link}" leaves open what to do`);
    const last = found.at(-1), following = clauses[i + 1]?.units;
    const near = [last?.noun, following && nounOf(following, w)].filter((noun) => noun?.unit);
    const want = wantOrIdiom(clause, near, last, following, w);
    if (last?.open && want?.noun !== last.noun) throw new Refusal(`it does not say what "${last.noun.unit.typed}" should become`);
    if (want) found.push(want);
  }
  return found;
}

// --- a wish --------------------------------------------------------------------------------------------------------

/**
 * Read a wish for a portrait.
 * @param {string} text
 * @param {import("./words.js").Values} values  Of the portrait.
 * @param {import("./words.js").Table} table
 * @returns {{changes: import("./words.js").Levels, words: string} | {refused: string}}  What is to change, in levels
 *   and in words; or why nothing is, and what to type instead.
 */
export function readWish(text, values, table) {
  const w = open(table), typos = new Map();
  let units = [];
  try {
    units = wordsOf(text, w, typos);
    const wants = wantsOf(clausesOf(units, w), w);
    if (!wants.some((want) => want.found.length)) throw new Refusal(wants.length ? "it only says what is to stay" : "it does not say what to change");
    return settled(wants, values, table, typos);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    const named = units.map((unit) => w.nouns[unit.noun]?.about[0] ?? w.senses[about(unit, [""], w)]?.[0]);
    return { refused: `${error.message[0].toUpperCase()}${error.message.slice(1)}: type ${examples(named, values, table)}.` };
  }
}

/** Two wishes that are understood, about the first of these attributes that can be seen, or others. */
function examples(named, values, table) {
  const unseen = hidden(values, table);
  const names = [...new Set([...named, "smile", "hat"])].filter((name) => name && !unseen.has(name)).slice(0, 2);
  return names.map((name) => {
    const listed = table.wishes.examples[name];
    return `"${listed[(levelOf(name, values[name], table) + 1) % listed.length]}"`;
  }).join(" or ");
}

const removes = (want) => want.verbs.some((verb) => REMOVALS.has(verb));

/** The changes that all clauses ask for; a removal gives way to what takes its place: "hat off, crown on". */
function wantedOf(wants, values, table) {
  const asked = wants.flatMap((want) => want.found.map(([name, levels]) => ({ name, levels, want })));
  const wanted = new Map(), kept = new Set(wants.flatMap((want) => want.kept));
  for (const { name, levels, want } of asked) {
    const spoken = table.attributes[name].spoken, same = asked.filter((each) => each.name === name), other = same.at(-1).want;
    const givesWay = same.length === 2 && want !== other && removes(want) && !removes(other) && want.noun.id !== other.noun.id && other.noun.gone === name;
    if (givesWay) continue;
    const level = levels[levelOf(name, values[name], table)];
    if (wanted.has(name)) throw new Refusal(`it says two things about ${spoken}`);
    if (kept.has(name)) throw new Refusal(`it wants ${spoken} to stay and to change`);
    if (level === "-") throw new Refusal(`it is not clear what is to become of ${spoken}`);
    wanted.set(name, Number(level));
  }
  return wanted;
}

/** What a wish comes to for a portrait: refused if something cannot be seen, or all is as asked for. */
function settled(wants, values, table, typos) {
  const wanted = [...wantedOf(wants, values, table)], told = (name, level) => spokenLevel(name, level, table);
  const changes = Object.fromEntries(wanted.filter(([name, level]) => levelOf(name, values[name], table) !== level));
  const reached = Object.entries(changes).map(([name, level]) => [name, table.attributes[name].levels[level].value]);
  const unseen = new Set([...hidden(values, table), ...hidden({ ...values, ...Object.fromEntries(reached) }, table)]);
  const covered = wanted.find(([name]) => unseen.has(name));
  if (covered) throw new Refusal(`${table.attributes[covered[0]].spoken} cannot be seen in this portrait`);
  if (!reached.length) throw new Refusal(`it is so already (${wanted.map(([name, level]) => told(name, level)).join(", ")})`);
  const said = wanted.map(([name, level]) => told(name, level) + (name in changes ? "" : " (already so)")).join(", ");
  return { changes, words: [said, ...[...typos].map(([word, read]) => `"${word}" is read as "${read}"`)].join("; ") };
}

const tables = new WeakMap();

/** The table in the form in which it is looked up. */
function open(table) {
  if (tables.has(table)) return tables.get(table);
  const { wishes } = table, { words } = wishes, phrases = new Map();
  for (const [saying, noun, kind, part, listed] of wishes.phrases) {
    for (const phrase of listed.split("|")) phrases.set(phrase, { saying, noun, kind, part });
  }
  const lists = Object.fromEntries(Object.entries(words.lists).map(([name, listed]) => [name, new Set(listed.split(" "))]));
  const places = new Map(wishes.frames.map((frame, i) => [frame, i]));
  const sets = wishes.sets.map((steps) => { let at = 0; return new Set(steps.map((step) => (at += step))); });
  const w = { ...wishes, spellings: table.spellings, phrases, lists, places, sets, has: (list, word) => lists[list].has(word) };
  w.idioms = new Map(Object.entries(wishes.idioms).map(([text, meaning]) => [plain(wordsOf(text, w, new Map()), w), wishes.meanings[meaning]]));
  tables.set(table, w);
  return w;
}
