"use strict";

// Tables: the button of a heading sorts by its column, a second press the other way; cells without a value go last.
function sortBy(heading) {
  const table = heading.closest("table");
  const column = [...heading.parentNode.children].indexOf(heading);
  const way = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
  for (const other of heading.parentNode.children) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", way);
  const sign = way === "ascending" ? 1 : -1;
  const value = (row) => row.children[column].dataset.value;
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (column === 0 ? a.localeCompare(b) : Number(a) - Number(b));
  };
  const rows = [...table.tBodies[0].rows].sort((a, b) => compare(value(a), value(b)));
  table.tBodies[0].append(...rows);
}
for (const button of document.querySelectorAll(".sort")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}

// Wide tables: systems that hide scroll bars need a word that there is more.
for (const table of document.querySelectorAll(".scroll")) {
  const more = table.nextElementSibling;
  if (!more?.classList.contains("more")) continue;
  const look = () => { more.hidden = table.scrollLeft + table.clientWidth >= table.scrollWidth - 2; };
  table.addEventListener("scroll", look, { passive: true });
  new ResizeObserver(look).observe(table);
  look();
}

// Gallery: show what all filters let through; an item without results disappears.
const filters = document.getElementById("filters");
function applyFilters() {
  const { attribute, method, degree, failed } = filters.elements;
  let shown = 0;
  for (const item of document.querySelectorAll("#gallery .item")) {
    const about = item.dataset.attributes.split("|").includes(attribute.value) || attribute.value === "";
    let here = 0;
    for (const result of item.querySelectorAll(".results figure")) {
      const fits = about && (method.value === "" || result.dataset.method === method.value)
        && (degree.value === "" || result.dataset.degree === degree.value)
        && (!failed.checked || result.dataset.failed === "1");
      result.hidden = !fits;
      here += fits;
    }
    item.hidden = here === 0;
    shown += here;
  }
  document.getElementById("shown").textContent = shown === 1 ? "1 result" : `${shown} results`;
}
filters.addEventListener("input", applyFilters);
filters.addEventListener("submit", (event) => event.preventDefault());
applyFilters();

// Curves: the names in the legend bring their lines forward; all others fade.
const names = [...document.querySelectorAll(".legend button")];
for (const name of names) {
  name.addEventListener("click", () => {
    name.setAttribute("aria-pressed", name.getAttribute("aria-pressed") !== "true");
    const chosen = names.filter((n) => n.getAttribute("aria-pressed") === "true").map((n) => n.dataset.method);
    for (const line of document.querySelectorAll(".chart > svg .series")) {
      line.classList.toggle("faded", chosen.length > 0 && !chosen.includes(line.dataset.method));
    }
  });
}
