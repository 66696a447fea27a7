// Sampling and editing with a rectified flow: ditlens.flow, ditlens.ems.masks and ditlens.ems.engine, in short.
//
//   latents(sigma) = (1 - sigma) clean + sigma noise      sigma from 1 (noise) to 0 (clean)
//   velocity       = noise - clean, as the transformer predicts it
//
// A field is an async function (sigma, rows) => velocities; a row is {latents, text}. Latents are Float32Array.

import { Noise } from "./random.js";

/** a + share (b - a), number by number. */
export function mix(a, b, share) {
  return a.map((value, i) => value + share * (b[i] - value));
}

/** The text at a degree: c0 + degree (c1 - c0), tokens and pooled alike. */
export function moveText(source, target, degree) {
  if (degree === 0 || degree === 1) return degree ? target : source;
  return {
    tokens: mix(source.tokens, target.tokens, degree),
    pooled: mix(source.pooled, target.pooled, degree),
  };
}

/**
 * Sample a picture's latents from noise with Euler steps.
 * @param {Function} field
 * @param {{seed: number, size: number, sigmas: number[], text: object, nullText: object, guidance: number}} settings
 * @param {(state: {step: number, steps: number, sigma: number, clean: Float32Array}) => Promise<void>} onStep
 * @returns {Promise<Float32Array>}
 */
export async function sample(field, { seed, size, sigmas, text, nullText, guidance }, onStep) {
  let latents = new Noise(seed).normal(size);
  const steps = sigmas.length - 1;
  for (let step = 0; step < steps; step++) {
    const [sigma, next] = [sigmas[step], sigmas[step + 1]];
    const [away, towards] = await field(sigma, [{ latents, text: nullText }, { latents, text }]);
    const velocity = mix(away, towards, guidance);
    const clean = latents.map((value, i) => value - sigma * velocity[i]);
    latents = latents.map((value, i) => value + (next - sigma) * velocity[i]);
    await onStep({ step, steps, sigma, clean });
  }
  return latents;
}

/** The value below which a share of the values lies, between two of them linearly. */
export function quantile(values, share) {
  const sorted = Float32Array.from(values).sort();
  const place = share * (sorted.length - 1);
  const below = Math.floor(place);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (place - below) * (sorted[above] - sorted[below]);
}

/**
 * Where an edit may act: where the model would do something else under a target than under the source.
 * @param {Function} field
 * @param {Float32Array} latents clean latents of the picture
 * @param {object} source its text
 * @param {object[]} targets the wanted texts, one for each change
 * @param {{seed: number, cells: number, mask: object}} settings cells: height times width of the latents
 * @returns {Promise<Float32Array>} (cells,), in [0, 1]
 */
export async function differenceMask(field, latents, source, targets, { seed, cells, mask }) {
  const noise = new Noise(seed);
  const totals = targets.map(() => new Float32Array(cells));
  for (let draw = 0; draw < mask.draws; draw++) {
    const point = mix(latents, noise.normal(latents.length), mask.level);
    const rows = [source, ...targets].map((text) => ({ latents: point, text }));
    const velocities = [];
    for (let k = 0; k < rows.length; k += mask.together) {
      velocities.push(...(await field(mask.level, rows.slice(k, k + mask.together))));
    }
    const [before, ...after] = velocities;
    after.forEach((velocity, target) => addChange(totals[target], velocity, before, mask.draws));
  }
  return joined(totals, mask);
}

/** Add the mean over channels of |velocity - before| to a total over the cells. */
function addChange(total, velocity, before, draws) {
  const cells = total.length;
  const channels = before.length / cells;
  for (let cell = 0; cell < cells; cell++) {
    let sum = 0;
    for (let at = cell; at < before.length; at += cells) sum += Math.abs(velocity[at] - before[at]);
    total[cell] += sum / channels / draws;
  }
}

/** One mask of several changes, each scaled by its own largest values; changes that are hardly any left out. */
function joined(totals, { edge: [low, high], least }) {
  const tops = totals.map((total) => Math.max(quantile(total, 0.98), 1e-12));
  const largest = Math.max(...tops);
  const found = new Float32Array(totals[0].length);
  totals.forEach((total, target) => {
    if (tops[target] < least * largest) return;
    total.forEach((value, cell) => {
      const share = (value / tops[target] - low) / (high - low);
      found[cell] = Math.max(found[cell], Math.min(1, Math.max(0, share)));
    });
  });
  return found;
}

/** What is edited inside the mask, what is kept outside. */
function blend(edited, kept, mask) {
  return edited.map((value, i) => {
    const share = mask[i % mask.length];
    return share === 1 ? value : share === 0 ? kept[i] : kept[i] + share * (value - kept[i]);
  });
}

/**
 * Edit latents by the difference of two velocities: z += (t' - t) (v_target(p) - v_source(q)), from z = x, with
 * q = (1 - t) x + t noise and p = q + z - x.
 * @param {Function} field
 * @param {object} settings
 * @param {Float32Array} settings.latents x, the picture's latents
 * @param {object} settings.source the source text
 * @param {object} settings.target the target text, moved by the degree already
 * @param {number} settings.seed
 * @param {number[]} settings.sigmas
 * @param {Float32Array} settings.mask
 * @param {Float32Array[]} settings.kept v_source(q) of every step, which holds no z: filled by the first edit, used
 *   by every further degree
 * @param {(state: object) => Promise<void>} onStep
 * @returns {Promise<Float32Array>}
 */
export async function edit(field, { latents: x, source, target, seed, sigmas, mask, kept }, onStep) {
  const noise = new Noise(seed);
  const steps = sigmas.length - 1;
  let z = x;
  for (let step = 0; step < steps; step++) {
    const [sigma, next] = [sigmas[step], sigmas[step + 1]];
    const q = mix(x, noise.normal(x.length), sigma);
    const p = q.map((value, i) => value + z[i] - x[i]);
    const rows = kept[step] ? [] : [{ latents: q, text: source }];
    const velocities = await field(sigma, [...rows, { latents: p, text: target }]);
    kept[step] ??= velocities[0];
    const towards = source === target ? kept[step] : velocities.at(-1);
    const difference = towards.map((value, i) => value - kept[step][i]);
    const clean = blend(z.map((value, i) => value - sigma * difference[i]), x, mask);
    z = blend(z.map((value, i) => value + (next - sigma) * difference[i]), x, mask);
    await onStep({ step, steps, sigma, clean });
  }
  return z;
}
