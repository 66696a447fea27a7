// The download: pieces of gzipped files, kept in the browser's cache, so that what has arrived is not asked for again.

const CACHE = "ditlens-playground";
const AT_ONCE = 4;

/** The cache, or null where there is none: an insecure address, a private window. */
async function openCache() {
  try {
    return await caches.open(CACHE);
  } catch {
    return null;
  }
}

/** Addresses of all pieces, each once, with their bytes. */
function piecesOf(manifest, base) {
  const pieces = Object.values(manifest.files).flatMap((file) => file.parts);
  return new Map(pieces.map((piece) => [new URL(`parts/${piece.name}`, base).href, piece.bytes]));
}

/**
 * Bytes of the download, and how many of them are here already.
 * @param {object} manifest
 * @param {URL} base the folder of the manifest
 */
export async function sizes(manifest, base) {
  const pieces = piecesOf(manifest, base);
  const kept = new Set(((await (await openCache())?.keys()) ?? []).map((request) => request.url));
  const all = [...pieces];
  const sum = (some) => some.reduce((total, [, bytes]) => total + bytes, 0);
  return { download: sum(all), cached: sum(all.filter(([url]) => kept.has(url))) };
}

/**
 * All files of a manifest, unpacked.
 * @param {object} manifest
 * @param {URL} base the folder of the manifest
 * @param {(done: number, total: number) => void} onBytes
 * @returns {Promise<Object<string, Uint8Array>>}
 */
export async function download(manifest, base, onBytes) {
  const pieces = piecesOf(manifest, base);
  const cache = await openCache();
  const total = [...pieces.values()].reduce((sum, bytes) => sum + bytes, 0);
  const arrived = new Map();
  let done = 0;
  const waiting = [...pieces];
  const one = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [url, bytes] = next;
      arrived.set(url, await piece(cache, url, bytes, (more) => onBytes((done += more), total)));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
  await forget(cache, pieces);
  const files = {};
  for (const [name, file] of Object.entries(manifest.files)) {
    const parts = file.parts.map((part) => arrived.get(new URL(`parts/${part.name}`, base).href));
    files[name] = await unpacked(parts, file).catch(async () => {
      await globalThis.caches?.delete(CACHE).catch(() => {});
      throw new Error(`The file ${name} arrived damaged. Try again: it is fetched anew.`);
    });
  }
  return files;
}

/** One piece, from the cache or from the server. */
async function piece(cache, url, bytes, onBytes) {
  const kept = await cache?.match(url).then((found) => found?.arrayBuffer()).catch(() => null); // else it is fetched
  if (kept?.byteLength === bytes) {
    onBytes(bytes);
    return new Uint8Array(kept);
  }
  const data = await fetched(url, bytes, onBytes);
  await cache?.put(url, new Response(data)).catch(() => {}); // the disk may be full
  return data;
}

async function fetched(url, bytes, onBytes) {
  const data = new Uint8Array(bytes);
  let at = 0;
  try {
    const response = await fetch(url, { cache: "no-store" });
    if (!response.ok) throw new Error(`the server answered ${response.status}`);
    const reader = response.body.getReader();
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      if (at + read.value.length > bytes) throw new Error("the server sent something else");
      data.set(read.value, at);
      at += read.value.length;
      onBytes(read.value.length);
    }
    if (at !== bytes) throw new Error("the connection ended too early");
  } catch (error) {
    throw new Error(`The download stopped: ${error.message}. What has arrived is kept; try again to go on.`);
  }
  return data;
}

/** Drop what an older version of the page left in the cache. */
async function forget(cache, pieces) {
  for (const request of (await cache?.keys()) ?? []) {
    if (!pieces.has(request.url)) await cache.delete(request);
  }
}

/** A file of its gzipped pieces. */
async function unpacked(parts, file) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = new Uint8Array(await new Response(stream).arrayBuffer());
  if (data.length !== file.bytes) throw new Error("too short");
  return file.planes ? interleaved(data) : data;
}

/** Numbers of two bytes each, whose low bytes came first and whose high bytes followed: they pack better so. */
function interleaved(planes) {
  const half = planes.length / 2;
  const data = new Uint8Array(planes.length);
  for (let i = 0; i < half; i++) {
    data[2 * i] = planes[i];
    data[2 * i + 1] = planes[half + i];
  }
  return data;
}
