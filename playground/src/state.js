// What the page knows. main.js changes it, the views show it.

/**
 * @typedef {{degree: number, pixels: Float32Array, canvas: HTMLCanvasElement, values: object}} Node
 *   a computed picture of an edit
 * @typedef {{text: string, seed: number, steps?: number, own: boolean, pixels: Float32Array,
 *   canvas: HTMLCanvasElement, values: object, inside?: object}} Portrait
 * @typedef {{wish: string, changes: Record<string, number> | null, source: string, target: string, values: object,
 *   plan?: number, mask?: Float32Array, nodes: Node[], inside?: object}} Edit
 *   changes: attributes with the level asked for; null for texts that a person wrote
 */

export const state = {
  /** @type {any} words and levels of the world */ table: null,
  /** @type {any} how the model edits: degrees, steps */ recipe: null,
  ready: false,
  /** @type {Portrait | null} */ portrait: null,
  /** @type {Edit | null} */ edit: null,
  degree: 1,
  tab: "portrait",
  view: "after",
  mask: false,
  /** @type {{text: string, share: number} | null} what is being computed */ busy: null,
  /** @type {HTMLCanvasElement | null} a picture on its way */ preview: null,
  /** @type {any} what is looked at: of which run, from which row, its picture at the step */
  look: { of: "portrait", row: -1, way: "from", block: null, step: 0, clean: null },
};

/** Who waits for a deed: a step of the tour. @type {{waiting: ((deed: string) => void) | null}} */
export const tour = { waiting: null };

/** Say that a person has done something. @param {string} name */
export const deed = (name) => tour.waiting?.(name);
