// One call of the engine at a time. What a person asks for goes first; what can wait goes on when nothing is asked.

export class Desk {
  #turn = 0;
  /** @type {Promise<any>} */
  #last = Promise.resolve();

  /**
   * @param {{cancel: () => void}} engine
   * @param {() => (() => Promise<void>) | null} later gives the next thing to do meanwhile, or nothing
   */
  constructor(engine, later) {
    Object.assign(this, { engine, later });
  }

  /**
   * Do this now, in the place of what is in hand; gives nothing if something else is asked for meanwhile.
   * @template T @param {(isCurrent: () => boolean) => Promise<T>} call @returns {Promise<T | undefined>}
   */
  async now(call) {
    const turn = ++this.#turn;
    const isCurrent = () => turn === this.#turn;
    this.engine.cancel();
    const made = this.#last.then(() => (isCurrent() ? call(isCurrent) : undefined));
    this.#last = made.catch(() => {});
    try {
      const result = await made;
      return isCurrent() ? result : undefined;
    } catch (error) {
      if (error.name === "Cancelled" || !isCurrent()) return undefined;
      throw error;
    } finally {
      if (isCurrent()) setTimeout(() => this.#meanwhile(isCurrent)); // first the page shows what was made
    }
  }

  /** Do this after what is in hand, which goes on. @template T @param {() => Promise<T>} call @returns {Promise<T>} */
  after(call) {
    const made = this.#last.then(call);
    this.#last = made.catch(() => {});
    return made;
  }

  async #meanwhile(isCurrent) {
    for (let job = this.later(), ok = true; ok && job && isCurrent(); job = this.later()) {
      const done = job().then(() => true, () => false);
      this.#last = done;
      ok = await done;
    }
  }
}
