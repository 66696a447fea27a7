// Short hands for the page's elements. Texts are set as text, never as HTML.

/** @param {string} id @returns {any} the element of the page */
export const byId = (id) => document.getElementById(id);

/**
 * Make an element; of its attributes, "text" is its text, and functions listen to the event of that name.
 * @param {string} tag @param {Record<string, any>} attributes @param {...(Node|string)} children @returns {any}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Say something to screen readers, once. */
export const announce = (text) => (byId("news").textContent = text);

/** Show a sentence in a place for them, or take it away. */
export function say(place, text) {
  byId(place).textContent = text;
  byId(place).hidden = !text;
  if (text) byId(place).scrollIntoView({ block: "nearest" });
}

/** Listen to an event. @param {string} id @param {string} kind @param {(event: any) => void} act */
export const on = (id, kind, act) => byId(id).addEventListener(kind, act);

/** Act on a form that is sent; nothing leaves the page. */
export const onSubmit = (id, act) => on(id, "submit", (event) => {
  event.preventDefault();
  act();
});

/** Show which radio button of a fieldset is chosen. */
export const choose = (id, value) => byId(id).querySelectorAll("input").forEach(
  (input) => (input.checked = input.value === value));

/**
 * Fill an element with a grid of buttons through which arrow keys lead.
 * @param {HTMLElement} host
 * @param {{rows: number, columns: number, label: string, onPick?: (cell: number) => void}} options
 * @returns {(shares: number[], names: string[], picked?: number) => void} shows values of 0 to 1
 */
export function heatGrid(host, { rows, columns, label, onPick = () => {} }) {
  const cell = (k) => make("button", { type: "button", role: "gridcell", tabindex: k ? -1 : 0, click: () => onPick(k) });
  const cells = Array.from({ length: rows * columns }, (_, k) => cell(k));
  const enter = (to) => cells.forEach((cell, k) => (cell.tabIndex = k === to ? 0 : -1));
  const lines = Array.from({ length: rows }, (_, row) => cells.slice(row * columns, (row + 1) * columns));
  host.replaceChildren(...lines.map((line) => make("div", { role: "row" }, ...line)));
  host.setAttribute("role", "grid");
  host.setAttribute("aria-label", label);
  host.style.setProperty("--columns", String(columns));
  host.onkeydown = (event) => {
    const from = cells.indexOf(/** @type {any} */ (event.target));
    const begin = from - (from % columns);
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, ArrowUp: from - columns, ArrowDown: from + columns,
                 Home: begin, End: begin + columns - 1 }[event.key];
    if (!cells[to]) return;
    event.preventDefault();
    enter(to);
    cells[to].focus();
  };
  return (shares, names, picked = -1) => {
    paint(cells, shares, names, picked, "aria-selected");
    if (picked >= 0 && !host.contains(document.activeElement)) enter(picked);
  };
}

/** Shade buttons by values of 0 to 1, name them, and mark the one that is picked. */
export function paint(cells, shares, names, picked, mark) {
  cells.forEach((cell, k) => {
    cell.style.setProperty("--share", String(Math.max(0, Math.min(1, shares[k] || 0))));
    cell.setAttribute("aria-label", names[k]);
    cell.setAttribute(mark, String(k === picked));
  });
}

/** Copy a text, and say so. */
export async function copy(text, button) {
  const before = (button.dataset.label ??= button.textContent);
  const copied = navigator.clipboard.writeText(text).then(() => "Copied", () => "Not allowed: select and copy it");
  announce((button.textContent = await copied));
  setTimeout(() => (button.textContent = before), 2000);
}

/** Write the name of the cell or word under pointer or focus, which holds its number, into the line for it. */
export function openPeeking() {
  for (const kind of ["focusin", "pointerover"]) {
    document.addEventListener(kind, ({ target }) => {
      const cell = /** @type {Element} */ (target).closest("[role=gridcell], #words button");
      if (cell) (cell.closest(".map")?.querySelector(".peek") ?? byId("peek")).textContent = cell.getAttribute("aria-label");
    });
  }
}
