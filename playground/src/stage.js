// The picture, what lies over it, and the degree below it.

import { lookUp, nearest } from "./degrees.js";
import { byId, make, on } from "./dom.js";
import { showMeasures } from "./edit.js";
import { difference, draw, drawLeft, drawOver, maskCanvas } from "./picture.js";
import { deed, state } from "./state.js";
import { caption, levelsOf } from "./words.js";

const [LOWEST, HIGHEST] = [-1, 2]; // ends of the degree slider, as in Python's editor
const REST = 300; // milliseconds without a move after which the true edit is made

/** @param {() => void} settle the degree rests */
export function openStage(settle) {
  let resting = 0;
  on("degree", "input", (event) => {
    state.degree = Math.round(100 * Number(event.target.value)) / 100;
    if (state.degree <= 0.5) deed("dragged");
    showMeasures();
    showStage();
    clearTimeout(resting);
    resting = setTimeout(settle, REST);
  });
  on("view-box", "change", () => {
    state.view = byId("view").querySelector(":checked").value;
    state.mask = byId("mask").checked;
    showStage();
  });
  on("wipe", "input", showStage);
}

/** What the picture shows, for those who do not see it. */
const described = ({ values }) => caption(levelsOf(values, state.table), state.table);

/** Draw what the state says. */
export function showStage() {
  const { portrait, edit, busy, look, preview, view } = state;
  const isInside = state.tab === "inside" && state.ready;
  const found = edit && lookUp(edit.nodes, state.degree);
  const isEdit = Boolean(found && !isInside && !preview);
  for (const id of ["degree-box", "view-box"]) byId(id).hidden = !edit || isInside;
  byId("wipe").hidden = !isEdit || view !== "compare";
  byId("legend").hidden = !isEdit || view !== "difference";
  byId("patches").hidden = !isInside || preview || !(portrait?.inside || edit?.inside);
  byId("frame").classList.toggle("heat-over", isInside && look.row >= 0 && !preview);
  byId("busy-bar").hidden = !busy;
  byId("busy-bar").value = busy?.share ?? 0;
  byId("stage").setAttribute("aria-busy", String(Boolean(busy)));
  if (found) showDegree(found);
  if (preview) show(preview, "A picture on its way", busy?.text ?? "");
  else if (isInside && look.clean) {
    show(look.clean, `The model’s guess at step ${look.step + 1}`, `guess at step ${look.step + 1}`);
  } else if (isEdit) showEdit(found);
  else if (portrait) show(portrait.canvas, `Portrait: ${described(portrait)}`);
}

function show(canvas, name, badge = "") {
  draw(byId("picture"), canvas);
  label(name, badge);
}

function label(name, badge = "", caption = "") {
  byId("picture").setAttribute("aria-label", name);
  byId("badge").textContent = badge;
  byId("badge").hidden = !badge;
  byId("caption").textContent = caption;
}

function showEdit({ picture, over, share }) {
  const [target, { edit, portrait, view }] = [byId("picture"), state];
  if (view === "before") return show(portrait.canvas, `Before the edit: ${described(edit)}`, "before");
  if (view === "difference") return showDifference(target);
  draw(target, picture.canvas);
  if (over) drawOver(target, over.canvas, share);
  if (view === "compare") drawLeft(target, portrait.canvas, byId("wipe").value / 100);
  const isMasked = state.mask && edit.mask;
  if (isMasked) drawOver(target, maskCanvas(edit.mask));
  const says = isMasked ? "The edit may change what is not dimmed." : "";
  return label(`Edited portrait, degree ${picture.degree.toFixed(2)}: ${described(picture)}`, "", says);
}

function showDifference(target) {
  const { nodes } = state.edit;
  const node = nearest(nodes, state.degree);
  const { canvas, mean, most, moved } = (node.difference ??= difference(nearest(nodes, 0).pixels, node.pixels));
  draw(target, canvas);
  byId("legend-high").textContent = `${most.toFixed(0)} of 255`;
  const says = `Against degree 0, pixels changed by ${mean.toFixed(1)} of 255 in the mean, by ${most.toFixed(0)} at most; ` +
    `${(100 * moved).toFixed(0)} % of them by more than 8.`;
  label(`Difference map. ${says}`, "", says);
}

const short = (degree) => String(Number(degree.toFixed(2))).replace("-", "−");

function showDegree({ kind, picture, over }) {
  const [input, { edit, degree, busy, recipe }] = [byId("degree"), state];
  const said = kind === "computed" ? kind : kind === "nearest" ? `nearest computed picture: ${short(picture.degree)}`
    : `between the computed ${short(picture.degree)} and ${short(over.degree)}`;
  input.value = String(degree);
  input.setAttribute("aria-valuetext", `${degree.toFixed(2)}, ${said}`);
  byId("degree-value").textContent = degree.toFixed(2);
  byId("degree-kind").textContent = said + (busy && kind !== "computed" ? " …" : "");
  byId("degree-kind").classList.toggle("is-computed", kind === "computed");
  const there = edit.nodes.map((node) => node.degree);
  const marks = new Set([...there, ...(edit.plan ? recipe.degrees.nodes : [])]);
  byId("nodes").replaceChildren(...[...marks].map((at) => {
    const dot = make("i", { class: there.includes(at) ? "there" : "" });
    dot.style.left = `${(100 * (at - LOWEST)) / (HIGHEST - LOWEST)}%`;
    return dot;
  }));
}
