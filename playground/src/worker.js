// The worker: downloads the model, runs it, and answers the calls of engine.js one after the other.

import * as ort from "../vendor/ort.wasm.bundle.min.mjs";
import { Tokenizer } from "../vendor/tokenizers.min.mjs";
import { singleChanges } from "./changes.js";
import { differenceMask, edit, moveText, sample } from "./ems.js";
import { GRAPHS, joined, Model } from "./model.js";
import { download, sizes } from "./store.js";

const BASE = new URL("../model/", import.meta.url);
const KEPT_PLANS = 4;
const MOST_CHANGES = 18; // one for each attribute: texts that differ in more are one change
const LONGEST = 1000; // letters of a text

/** @type {Model} */
let model;
let manifest;
let stopped = 0;
const plans = new Map();

async function readManifest() {
  if (!manifest) {
    const answer = await fetch(new URL("manifest.json", BASE), { cache: "no-cache" }).catch(() => null);
    if (!answer?.ok) {
      throw new Error(`The list of the model's files cannot be had: ${answer ? `the server answered ${answer.status}` : "you seem to be offline"}.`);
    }
    manifest = await answer.json().catch(() => {
      throw new Error("The server sent something else than the list of the model's files.");
    });
  }
  return manifest;
}

const calls = {
  async describe() {
    const { recipe } = await readManifest();
    return { ...(await sizes(manifest, BASE)), recipe };
  },

  async load(_, tell) {
    if (model) return;
    await readManifest();
    const files = await download(manifest, BASE, (done, total) => tell({ phase: "download", done, total }));
    const json = (name) => JSON.parse(new TextDecoder().decode(files[name]));
    ort.env.wasm.numThreads = 1; // more need headers that static hosts do not send
    ort.env.wasm.wasmBinary = files["ort.wasm"].buffer;
    const sessions = {};
    for (const [done, name] of GRAPHS.entries()) {
      tell({ phase: "start", done, total: GRAPHS.length });
      const weights = { path: `${name}.bin`, data: files[`${name}.bin`] };
      sessions[name] = await ort.InferenceSession.create(files[`${name}.onnx`], {
        executionProviders: ["wasm"],
        externalData: [weights],
        logSeverityLevel: 3, // errors only
      });
      delete files[`${name}.bin`];
    }
    const tokenizer = new Tokenizer(json("tokenizer.json"), {});
    const made = new Model(ort, sessions, tokenizer, manifest.recipe, json("words.json"));
    await warmUp(made);
    model = made;
    tell({ phase: "start", done: GRAPHS.length, total: GRAPHS.length });
    return { table: made.table };
  },

  async sample({ text, seed, steps = model.recipe.draft, previews = 0 }, tell) {
    const { recipe } = model;
    const inside = recorder(text);
    const latents = await sample(model.field(inside.attention), {
      seed, size: model.size, sigmas: recipe.sigmas[steps], guidance: recipe.guidance,
      text: await model.encodeText(text), nullText: await model.encodeText(""),
    }, inside.step(tell, previews));
    return { text, seed, ...(await picture(latents)), inside: inside.found() };
  },

  async read({ pixels }) {
    return { pixels, values: await model.measure(pixels) };
  },

  async plan({ pixels, source, target, seed }) {
    const latents = await model.encode(pixels);
    const texts = [await model.encodeText(source), await model.encodeText(target)];
    const single = singleChanges(source, target);
    const targets = [];
    const isList = single.length > 1 && single.length <= MOST_CHANGES;
    for (const text of isList ? single : [target]) targets.push(await model.encodeText(text));
    const [, height, width] = model.recipe.latents;
    const field = model.field();
    const breathing = async (...asked) => {
      await breathe();
      return field(...asked);
    };
    const mask = await differenceMask(breathing, latents, texts[0], targets, {
      seed, cells: height * width, mask: model.recipe.mask,
    });
    const plan = (plans.size ? Math.max(...plans.keys()) : 0) + 1;
    plans.set(plan, { latents, texts, target, mask, seed, kept: [] });
    if (plans.size > KEPT_PLANS) plans.delete(Math.min(...plans.keys()));
    return { plan, reconstruction: await model.decode(latents), mask };
  },

  async edit({ plan, degree }, tell) {
    const planned = plans.get(plan);
    if (!planned) throw new Error("This edit is too old; make it again.");
    const [source, target] = planned.texts;
    const inside = recorder(planned.target);
    const latents = await edit(model.field(inside.attention), {
      ...planned, source, target: moveText(source, target, degree),
      sigmas: model.recipe.sigmas[model.recipe.edit.steps],
    }, inside.step(tell));
    return { degree, ...(await picture(latents)), inside: inside.found() };
  },

  async decode({ latents }) {
    return model.decode(latents);
  },
};

async function picture(latents) {
  const pixels = await model.decode(latents);
  return { pixels, values: await model.measure(pixels) };
}

/** Refuse at once what no run can use. */
function check({ seed, steps, degree, text, source, target }) {
  const isWrong = (value, fits) => value !== undefined && !fits(value);
  const isText = (value) => typeof value === "string" && value.length <= LONGEST;
  if (isWrong(seed, (value) => Number.isInteger(value) && value >= 0 && value < 2 ** 32)) {
    throw new Error(`A seed is a whole number from 0 to ${2 ** 32 - 1}.`);
  }
  if (isWrong(steps, (value) => model?.recipe.sigmas[value])) {
    throw new Error(`The model has noise levels for ${Object.keys(model?.recipe.sigmas ?? {}).join(" or ")} steps.`);
  }
  if (isWrong(degree, Number.isFinite)) throw new Error("A degree is a number.");
  if ([text, source, target].some((value) => isWrong(value, isText))) {
    throw new Error(`A text has at most ${LONGEST} letters.`);
  }
}

/** The first call of a graph is slow; nobody waits for this one. */
async function warmUp(made) {
  const text = await made.encodeText("");
  const latents = new Float32Array(made.size);
  await made.field(() => {})(1, [{ latents, text }, { latents, text }]);
  await made.measure(await made.decode(latents));
}

/** Keeps what a run shows of itself: noise levels, clean estimates, attention. */
function recorder(text) {
  const [sigmas, attention, clean] = [[], [], []];
  return {
    attention: (map) => attention.push(map),
    step: (tell, previews = 0) => async (state) => {
      sigmas.push(state.sigma);
      clean.push(state.clean);
      const isPreview = previews && (state.step + 1) % previews === 0 && state.step + 1 < state.steps;
      tell(isPreview ? { ...state, pixels: await model.decode(state.clean) } : state);
      await breathe();
    },
    found: () => ({
      sigmas, blocks: model.recipe.blocks, rows: Math.sqrt(attention[0].length / model.recipe.blocks),
      words: model.words(text), attention: joined(attention), clean: joined(clean),
    }),
  };
}

/** Let a message come in between two steps: perhaps nobody waits any longer. */
async function breathe() {
  const call = current;
  await new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
  if (call <= stopped) throw Object.assign(new Error("Cancelled"), { name: "Cancelled" });
}

let current = 0;
let before = Promise.resolve();
self.onmessage = ({ data: { id, call, args, cancel } }) => {
  if (cancel) {
    stopped = cancel;
    return;
  }
  before = before.then(async () => {
    current = id;
    const begun = performance.now();
    try {
      if (id <= stopped) throw Object.assign(new Error("Cancelled"), { name: "Cancelled" });
      if (!model && !["describe", "load"].includes(call)) throw new Error("The model is not loaded yet.");
      check(args ?? {});
      const result = await calls[call](args, (news) => self.postMessage({ id, news }));
      if (result && typeof result === "object" && !(result instanceof Float32Array)) {
        result.seconds = (performance.now() - begun) / 1000;
      }
      self.postMessage({ id, result });
    } catch (error) {
      self.postMessage({ id, error: { name: error.name, message: error.message } });
    }
  });
};
