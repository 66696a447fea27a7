/** The words of a wish: typos corrected, in base form, joined to the phrases of the lexicon, and cut into clauses. */
import { tokens } from "./words.js";

// --- words ---------------------------------------------------------------------------------------------------------

/** What a word may be without an ending: "bigger" without "er" is "bigge" or "big". */
function without(word, ending) {
  const stem = word.endsWith(ending) ? word.slice(0, word.length - ending.length) : "", found = [];
  if (stem.length < 2) return [];
  const whole = ["s", "es", "ly"].includes(ending), doubles = /^[^aeiou]*[aeiou][^aeiouwxy]$/.test(stem);
  if (!(ending === "es" && !/(s|x|z|ch|sh|o)$/.test(stem)) && (whole || !doubles)) found.push(stem);
  if (!whole) found.push(`${stem}e`, ...(stem.at(-1) === stem.at(-2) ? [stem.slice(0, -1)] : []));
  if (stem.endsWith("i")) found.push(`${stem.slice(0, -1)}y`);
  return found;
}

/** A word in the form in which the lexicon has it, after "more" or "most": "bigger" is more big. Empty if unknown. */
function base(typed, w) {
  const { singles, parts, bases } = w.spelling;
  if (!bases.has(typed)) bases.set(typed, find(Object.hasOwn(w.words.irregular, typed) ? w.words.irregular[typed] : typed));
  return bases.get(typed);

  function find(word) {
    if (singles.has(word)) return [word];
    if (w.has("undrawable", word)) return [];
    for (const known of [singles, parts]) {
      for (const [ending, degree] of Object.entries(w.words.endings)) {
        const stem = without(word, ending).find((each) => each.length > 2 && (degree ? w.lists.adjectives : known).has(each));
        if (stem) return degree ? [degree, stem] : [stem];
      }
    }
    const one = word.endsWith("s") && word.length > 4 ? base(word.slice(0, -1), w) : [];
    return one.length || !parts.has(word) ? one : [word];
  }
}

/** Whether two words are one letter, or one exchange of neighbours, apart. */
function isTypo(a, b) {
  const shorter = Math.min(a.length, b.length);
  let start = 0, end = 0;
  while (start < shorter && a[start] === b[start]) start++;
  while (end < shorter - start && a.at(-1 - end) === b.at(-1 - end)) end++;
  const [x, y] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
  return Math.max(x.length, y.length) === 1 || (x.length === 2 && x === y[1] + y[0]);
}

const sorted = (word) => [...word].sort().join("");
const undoubled = (word) => word.replace(/(.)\1/g, "$1");

/** The one known word that is a single typo away; null if there is none, or several. */
function corrected(word, w) {
  if (word.length < 4 || !/^[a-z]+$/.test(word) || w.spelling.known.has(word) || base(word, w).length) return null;
  if (w.has("real", word) || w.has("undrawable", word) || w.has("undrawable", word.slice(0, -1))) return null;
  const near = [...w.lists.spelt].filter((other) => other.length > 3 && isTypo(word, other)
    && (other[0] === word[0] || sorted(other) === sorted(word)));
  const slips = near.filter((other) => sorted(other) === sorted(word) || undoubled(other) === undoubled(word));
  const found = (slips.length ? slips : near).sort();
  return new Set(found.map((other) => base(other, w).join(" "))).size === 1 ? found[0] : null;
}

/** What the words of the table are matched with; made once. */
function spellingOf(w) {
  const { words, phrases, lists } = w, rewritten = Object.keys(words.rewrites).sort((a, b) => b.length - a.length);
  const whole = (pattern) => {
    const named = pattern.replace(/{([a-z]+)}/g, (_, name) => words.lists[name].replaceAll(" ", "|"));
    return new RegExp(`(?<!\\S)(?:${named.replaceAll("END", "(?=$| ,| and | but )")})(?!\\S)`, "g");
  };
  const said = [...rewritten, ...words.patterns.map(([pattern]) => pattern)].join(" ").match(/[a-z]+/g);
  return {
    singles: new Set([...[...phrases.keys()].filter((phrase) => !phrase.includes(" ")), ...lists.skipped]),
    parts: new Set([...phrases.keys()].flatMap((phrase) => phrase.split(" "))),
    known: new Set([...said, ...lists.separators]),
    bases: new Map(),
    patterns: words.patterns.map(([pattern, put]) => [whole(pattern), put.replace(/\\(\d)/g, "$$$1")]),
    rewritten: whole(rewritten.join("|")),
  };
}

/** The text as the lexicon spells it, one space between words and commas. */
function spelt(text, w, typos) {
  const plain = text.toLowerCase().replace(/\b(he|she|it|that|there)['’]s\b/g, "$1 is")
    .replace(/\b(i|we|he|she|they)['’]d (?:love|like)\b/g, "$1 want").replace(/(\w)['’](?:d|ll|re|ve|m)\b/g, "$1")
    .replace(/\s+[-–—]+\s+/g, ", ").replace(/\b(un|de|re|semi)-(?=\w)/g, "$1");
  const read = tokens(plain, w.spellings).map((word) => {
    const other = corrected(word, w);
    if (other) typos.set(word, other);
    return word === "?" ? "," : other ?? word;
  }).join(" ");
  const put = w.spelling.patterns.reduce((found, [pattern, to]) => found.replace(pattern, to), read);
  return put.replace(w.spelling.rewritten, (phrase) => w.words.rewrites[phrase]).split(" ").filter(Boolean);
}

/**
 * The phrases of the lexicon in a wish, each with the small words before it.
 * @param {Map<string, string>} typos  Gets what was corrected.
 */
export function wordsOf(text, w, typos) {
  w.spelling ??= spellingOf(w);
  const raw = spelt(text, w, typos), found = [];
  let before = [];
  for (const [i, typed] of raw.entries()) {
    const closes = w.has("separators", raw[i + 1] ?? ",") && Object.hasOwn(w.words.closing, typed) && w.words.closing[typed];
    const isThing = found.length > 0 && w.phrases.get(found.at(-1).stem)?.noun >= 0;
    if (closes && (isThing || closes === "put")) {
      if (found.length) found.push({ stem: closes, typed, before: [] }); // "glasses on, hat out"
    } else if (w.has("skipped", typed)) before.push(typed);
    else {
      const forms = base(typed, w);
      for (const [n, stem] of (forms.length ? forms : [typed]).entries()) found.push({ stem, typed, before: n ? [] : before });
      before = [];
    }
  }
  return joined(before.length ? [...found, { stem: ",", typed: ",", before }] : found, w);
}

/** Words joined to the longest phrases of the lexicon, from left to right; "dark red" is red. */
function joined(words, w) {
  const longest = (at) => {
    for (let n = Math.min(6, words.length - at); n > 0; n--) {
      const listed = words.slice(at, at + n), entry = w.phrases.get(listed.map((word) => word.stem).join(" "));
      if (entry && !listed.slice(1).some((word) => word.before.includes("with"))) return { n, entry };
    }
    return { n: 1, entry: { saying: -1, noun: -1, kind: -1, part: "unknown" } };
  };
  const found = [];
  for (let at = 0; at < words.length;) {
    let { n, entry } = longest(at);
    const color = w.has("shades", words[at].stem) && at + 1 < words.length ? longest(at + 1) : null;
    const saying = color && w.shades[color.entry.saying];
    if (Number.isInteger(saying) && color.n >= n) [n, entry] = [color.n + 1, { saying, noun: -1, kind: w.kinds.indexOf(""), part: "" }];
    found.push({ ...entry, ...words[at], phrase: words.slice(at, at + n).map((word) => word.stem).join(" ") });
    at += n;
  }
  return found;
}

// --- clauses -------------------------------------------------------------------------------------------------------

/** A wish cut at its separators: each clause with the word that links it, and small words after its last. */
export function clausesOf(units, w) {
  const found = [{ link: "", units: [], after: [] }];
  for (const unit of units) {
    const last = found.at(-1);
    if (!w.has("separators", unit.stem)) last.units.push(unit);
    else if (last.units.length) {
      last.after = unit.before;
      found.push({ link: unit.stem, units: [], after: [] });
    } else if (![",", "and"].includes(unit.stem)) last.link = unit.stem;
  }
  const clauses = found.filter((clause) => clause.units.length);
  return clauses.map((clause) => ({ ...clause, units: withoutPlace(clause.units, w), alone: clauses.length === 1 }));
}

/** A clause without what only says where: "a smile on his face". */
function withoutPlace(units, w) {
  const last = units.at(-1), things = units.filter((unit) => unit.noun >= 0);
  const isPlace = things.length === 2 && things[1] === last && w.has("places", last.stem) && ["on", "in"].includes(last.before[0]);
  return isPlace && units.at(-2) === things[0] ? units.slice(0, -1) : units;
}
