// The tour: seven steps, each with one thing to do and one question.

import { announce, byId, make } from "./dom.js";
import { watchers } from "./state.js";

/** @type {{title: string, text: string, todo: string, deed: string, tab: string, question: string, answer: string}[]} */
const STEPS = [
  {
    title: "Text", tab: "portrait", deed: "reworded",
    text: "Everything begins with a text and with noise. The seed is the noise; the text says what to make of it.",
    todo: "Change a word of the text, keep the seed, and draw.",
    question: "What stayed the same, and why?",
    answer: "What the text leaves open is decided by the noise. The same noise makes most of it again: the pose, often whole " +
      "attributes that you did not name.",
  },
  {
    title: "Two encoders", tab: "inside", deed: "word",
    text: "Two text encoders read the text. Of each token both write a row of numbers, put side by side; of the whole text " +
      "they write one vector more, the pooled embedding.",
    todo: "Choose a word: its row is what the picture can read.",
    question: "There are always 64 rows. Your text has fewer words. What is in the others?",
    answer: "The beginning and the end of the text, its commas, and padding. They are attended to as well: the sentence under " +
      "the words says how much.",
  },
  {
    title: "Joint attention", tab: "inside", deed: "patch",
    text: "In each of six blocks, the 64 rows of the text and the 64 patches of the picture share one attention: all of them " +
      "look at all of them.",
    todo: "Choose a patch of the picture. The words are shaded by how much it looks at them.",
    question: "Does only the picture look at the text?",
    answer: "No. Choose a word and then “where it looks”: text rows look at patches, too, and so the text changes from block " +
      "to block. There is no separate cross-attention.",
  },
  {
    title: "Velocity", tab: "inside", deed: "step",
    text: "What the network predicts is a velocity: noise minus clean. Subtract it from the noisy picture, as far as there is " +
      "noise, and you have its guess of the finished one.",
    todo: "Move the step slider to the left: see the first guesses.",
    question: "Why is the first guess so blurred?",
    answer: "With nearly all noise, many portraits are possible, and the best guess is about their mean. Less noise, fewer " +
      "possible portraits, a sharper guess.",
  },
  {
    title: "Steps", tab: "portrait", deed: "drawn",
    text: "The velocity is a slope. The sampler follows it a little way, asks again, and so on: twelve times here, from " +
      "noise to picture.",
    todo: "Choose another number of steps, and draw the same portrait again.",
    question: "Why is the portrait nearly the same?",
    answer: "The path from noise to picture is nearly straight: rectified flow is trained for that. A few long steps then lead to " +
      "nearly the same place as many short ones.",
  },
  {
    title: "Edit", tab: "edit", deed: "dragged",
    text: "An edit has two texts: what the picture shows and what it should show. The difference of both velocities moves " +
      "the picture; the degree says how far the text goes from one to the other.",
    todo: "Make a wish, then drag “How far” to 0.5.",
    question: "A smile grows with the degree, a crown is suddenly there. Why?",
    answer: "Smiles of every size were in the training pictures, half a crown in none. Between “no hat” and “a crown” the model " +
      "has to choose; mostly it does so between 0.5 and 0.75.",
  },
  {
    title: "Inside", tab: "inside", deed: "attribute",
    text: "Where is the smile? A probe finds where it can be read, a patch from another run where it is used, attention where " +
      "its words are looked at: three answers to three questions.",
    todo: "Under “Readable or used?”, choose another attribute and compare its maps.",
    question: "Is what can be read also used?",
    answer: "Not always. The tilt of the head can be read from nearly every patch, and no single patch brings it along. " +
      "Notebook 06 asks further.",
  },
];

let at = -1;
let opener = null;

/** @param {(tab: string) => void} goTo shows a tab */
export function openTour(goTo) {
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
  const step = STEPS[at];
  const bar = byId("tour");
  goTo(step.tab);
  const title = make("h2", { tabindex: -1, text: `${at + 1} of ${STEPS.length} · ${step.title}` });
  const todo = make("p", { class: "todo" }, make("span", { class: "tick", "aria-hidden": "true" }), step.todo);
  const question = make("details", {}, make("summary", { text: step.question }), make("p", { text: step.answer }));
  const button = (text, act, kind = "") => make("button", { type: "button", text, class: kind, click: act });
  const last = at === STEPS.length - 1;
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
