// A table of blocks and steps in colours, of which one cell is chosen: by a click, or with the arrow keys and Enter.

const make = (tag, parent, props = {}) => parent.appendChild(Object.assign(document.createElement(tag), props));
const WAYS = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };

function render({ model, el }) {
  el.classList.add("ditlens-map");
  el.addEventListener("keydown", (event) => event.stopPropagation());
  let at = [0, 0];

  const show = () => {
    const rows = model.get("rows"), columns = model.get("columns"), chosen = model.get("cell");
    const focused = el.contains(document.activeElement);
    const table = document.createElement("table");
    table.setAttribute("role", "grid");
    table.setAttribute("aria-label", "Blocks and steps");
    const head = make("tr", make("thead", table));
    head.setAttribute("role", "row");
    make("th", head, { textContent: "block \\ step" });
    for (const column of columns) make("th", head, { textContent: column, scope: "col" });
    const body = make("tbody", table), cells = [];
    at = [Math.min(at[0], Math.max(0, rows.length - 1)), Math.min(at[1], Math.max(0, columns.length - 1))];
    rows.forEach((row, r) => {
      const line = make("tr", body);
      line.setAttribute("role", "row");
      make("th", line, { textContent: row, scope: "row" });
      cells.push(columns.map((column, c) => {
        const cell = make("td", line, { textContent: (model.get("texts")[r] || [])[c] ?? "" });
        cell.setAttribute("role", "gridcell");
        cell.setAttribute("aria-label", `block ${row}, step ${column}: ${cell.textContent || "not known"}`);
        cell.setAttribute("aria-selected", String(chosen[0] === r && chosen[1] === c));
        cell.tabIndex = r === at[0] && c === at[1] ? 0 : -1;
        cell.style.background = (model.get("colors")[r] || [])[c] || "";
        cell.style.color = (model.get("dark")[r] || [])[c] ? "#fff" : "#000";
        const pick = () => {
          at = [r, c];
          model.set("picked", { row: r, column: c, count: (model.get("picked").count || 0) + 1 });
          model.save_changes();
        };
        cell.onclick = pick;
        cell.onkeydown = (event) => {
          if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(); return; }
          const way = WAYS[event.key];
          if (!way) return;
          event.preventDefault();
          const next = (cells[r + way[0]] || [])[c + way[1]];
          if (!next) return;
          at = [r + way[0], c + way[1]];
          for (const each of cells.flat()) each.tabIndex = each === next ? 0 : -1;
          next.focus();
        };
        return cell;
      }));
    });
    el.replaceChildren(...(rows.length ? [table] : []));
    if (focused && cells.length) cells[at[0]][at[1]].focus({ preventScroll: true });
  };

  for (const name of ["rows", "columns", "texts", "colors", "cell"]) model.on(`change:${name}`, show);
  show();
}

export default { render };
