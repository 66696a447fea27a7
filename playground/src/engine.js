// The model as the page sees it: promises, answered by the worker. See worker.js for what each call does.

// The smallest module with an instruction of 128 bits.
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);

/** Whether this browser can run the model. */
export function supported() {
  try {
    const parts = [globalThis.Worker, globalThis.DecompressionStream, globalThis.BigInt64Array];
    return parts.every(Boolean) && WebAssembly.validate(SIMD);
  } catch {
    return false;
  }
}

export class Engine {
  constructor() {
    this.last = 0;
    this.waiting = new Map();
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.worker.onmessage = ({ data }) => this.hear(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.fail(new Error(`The model cannot run in this browser: ${event.message ?? "its worker did not start"}.`));
    };
  }

  hear({ id, news, result, error }) {
    const call = this.waiting.get(id);
    if (!call) return;
    if (news) {
      call.onNews?.(news);
      return;
    }
    this.waiting.delete(id);
    if (error) call.reject(Object.assign(new Error(error.message), { name: error.name }));
    else call.resolve(result);
  }

  fail(error) {
    this.failed = error;
    for (const call of this.waiting.values()) call.reject(error);
    this.waiting.clear();
  }

  ask(call, args = {}, onNews) {
    if (this.failed) return Promise.reject(this.failed);
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject, onNews });
      this.worker.postMessage({ id, call, args });
    });
  }

  /** What would be loaded: {download, cached} in bytes, and the recipe. */
  describe() {
    return this.ask("describe");
  }

  /** Download and start the model; again after a failure, to go on. Gives the table of words. */
  async load(onProgress) {
    this.table = (await this.ask("load", {}, onProgress))?.table ?? this.table;
    return this.table;
  }

  /** A picture of a text: {pixels, values, text, seed, seconds, inside}. */
  sample(settings, onStep) {
    return this.ask("sample", settings, onStep);
  }

  /** The attributes of a picture: {pixels, values}. */
  read(settings) {
    return this.ask("read", settings);
  }

  /** All of an edit that does not depend on its degree: {plan, reconstruction, mask, seconds}. */
  plan(settings) {
    return this.ask("plan", settings);
  }

  /** A plan at a degree: {degree, pixels, values, seconds, inside}. */
  edit(settings, onStep) {
    return this.ask("edit", settings, onStep);
  }

  /** The picture of latents, such as the clean estimate of a step. */
  decode(settings) {
    return this.ask("decode", settings);
  }

  /** Stop every call that was made until now, each after the step in hand. */
  cancel() {
    this.worker.postMessage({ cancel: this.last });
  }
}
