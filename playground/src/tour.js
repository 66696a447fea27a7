// The tour: seven steps, each with one thing to do and one question. It is a bar; the page stays in use.

import { announce, byId, on } from "./dom.js";
import { tour } from "./state.js";

/**
 * @param {{title: string, text: string, todo: string, deed: string, tab: string, question: string,
 *   answer: string}[]} steps what data/tour.json holds; a deed is what the page calls the thing to do
 * @param {(tab: string) => void} goTo shows a tab
 */
export function openTour(steps, goTo) {
  let at = 0;
  const leave = () => {
    byId("tour").hidden = true;
    document.body.classList.remove("touring");
    tour.waiting = null;
    byId("tour-open").focus();
  };
  const show = (number) => {
    at = number;
    if (at === steps.length) return leave();
    goTo(steps[at].tab);
    showStep(steps[at], `${at + 1} of ${steps.length}`);
    byId("tour-back").disabled = at === 0;
    byId("tour-next").textContent = at + 1 < steps.length ? "Next" : "Finish";
    return byId("tour-title").focus({ preventScroll: true });
  };
  on("tour-open", "click", () => show(0));
  on("tour-back", "click", () => show(at - 1));
  on("tour-next", "click", () => show(at + 1));
  on("tour-leave", "click", leave);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !byId("tour").hidden && !byId("keys").open) leave();
  });
}

function showStep({ title, text, todo, question, answer, deed: wanted }, number) {
  const said = { title: `${number} · ${title}`, text, todo, question, answer };
  for (const [part, words] of Object.entries(said)) byId(`tour-${part}`).textContent = words;
  byId("tour-fold").open = false;
  byId("tour").hidden = false;
  document.body.classList.add("touring");
  const mark = (isDone) => [["tour-todo", "done"], ["tour-next", "main"]].forEach(
    ([part, kind]) => byId(part).classList.toggle(kind, isDone));
  mark(false);
  tour.waiting = (deed) => {
    if (deed !== wanted) return;
    tour.waiting = null;
    mark(true);
    announce("Done. Go on when you like.");
  };
}
