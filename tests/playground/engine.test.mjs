// The playground's numerics against values that Python has written; see tests/unit/test_playground.py.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { singleChanges } from "../../playground/src/changes.js";
import { differenceMask, edit, moveText, quantile, sample } from "../../playground/src/ems.js";
import { Noise } from "../../playground/src/random.js";

const values = JSON.parse(readFileSync(process.env.DITLENS_VALUES, "utf-8"));
const text = (mean) => ({ tokens: Float32Array.of(mean), pooled: Float32Array.of(mean) });

// A world in which a text is a mean m: images are m + 0.5 N(0, 1), and the velocity is known in closed form.
const SCALE = 0.25;
const field = async (sigma, rows) =>
  rows.map(({ latents, text }) => {
    const mean = text.tokens[0];
    const share = sigma / (SCALE * (1 - sigma) ** 2 + sigma ** 2);
    const away = ((1 - sigma) * SCALE) / (SCALE * (1 - sigma) ** 2 + sigma ** 2);
    return latents.map((x, i) => (share - away) * (x - (1 - sigma) * mean) - mean * (1 + (i % 7) / 10));
  });

function near(found, wanted, tolerance = 2e-6) {
  assert.equal(found.length, wanted.length);
  found.forEach((value, i) => assert.ok(Math.abs(value - wanted[i]) <= tolerance, `${i}: ${value}, ${wanted[i]}`));
}

test("noise is that of torch", () => {
  for (const { seed, draws } of values.noise) {
    const noise = new Noise(seed);
    for (const wanted of draws) near(noise.normal(wanted.length), wanted);
  }
  assert.throws(() => new Noise(0).normal(17), /multiples of 16/);
});

test("quantiles are those of torch", () => {
  for (const { numbers, share, wanted } of values.quantiles) near([quantile(numbers, share)], [wanted]);
});

test("changes one by one", () => {
  for (const { source, target, wanted } of values.changes) assert.deepEqual(singleChanges(source, target), wanted);
});

test("sampling, masks and edits", async () => {
  const { sigmas, seed, size, mask } = values.flow;
  const seen = [];
  const settings = { seed, size, sigmas, text: text(1), nullText: text(0), guidance: 3 };
  near(await sample(field, settings, async (state) => seen.push(state)), values.flow.sampled, 2e-5);
  assert.deepEqual(seen.map((state) => state.sigma), sigmas.slice(0, -1));
  near(seen[0].clean, values.flow.clean, 2e-5);

  const latents = Float32Array.from(values.flow.latents);
  const targets = [text(1), text(1.001)];
  const found = await differenceMask(field, latents, text(0.2), targets, { seed, cells: size / 8, mask });
  near(found, values.flow.mask_found, 2e-5);

  const kept = [];
  for (const { degree, wanted } of values.flow.edits) {
    const target = moveText(text(0.2), text(1), degree);
    const source = degree === 0 ? target : text(0.2);
    const made = await edit(
      field,
      { latents, source, target, seed, sigmas, mask: Float32Array.from(values.flow.mask_given), kept },
      async () => {},
    );
    near(made, wanted, 5e-5);
  }
});
