// What the page knows. main.js changes it, the views show it.

/**
 * @typedef {{degree: number, pixels: Float32Array, canvas: HTMLCanvasElement, values: object, seconds?: number}} Node
 *   a computed picture of an edit
 * @typedef {{text: string, seed: number, steps?: number, own: boolean, pixels: Float32Array,
 *   canvas: HTMLCanvasElement, values: object, inside?: object}} Portrait
 * @typedef {{wish: string, changes: Record<string, number> | null, source: string, target: string, values: object,
 *   plan?: number, mask?: Float32Array, nodes: Node[], inside?: object, insideDegree?: number}} Edit
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
  /** @type {{of: string, row: number, way: string, block: number | null, step: number, clean: HTMLCanvasElement | null}} */
  look: { of: "portrait", row: -1, way: "from", block: null, step: 0, clean: null },
};

/** What a tour's step may wait for, and who waits. @type {Set<(deed: string) => void>} */
export const watchers = new Set();

/** Say that a person has done something. @param {string} name */
export function deed(name) {
  for (const watcher of watchers) watcher(name);
}
