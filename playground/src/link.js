// An edit as a link, and as a cell of Python.

/**
 * The part of an address after "#".
 * @param {{text: string, seed: number, steps?: number}} portrait
 * @param {{wish: string, changes: Record<string, number> | null, source: string, target: string} | null} edit
 */
export function toLink({ text, seed, steps }, edit, degree) {
  const change = (changes) => Object.entries(changes).map((pair) => pair.join(":")).join(",");
  const asked = !edit ? {} : edit.wish ? { wish: edit.wish } : edit.changes ? { change: change(edit.changes) }
    : { source: edit.source, target: edit.target };
  const parts = { text, seed, ...(steps && { steps }), ...asked, ...(edit && { degree }) };
  return `#${new URLSearchParams(/** @type {any} */ (parts))}`;
}

/** A number from low to high in a text; undefined if it is none. */
function numberIn(text, low, high) {
  const value = text?.trim() ? Number(text) : NaN;
  return value >= low && value <= high ? value : undefined;
}

/** What a link asks for; null if it holds no portrait. Whatever is out of range is left out. */
export function fromLink(hash, attributes) {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  const text = parts.get("text")?.trim().slice(0, 400);
  if (!text) return null;
  const [source, target] = [parts.get("source"), parts.get("target")].map((each) => each?.slice(0, 400));
  const named = (parts.get("change") ?? "").split(",").map((pair) => pair.split(":"));
  const levels = named.map(([name, level]) => [name, numberIn(level, 0, (attributes[name]?.levels.length ?? 0) - 1)]);
  const changes = Object.fromEntries(levels.filter(([, level]) => Number.isInteger(level)));
  const wish = parts.get("wish")?.slice(0, 200);
  const isChange = Object.keys(changes).length > 0;
  const edit = wish ? { wish } : isChange ? { changes } : source && target ? { source, target } : null;
  const seed = Math.floor(numberIn(parts.get("seed"), 0, 2 ** 32 - 1) ?? 0);
  const [steps, degree] = [numberIn(parts.get("steps"), 1, 100), numberIn(parts.get("degree"), -1, 2) ?? 1];
  return { text, seed, steps, edit, degree };
}

/** The same in Python. JSON's way to quote a text is Python's, too. */
export function toPython(portrait, edit, degree) {
  const [text, source, target] = [portrait.text, edit.source, edit.target].map((each) => JSON.stringify(each));
  const steps = portrait.steps ? `, steps=${portrait.steps}` : "";
  const image = portrait.own ? 'image = "my.png"' : `image = model.generate(${text}, seed=${portrait.seed}${steps})`;
  return ["import ditlens as dl", "", 'model = dl.load("portraits")', image, "edit = dl.edit(", "    model, image,",
          `    source_text=${source},`, `    target_text=${target},`, `    degree=${degree},`, ")", "edit"].join("\n");
}
