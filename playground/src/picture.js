// Pictures: from the engine's planes to canvases, between two of them, and what differs.

export const SIDE = 128;
const AREA = SIDE * SIDE;

/** An empty canvas. */
function blank(side = SIDE) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  return canvas;
}

/** A canvas of pixels. @param {number} side @param {(at: number) => number[]} rgba the pixel with this number */
function painted(side, rgba) {
  const [canvas, image] = [blank(side), new ImageData(side, side)];
  for (let at = 0; at < side * side; at++) image.data.set(rgba(at), 4 * at);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** @param {Float32Array} pixels planes r, g, b in [0, 1] @returns {HTMLCanvasElement} */
export const toCanvas = (pixels) => painted(SIDE, (at) => [pixels[at], pixels[AREA + at], pixels[2 * AREA + at], 1].map(
  (part) => Math.round(255 * part)));

/** @param {HTMLCanvasElement} canvas @returns {Float32Array} its planes r, g, b */
export function toPixels(canvas) {
  const { data } = canvas.getContext("2d", { willReadFrequently: true }).getImageData(0, 0, SIDE, SIDE);
  return Float32Array.from({ length: 3 * AREA }, (_, k) => data[4 * (k % AREA) + Math.floor(k / AREA)] / 255);
}

/** A square part of an image, as large as the model's pictures. */
function cut(image, x, y, side) {
  const canvas = blank();
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, x, y, side, side, 0, 0, SIDE, SIDE);
  return canvas;
}

/** Cut a strip of square pictures. @returns {Promise<HTMLCanvasElement[]>} */
export async function cutStrip(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return Array.from({ length: image.width / image.height }, (_, k) => cut(image, k * image.height, 0, image.height));
}

/** The middle of a picture file. @param {Blob} file */
export async function fromFile(file) {
  const image = await createImageBitmap(file).catch(() => {
    throw new Error("This file is no picture that the browser can read. Choose a PNG, JPEG or WebP file.");
  });
  const side = Math.min(image.width, image.height);
  return toPixels(cut(image, (image.width - side) / 2, (image.height - side) / 2, side));
}

/** Draw a picture over what is there, as far as it has a share. */
export function drawOver(target, picture, share = 1) {
  const context = target.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.globalAlpha = share;
  context.drawImage(picture, 0, 0, target.width, target.height);
  context.globalAlpha = 1;
}

/** Draw a picture in the place of what is there. */
export function draw(target, picture) {
  target.getContext("2d").clearRect(0, 0, target.width, target.height);
  drawOver(target, picture);
}

/** Draw the left part of a picture over what is there. */
export function drawLeft(target, picture, share) {
  const context = target.getContext("2d");
  const [width, height] = [target.width * share, target.height];
  if (width >= 1) context.drawImage(picture, 0, 0, picture.width * share, picture.height, 0, 0, width, height);
}

const BRIGHT = [255, 226, 90]; // the largest difference; none is black, as in the legend

/**
 * Where two pictures differ: a map, mean and largest difference of 255, the share of pixels that moved more than 8.
 * @param {Float32Array} before @param {Float32Array} after
 */
export function difference(before, after) {
  const values = new Float32Array(AREA);
  for (let k = 0; k < 3 * AREA; k++) values[k % AREA] += (255 * Math.abs(after[k] - before[k])) / 3;
  const most = values.reduce((a, b) => Math.max(a, b), 0);
  const canvas = painted(SIDE, (at) => [...BRIGHT.map((part) => (part * values[at]) / (most || 1)), 255]);
  const mean = values.reduce((a, b) => a + b, 0) / AREA;
  return { canvas, mean, most, moved: values.filter((value) => value > 8).length / AREA };
}

/** Dims what lies outside a mask. @param {Float32Array} mask (cells,), 1 where the edit may act */
export const maskCanvas = (mask) => painted(Math.sqrt(mask.length), (at) => [20, 22, 28, 190 * (1 - mask[at])]);

/** Offer a canvas as a file. */
export function download(canvas, name) {
  Object.assign(document.createElement("a"), { href: canvas.toDataURL(), download: name }).click();
}
