// An edit as a link, and as a cell of Python.

/**
 * The part of an address after "#".
 * @param {{text: string, seed: number, steps?: number}} portrait
 * @param {{wish: string, changes: Record<string, number> | null, source: string, target: string} | null} edit
 * @param {number} degree
 * @returns {string}
 */
export function toLink(portrait, edit, degree) {
  const parts = new URLSearchParams({ text: portrait.text, seed: String(portrait.seed) });
  if (portrait.steps) parts.set("steps", String(portrait.steps));
  if (edit?.wish) parts.set("wish", edit.wish);
  else if (edit?.changes) parts.set("change", Object.entries(edit.changes).map((pair) => pair.join(":")).join(","));
  else if (edit) [["source", edit.source], ["target", edit.target]].forEach(([key, text]) => parts.set(key, text));
  if (edit) parts.set("degree", String(degree));
  return `#${parts}`;
}

const number = (text, low, high) => {
  const value = Number(text);
  return text !== null && text.trim() && Number.isFinite(value) && value >= low && value <= high ? value : null;
};

/**
 * What a link asks for; null if it holds no portrait. Whatever is out of range is left out.
 * @param {string} hash
 * @param {Record<string, {levels: any[]}>} attributes
 */
export function fromLink(hash, attributes) {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  const text = parts.get("text")?.trim().slice(0, 400);
  if (!text) return null;
  const [source, target] = [parts.get("source"), parts.get("target")];
  const named = (parts.get("change") ?? "").split(",").map((pair) => pair.split(":"));
  const pairs = named.map(([name, level]) => [name, number(level ?? null, 0, (attributes[name]?.levels.length ?? 0) - 1)]);
  const changes = Object.fromEntries(pairs.filter(([, level]) => Number.isInteger(level)));
  const wish = parts.get("wish")?.slice(0, 200) ?? "";
  const edit = wish ? { wish } : Object.keys(changes).length ? { changes } : source && target ? { source, target } : null;
  const seed = Math.floor(number(parts.get("seed"), 0, 2 ** 32 - 1) ?? 0);
  return { text, seed, steps: number(parts.get("steps"), 1, 100), edit, degree: number(parts.get("degree"), -1, 2) ?? 1 };
}

/** The same in Python. JSON's way to quote a text is Python's, too. */
export function toPython(portrait, edit, degree) {
  const say = JSON.stringify;
  const steps = portrait.steps ? `, steps=${portrait.steps}` : "";
  const image = portrait.own ? say("my.png") : "image";
  const lines = ["import ditlens as dl", "", 'model = dl.load("portraits")'];
  if (!portrait.own) lines.push(`image = model.generate(${say(portrait.text)}, seed=${portrait.seed}${steps})`);
  if (edit) {
    lines.push("edit = dl.edit(", `    model, ${image}, degree=${degree},`);
    lines.push(`    source_text=${say(edit.source)},`, `    target_text=${say(edit.target)},`, ")", "edit");
  }
  return lines.join("\n");
}
