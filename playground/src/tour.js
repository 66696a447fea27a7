// The tour: seven steps, each with one thing to do and one question.

import { announce, byId, make } from "./dom.js";
import { watchers } from "./state.js";

let steps = [];
let at = -1;
let opener = null;

/**
 * @param {{title: string, text: string, todo: string, deed: string, tab: string, question: string, answer: string}[]} told
 *   what data/tour.json holds; a step's deed is what the page calls the thing to do
 * @param {(tab: string) => void} goTo shows a tab
 */
export function openTour(told, goTo) {
  steps = told;
  const bar = byId("tour");
  byId("tour-open").addEventListener("click", () => {
    opener = byId("tour-open");
    show(0, goTo);
  });
  bar.addEventListener("keydown", (event) => event.key === "Escape" && leave());
  document.addEventListener("keydown", (event) => event.key === "Escape" && !bar.hidden && !byId("keys").open && leave());
}

function leave() {
  byId("tour").hidden = true;
  document.body.classList.remove("touring");
  watchers.clear();
  at = -1;
  opener?.focus();
}

function show(number, goTo) {
  at = number;
  const step = steps[at];
  const bar = byId("tour");
  goTo(step.tab);
  const title = make("h2", { tabindex: -1, text: `${at + 1} of ${steps.length} · ${step.title}` });
  const todo = make("p", { class: "todo" }, make("span", { class: "tick", "aria-hidden": "true" }), step.todo);
  const question = make("details", {}, make("summary", { text: step.question }), make("p", { text: step.answer }));
  const button = (text, act, kind = "") => make("button", { type: "button", text, class: kind, click: act });
  const last = at === steps.length - 1;
  const next = button(last ? "Finish" : "Next", () => (last ? leave() : show(at + 1, goTo)), "next");
  const back = button("Back", () => show(at - 1, goTo));
  back.disabled = at === 0;
  bar.replaceChildren(
    make("div", { class: "tour-text" }, title, make("p", { text: step.text })),
    make("div", { class: "tour-do" }, todo, question),
    make("div", { class: "row tour-buttons" }, back, next, make("span", { class: "grow" }), button("Leave", leave)),
  );
  bar.hidden = false;
  document.body.classList.add("touring");
  watchers.clear();
  watchers.add((deed) => {
    if (deed !== step.deed || todo.classList.contains("done")) return;
    todo.classList.add("done");
    next.classList.add("main");
    announce(`Done. ${last ? "That was the tour." : "Next step when you like."}`);
  });
  title.focus({ preventScroll: true });
}
