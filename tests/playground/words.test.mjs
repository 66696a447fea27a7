/**
 * Captions, measures and wishes against what Python says of them. `tests/unit/test_playground_words.py` writes the
 * table and the recorded values into the folder PLAYGROUND_RECORDED and runs this file.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import * as words from "../../playground/src/words.js";

const folder = process.env.PLAYGROUND_RECORDED;
const skip = folder ? false : "PLAYGROUND_RECORDED is not set: run pytest tests/unit/test_playground_words.py";
const read = (name) => JSON.parse(readFileSync(join(folder, name), "utf8"));
const [table, recorded] = folder ? [read("words.json"), read("recorded.json")] : [];
const skipWishes = skip || (table.wishes ? false : "this table has no wishes, which take longer: run pytest -m slow");
const near = (a, b) => assert.ok(Math.abs(a - b) < 1e-9, `${a} is not ${b}`);

test("texts are cut into the same tokens", { skip }, () => {
  for (const { text, tokens, normalised } of recorded.texts) {
    assert.deepEqual(words.tokens(text, table.spellings), tokens);
    assert.equal(words.normalise(text, table.spellings), normalised);
  }
});

test("captions and pairs of captions are the same", { skip }, () => {
  for (const { values, changes, levels, caption, pair } of recorded.portraits) {
    assert.deepEqual(words.levelsOf(values, table), levels);
    assert.equal(words.caption(levels, table), caption);
    assert.deepEqual(words.pair(levels, values, changes, table), pair);
  }
});

test("measures are the same", { skip }, () => {
  for (const { values, after, changes, hidden, drift, reached, progress } of recorded.portraits) {
    assert.deepEqual([...words.hidden(values, table)].sort(), hidden);
    assert.deepEqual(words.reached(after, changes, table), reached);
    near(words.drift(values, after, changes, table), drift);
    near(words.progress(values, after, changes, table), progress);
  }
});

test("no wish is misread, and most everyday ones are understood", { skip: skipWishes }, (t) => {
  for (const [list, wishes] of Object.entries(recorded.wishes)) {
    let [understood, refused] = [0, 0];
    for (const { text, values, changes } of wishes) {
      const found = words.readWish(text, values, table);
      if (found.changes) assert.deepEqual(found.changes, changes, text);
      if (found.refused) assert.match(found.refused, /: type "[^"]+"/);
      const same = found.changes || (changes && !Object.keys(changes).length && found.refused.includes("so already"));
      understood += same ? 1 : 0;
      refused += !same && changes ? 1 : 0;
    }
    t.diagnostic(`${list}: ${understood} of ${wishes.length} understood as in Python, ${refused} refused though Python reads them`);
    assert.ok(understood >= recorded.atLeast[list], `${list}: only ${understood} are understood`);
  }
});

test("the wishes that a refusal suggests are understood", { skip: skipWishes }, () => {
  const { neutral } = recorded;
  for (const [name, listed] of Object.entries(table.wishes.examples)) {
    for (const [level, text] of listed.entries()) {
      const source = (level + 1) % listed.length; // another level than the wanted one
      const rest = table.attributes[name].neutral;
      const from = table.attributes[name].levels[rest === level ? source : rest].value;
      assert.deepEqual(words.readWish(text, { ...neutral, [name]: from }, table).changes, { [name]: level }, text);
    }
  }
});

test("a wish is understood as a whole or refused", { skip: skipWishes }, () => {
  const wish = (text, values = {}) => words.readWish(text, { ...recorded.neutral, ...values }, table);
  assert.deepEqual(wish("make her smile more and remove the glases", { glasses: "round" }), {
    changes: { smile: 3, glasses: 0 }, words: 'a slight smile, no glasses; "glases" is read as "glasses"',
  });
  assert.match(wish("make her smile and make him a pirate").refused, /no "pirate"/);
  assert.match(wish("big smile, no smile").refused, /two things/);
  assert.match(wish("no hat").refused, /so already \(no hat\)/);
  assert.match(wish("open her eyes wide", { glasses: "sunglasses" }).refused, /cannot be seen/);
  assert.match(wish("add sunglasses, look left").refused, /cannot be seen/);
  assert.match(wish("keep the smile and make her frown").refused, /stay/);
  assert.match(wish("").refused, /does not say what/);
});

test("changed words are marked", () => {
  const found = words.changedWords("a big smile, no hat", "a small smile, a hat");
  const changed = (runs) => runs.filter((run) => run.changed).map((run) => run.text.trim());
  assert.deepEqual(changed(found.source), ["big", "no"]);
  assert.deepEqual(changed(found.target), ["small", "a"]);
  assert.equal(found.target.map((run) => run.text).join(""), "a small smile, a hat");
});
