// A picture cut into its patches, and the words of its prompt: one of them is asked about, all others show their share.

const make = (tag, parent, props = {}) => parent.appendChild(Object.assign(document.createElement(tag), props));
const WAYS = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };

function render({ model, el }) {
  el.classList.add("ditlens-patches");
  el.addEventListener("keydown", (event) => event.stopPropagation());
  const stage = make("div", el, { className: "ditlens-stage" });
  const img = make("img", stage, { draggable: false });
  const grid = make("div", stage, { className: "ditlens-grid" });
  grid.setAttribute("role", "grid");
  grid.setAttribute("aria-label", "Patches of the picture");
  const words = make("div", el, { className: "ditlens-prompt" });
  words.setAttribute("role", "listbox");
  words.setAttribute("aria-label", "Words of the prompt");
  let cells = [], shown = "";

  const pick = (kind, number) => {
    model.set("picked", { kind, number, count: (model.get("picked").count || 0) + 1 });
    model.save_changes();
  };
  const keys = (all, index, step, act) => (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); return; }
    const way = WAYS[event.key];
    if (!way) return;
    event.preventDefault();
    const next = all()[step(index, way)];
    if (!next) return;
    for (const each of all()) each.tabIndex = each === next ? 0 : -1;
    next.focus();
  };

  const build = () => {
    const [rows, columns] = model.get("grid").length ? model.get("grid") : [0, 0];
    grid.replaceChildren();
    cells = [];
    for (let r = 0; r < rows; r++) {
      const row = make("div", grid);
      row.setAttribute("role", "row");
      for (let c = 0; c < columns; c++) {
        const index = r * columns + c, cell = make("div", row, { tabIndex: index ? -1 : 0 });
        cell.setAttribute("role", "gridcell");
        cell.onclick = () => { for (const each of cells) each.tabIndex = each === cell ? 0 : -1; pick("patch", index); };
        cell.onkeydown = keys(() => cells, index, (k, [dr, dc]) => {
          const [nr, nc] = [r + dr, c + dc];
          return nr < 0 || nc < 0 || nr >= rows || nc >= columns ? -1 : nr * columns + nc;
        }, () => pick("patch", index));
        cells.push(cell);
      }
    }
    words.replaceChildren();
    model.get("words").forEach((word, index) => {
      const each = make("div", words, { textContent: word, tabIndex: index ? -1 : 0 });
      each.setAttribute("role", "option");
      each.onclick = () => pick("word", index);
      each.onkeydown = keys(() => [...words.children], index, (k, [dr, dc]) => k + dr + dc, () => pick("word", index));
    });
    paint();
  };

  const paint = () => {
    const shares = model.get("patches"), top = Math.max(...shares, 1e-9);
    const [kind, number] = model.get("asked").length ? model.get("asked") : ["", -1];
    cells.forEach((cell, index) => {
      const share = shares.length ? shares[index] : null;
      cell.style.background = share === null ? "" : `rgba(0, 0, 0, ${(0.72 * (1 - share / top)).toFixed(3)})`;
      const is = kind === "patch" && number === index;
      cell.setAttribute("aria-selected", String(is));
      const told = `patch ${index}${share === null ? "" : `: ${(100 * share).toFixed(1)} %`}`;
      cell.setAttribute("aria-label", told);
      cell.title = told;
    });
    const parts = model.get("shares"), most = Math.max(...parts, 1e-9);
    [...words.children].forEach((each, index) => {
      const share = parts.length ? parts[index] : null;
      each.style.background = share === null ? "" : `rgba(230, 159, 0, ${(0.75 * share / most).toFixed(3)})`;
      each.setAttribute("aria-selected", String(kind === "word" && number === index));
      each.title = share === null ? "" : `${(100 * share).toFixed(1)} %`;
    });
    el.dataset.painted = String(Number(el.dataset.painted || 0) + 1);
  };

  const load = () => {
    const bytes = model.get("picture");
    if (shown) URL.revokeObjectURL(shown);
    shown = bytes && bytes.byteLength ? URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })) : "";
    if (shown) img.src = shown; else img.removeAttribute("src");
    img.alt = model.get("alt");
  };

  for (const name of ["grid", "words"]) model.on(`change:${name}`, build);
  for (const name of ["patches", "shares", "asked"]) model.on(`change:${name}`, paint);
  for (const name of ["picture", "alt"]) model.on(`change:${name}`, load);
  load();
  build();
}

export default { render };
