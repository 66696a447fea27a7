// One call of the engine at a time. What a person asks for goes first; what can wait goes on when nothing is asked.

export class Desk {
  #turn = 0;
  #last = Promise.resolve();

  /**
   * @param {{cancel: () => void}} engine
   * @param {() => (() => Promise<void>) | null} later gives the next thing to do meanwhile, or nothing
   */
  constructor(engine, later) {
    this.engine = engine;
    this.later = later;
  }

  /**
   * Do this now, in the place of what is in hand.
   * @template T
   * @param {(current: () => boolean) => Promise<T>} call is told whether nothing else was asked for since
   * @returns {Promise<T | undefined>} nothing, if something else was asked for meanwhile
   */
  async now(call) {
    const turn = ++this.#turn;
    const current = () => turn === this.#turn;
    const before = this.#last;
    this.engine.cancel();
    let done = () => {};
    this.#last = new Promise((resolve) => (done = resolve));
    await before;
    try {
      if (!current()) return undefined;
      const result = await call(current);
      return current() ? result : undefined;
    } catch (error) {
      if (error.name !== "Cancelled" && current()) throw error;
      return undefined;
    } finally {
      done();
      if (current()) this.#meanwhile(current);
    }
  }

  async #meanwhile(current) {
    await new Promise((resolve) => setTimeout(resolve)); // first the page shows what was made
    for (let job = this.later(); job && current(); job = this.later()) {
      this.#last = job().catch(() => {});
      await this.#last;
    }
  }
}
