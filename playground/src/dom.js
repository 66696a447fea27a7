// Short hands for the page's elements. Texts are set as text, never as HTML.

/** @param {string} id @returns {any} the element of the page */
export const byId = (id) => document.getElementById(id);

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, any>} attributes "text" is its text; functions listen to the event of that name
 * @param {...(Node|string)} children
 * @returns {any}
 */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") element.textContent = value;
    else if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Say something to screen readers, once. */
export function announce(text) {
  byId("news").textContent = text;
}

/**
 * Fill a fieldset with a row of radio buttons.
 * @param {HTMLElement} host
 * @param {[string, string][]} choices value and label
 * @param {(value: string) => void} onPick
 * @returns {(value: string) => void} shows another choice
 */
export function segments(host, choices, onPick) {
  const inputs = choices.map(([value, label]) => {
    const input = make("input", { type: "radio", name: host.id, value, change: () => onPick(value) });
    host.append(make("label", {}, input, make("span", { text: label })));
    return input;
  });
  return (value) => inputs.forEach((input) => (input.checked = input.value === value));
}

/**
 * Fill an element with a grid of buttons through which arrow keys lead.
 * @param {HTMLElement} host
 * @param {{rows: number, columns: number, label: string, onPick: (cell: number) => void,
 *   onLook?: (cell: number | null) => void}} options onLook is told the cell under pointer or focus
 * @returns {(shares: number[], names: string[], picked?: number) => void} shows values of 0 to 1
 */
export function heatGrid(host, { rows, columns, label, onPick, onLook = () => {} }) {
  const cells = Array.from({ length: rows * columns }, (_, k) =>
    make("button", {
      type: "button", role: "gridcell", tabindex: k ? -1 : 0, click: () => onPick(k),
      focus: () => onLook(k), blur: () => onLook(null),
      pointerenter: () => onLook(k), pointerleave: () => onLook(null),
    }));
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  host.setAttribute("role", "grid");
  host.setAttribute("aria-label", label);
  host.style.setProperty("--columns", String(columns));
  for (let row = 0; row < rows; row++) {
    host.append(make("div", { role: "row" }, ...cells.slice(row * columns, (row + 1) * columns)));
  }
  host.addEventListener("keydown", (event) => {
    const from = cells.indexOf(/** @type {any} */ (event.target));
    const ends = { Home: from - (from % columns), End: from - (from % columns) + columns - 1 };
    const to = ends[event.key] ?? from + (moves[event.key] ?? NaN);
    if (!cells[to]) return;
    event.preventDefault();
    focusOn(to).focus();
  });
  const focusOn = (to) => {
    cells.forEach((cell, k) => (cell.tabIndex = k === to ? 0 : -1));
    return cells[to];
  };
  return (shares, names, picked = -1) => {
    cells.forEach((cell, k) => {
      cell.style.setProperty("--share", String(Math.max(0, Math.min(1, shares[k] || 0))));
      cell.setAttribute("aria-label", names[k]);
      cell.setAttribute("aria-selected", String(k === picked));
    });
    if (picked >= 0 && !host.contains(document.activeElement)) focusOn(picked);
  };
}

/** Copy a text, and say so on the button. */
export async function copy(text, button) {
  const before = (button.dataset.label ??= button.textContent);
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed here: select the text and copy it";
  }
  announce(button.textContent);
  setTimeout(() => (button.textContent = before), 2000);
}
