// The tour: seven steps, each with one thing to do and one question.

import { announce, byId, make, on } from "./dom.js";
import { watchers } from "./state.js";

/**
 * @typedef {{title: string, text: string, todo: string, deed: string, tab: string, question: string,
 *   answer: string}} Step a step's deed is what the page calls the thing to do
 * @param {Step[]} steps
 * @param {(tab: string) => void} goTo shows a tab
 */
export function openTour(steps, goTo) {
  const show = (at) => {
    goTo(steps[at].tab);
    showStep(steps, at, show);
  };
  on("tour-open", "click", () => show(0));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !byId("tour").hidden && !byId("keys").open) leave();
  });
}

function leave() {
  byId("tour").hidden = true;
  document.body.classList.remove("touring");
  watchers.clear();
  byId("tour-open").focus();
}

function showStep(steps, at, show) {
  const step = steps[at];
  const isLast = at === steps.length - 1;
  const button = (text, click, kind = "") => make("button", { type: "button", text, class: kind, click });
  const title = make("h2", { tabindex: -1, text: `${at + 1} of ${steps.length} · ${step.title}` });
  const todo = make("p", { class: "todo" }, make("span", { class: "tick", "aria-hidden": "true" }), step.todo);
  const next = button(isLast ? "Finish" : "Next", () => (isLast ? leave() : show(at + 1)), "next");
  const back = button("Back", () => show(at - 1));
  back.disabled = at === 0;
  byId("tour").replaceChildren(
    make("div", {}, title, make("p", { text: step.text })),
    make("div", {}, todo, make("details", {}, make("summary", { text: step.question }), make("p", { text: step.answer }))),
    make("div", { class: "row tour-buttons" }, back, next, make("span", { class: "grow" }), button("Leave", leave)),
  );
  byId("tour").hidden = false;
  document.body.classList.add("touring");
  watchers.clear();
  watchers.add((deed) => {
    if (deed !== step.deed || todo.classList.contains("done")) return;
    todo.classList.add("done");
    next.classList.add("main");
    announce(`Done. ${isLast ? "That was the tour." : "Next step when you like."}`);
  });
  title.focus({ preventScroll: true });
}
