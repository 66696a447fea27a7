// What the playground's page computes by itself: nodes of the slider, links, attention, rows of the table, turns.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { lookUp, nearest, nextDegree, withNode } from "../../playground/src/degrees.js";
import { Desk } from "../../playground/src/desk.js";
import { between, everywhere, gaze, percent, rowsOf, told, toRows } from "../../playground/src/gaze.js";
import { fromLink, toLink, toPython } from "../../playground/src/link.js";
import { changeRows, listed } from "../../playground/src/measures.js";

const data = (name) => JSON.parse(readFileSync(new URL(`../../playground/data/${name}`, import.meta.url), "utf-8"));
const { edit, table } = data("recorded.json");
const nodes = [0, 0.5, 1].map((degree) => ({ degree }));

test("a degree is computed, between two, or beyond", () => {
  assert.equal(lookUp(nodes, 0.5).kind, "computed");
  const { picture, over, share } = lookUp(nodes, 0.6);
  assert.deepEqual([picture.degree, over.degree, Math.round(100 * share)], [0.5, 1, 20]);
  assert.deepEqual(lookUp(nodes, 1.2), { kind: "nearest", picture: nodes[2] });
  assert.deepEqual(lookUp(nodes, -1), { kind: "nearest", picture: nodes[0] });
  assert.equal(nearest(nodes, 0.8).degree, 1);
});

test("nodes stay in order, 1 comes first", () => {
  assert.equal(nextDegree([{ degree: 0 }], [-0.5, 0, 1]), 1);
  assert.equal(nextDegree(nodes, [-0.5, 0, 1]), -0.5);
  assert.equal(nextDegree(nodes, [0, 1]), undefined);
  const fresh = { degree: 0.5, fresh: true };
  assert.deepEqual(withNode(nodes, fresh), [nodes[0], fresh, nodes[2]]);
});

test("a link holds a wish, levels or texts", () => {
  const portrait = { text: "a man, 100 % & more", seed: 7, steps: 12 };
  const back = (asked, degree) => fromLink(toLink(portrait, asked, degree), table.attributes);
  assert.deepEqual(back(null, 1), { ...portrait, edit: null, degree: 1 });
  assert.deepEqual(back({ wish: "a crown" }, -0.5), { ...portrait, edit: { wish: "a crown" }, degree: -0.5 });
  const changes = { hat: 3, smile: 0 };
  assert.deepEqual(back({ changes }, 0.55).edit, { changes });
  const texts = { source: "a = b", target: "c" };
  assert.deepEqual(back(texts, 2).edit, texts);
});

test("what is wrong in a link is left out", () => {
  assert.equal(fromLink("", table.attributes), null);
  const { seed, steps, edit, degree } = fromLink("#text=x&seed=-1&steps=many&degree=7&change=hat:9,x:1", table.attributes);
  assert.deepEqual([seed, steps, edit, degree], [0, undefined, null, 1]);
});

test("Python gets the texts quoted", () => {
  const code = toPython({ text: 'say "hi"', seed: 1, own: false }, { source: "a", target: "b" }, 0.5);
  assert.match(code, /generate\("say \\"hi\\"", seed=1\)/);
  assert.match(code, /degree=0.5/);
  assert.match(toPython({ own: true }, { source: "a", target: "b" }, 1), /image = "my.png"/);
});

/** One step and two blocks; row q gives 1 to row (q + block) % 128. */
function inside() {
  const [rows, blocks] = [128, 2];
  const attention = new Float32Array(blocks * rows * rows);
  for (let b = 0; b < blocks; b++) for (let q = 0; q < rows; q++) attention[(b * rows + q) * rows + ((q + b) % rows)] = 1;
  const words = "long red hair , a red shirt".split(" ").map((text, k) => ({ text, row: k + 1 }));
  return { sigmas: [1], blocks, rows, words, attention, clean: new Float32Array(0) };
}

test("attention goes to a row and comes from it", () => {
  const run = inside();
  assert.equal(gaze(run, { row: 5, way: "to" }, 0, 1)[6], 1);
  assert.equal(gaze(run, { row: 5, way: "from" }, 0, 1)[4], 1);
  assert.deepEqual([...gaze(run, { row: 5, way: "to" }, 0, null)].slice(4, 8), [0, 0.5, 0.5, 0]);
  assert.equal(between(run, { row: 63, way: "to" }, 0, 1), 0, "row 64 is the start mark, not a word");
  assert.equal(between(run, { row: 65, way: "to" }, 0, 0), 0, "a word that looks at itself");
  assert.equal(everywhere(run, (step, block) => block).join(), "0,1");
  assert.equal(toRows(run, [0], 0, 1)[63], 1);
  assert.match(told(run, { row: 63, way: "to" }, gaze(run, { row: 63, way: "to" }, 0, 1)), /row 8, column 8 gives 0 % .* 100 %/);
});

test("shares are read with two digits", () => {
  assert.deepEqual([0.103, 0.0123, 0.00456, 0, 0.999].map(percent), ["10 %", "1.2 %", "0.46 %", "0 %", "100 %"]);
});

test("words of an attribute are found, those of hair before hair", () => {
  const { words } = inside();
  assert.deepEqual(rowsOf(words, "hair_color", table), [2]);
  assert.deepEqual(rowsOf(words, "shirt", table), [5, 6, 7]);
  assert.deepEqual(rowsOf(words, "hat", table), []);
});

test("rows of the table: what was asked for first, what cannot be seen not at all", () => {
  const { shown, stayed } = changeRows(edit.values, edit.nodes.at(-1).values, edit.changes, table);
  assert.deepEqual(shown.slice(0, 2).map((row) => [row.name, row.reached]), [["hat", true], ["smile", true]]);
  assert.equal(shown.length + stayed, Object.keys(table.attributes).length);
  const blind = { ...edit.values, glasses: "sunglasses" };
  assert.ok(!changeRows(blind, { ...blind, gaze: 1 }, {}, table).shown.length);
  assert.equal(listed(["a", "b", "c"]), "a, b and c");
});

test("a call takes the place of the one in hand, and the rest waits", async () => {
  const [log, ends] = [[], []];
  const cancelled = () => Object.assign(new Error("Cancelled"), { name: "Cancelled" });
  const engine = { cancel: () => ends.splice(0).forEach((end) => end(cancelled())) };
  let left = 2;
  const desk = new Desk(engine, () => (left-- > 0 ? async () => void log.push("later") : null));
  const first = desk.now(() => new Promise((_, reject) => ends.push(reject)));
  await null;
  const second = desk.now(async () => log.push("second") && "done");
  assert.deepEqual([await first, await second], [undefined, "done"]);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(log, ["second", "later", "later"]);
  await assert.rejects(desk.now(async () => { throw new Error("broken"); }), /broken/);
});
