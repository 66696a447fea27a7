// The picture, what lies over it, and the degree below it.

import { byId, heatGrid, make, segments } from "./dom.js";
import { lookUp, nearest } from "./degrees.js";
import { colour, difference, draw, drawLeft, maskCanvas } from "./picture.js";
import { state } from "./state.js";
import { caption, levelsOf } from "./words.js";

const REST = 300; // milliseconds without a move after which the true edit is made
const VIEWS = [["result", "Result"], ["compare", "Before | after"], ["difference", "Difference"]];

/**
 * @param {{settle: () => void, moved: () => void}} actions settle: the degree rests; moved: it changed
 */
export function openStage({ settle, moved }) {
  const degree = byId("degree");
  let resting = 0;
  degree.addEventListener("input", () => {
    state.degree = Math.round(100 * Number(degree.value)) / 100;
    moved();
    showStage();
    clearTimeout(resting);
    resting = setTimeout(settle, REST);
  });
  const pickView = segments(byId("view"), VIEWS, (view) => {
    state.view = view;
    showStage();
  });
  pickView(state.view);
  byId("wipe").addEventListener("input", showStage);
  byId("mask").addEventListener("change", (event) => {
    state.mask = event.target.checked;
    showStage();
  });
  holdable(byId("hold"));
}

/** Show the portrait before the edit while the button is held. */
function holdable(button) {
  const hold = (holding) => () => {
    state.holding = holding;
    showStage();
  };
  const isPress = (event) => [" ", "Enter"].includes(event.key);
  button.addEventListener("pointerdown", hold(true));
  for (const end of ["pointerup", "pointerleave", "pointercancel", "blur"]) button.addEventListener(end, hold(false));
  button.addEventListener("keydown", (event) => isPress(event) && hold(true)());
  button.addEventListener("keyup", (event) => isPress(event) && hold(false)());
}

/** The patches over the picture, a grid to choose from. */
export const openPatches = (onPick, onLook) =>
  heatGrid(byId("patches"), { rows: 8, columns: 8, label: "Patches of the picture", onPick, onLook });

/** What the picture shows, for those who do not see it. */
const described = (values) => caption(levelsOf(values, state.table), state.table);

/** Draw what the state says. */
export function showStage() {
  const { portrait, edit, busy, tab } = state;
  const found = edit && edit.nodes.length ? lookUp(edit.nodes, state.degree) : null;
  const inside = tab === "inside";
  byId("degree-box").hidden = !edit || inside;
  byId("view-box").hidden = !edit || inside;
  byId("patches").hidden = !inside || state.look.row < 0 && !state.look.clean && !hasInside();
  byId("frame").classList.toggle("heat-over", inside && state.look.row >= 0 && !state.preview);
  if (found) showDegree(found);
  if (state.preview) show(state.preview, "A picture on its way", busy?.text ?? "");
  else if (inside) showInside();
  else if (found) showEdit(found);
  else if (portrait) show(portrait.canvas, `Portrait: ${described(portrait.values)}`, "");
  byId("hold").hidden = !found || inside || Boolean(state.preview);
  byId("wipe").hidden = !(found && !inside && !state.preview && state.view === "compare");
  byId("busy-bar").hidden = !busy;
  byId("busy-bar").value = busy?.share ?? 0;
  byId("stage").setAttribute("aria-busy", String(Boolean(busy)));
}

const hasInside = () => Boolean(state.portrait?.inside || state.edit?.inside);

function show(canvas, name, badge) {
  const target = byId("picture");
  draw(target, canvas);
  label(name, badge);
  byId("legend").hidden = true;
}

function label(name, badge, below = "") {
  byId("picture").setAttribute("aria-label", name);
  byId("badge").textContent = badge;
  byId("badge").hidden = !badge;
  byId("caption").textContent = below;
}

function showInside() {
  const source = state.look.of === "edit" && state.edit?.inside ? nearest(state.edit.nodes, state.edit.insideDegree) : state.portrait;
  if (!source) return;
  const name = `Portrait: ${described(source.values)}`;
  if (state.look.clean) show(state.look.clean, `The model’s guess at step ${state.look.step + 1}`, `guess at step ${state.look.step + 1}`);
  else show(source.canvas, name, "");
}

function showEdit(found) {
  const target = byId("picture");
  const { edit, view } = state;
  const before = state.portrait.canvas;
  const at = `degree ${found.picture.degree.toFixed(2)}`;
  byId("legend").hidden = view !== "difference" || state.holding;
  if (state.holding) return label(`Before the edit: ${described(edit.values)}`, "before", draw(target, before));
  if (view === "difference") return showDifference(target, found);
  draw(target, found.picture.canvas, found.over?.canvas, found.share);
  if (view === "compare") {
    const share = byId("wipe").value / 100;
    drawLeft(target, before, share);
    byId("frame").style.setProperty("--wipe", String(share));
  }
  if (state.mask && edit.mask) draw(target, target, maskCanvas(edit.mask), 1);
  const says = state.mask && edit.mask ? "The edit may change what is not dimmed." : "";
  label(`Edited portrait, ${at}: ${described(found.picture.values)}`, "", says);
}

function showDifference(target, found) {
  const node = nearest(state.edit.nodes, state.degree);
  const { canvas, mean, most, moved } = (node.difference ??= difference(state.edit.nodes[zeroOf()].pixels, node.pixels));
  draw(target, canvas);
  byId("legend-low").textContent = "0";
  byId("legend-high").textContent = `${most.toFixed(0)} of 255`;
  const stops = [0, 0.25, 0.5, 0.75, 1].map((share) => `rgb(${colour(share).join(" ")})`);
  byId("legend-scale").style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  const says = `Degree ${node.degree.toFixed(2)} less degree 0: mean ${mean.toFixed(1)} of 255, most ${most.toFixed(0)}; ` +
    `${(100 * moved).toFixed(0)} % of the pixels changed by more than 8.`;
  label(`Difference map. ${says}`, "", says);
}

/** Where the reconstruction is among the nodes. */
const zeroOf = () => state.edit.nodes.findIndex((node) => node.degree === 0);

function showDegree(found) {
  const { edit, degree } = state;
  const input = byId("degree");
  input.value = String(degree);
  const [low, high] = [Number(input.min), Number(input.max)];
  const between = found.over && `${short(found.picture.degree)} and ${short(found.over.degree)}`;
  const kind = { computed: "computed", between: `between two computed pictures, ${between}`,
                 nearest: `nearest computed picture: ${short(found.picture.degree)}` }[found.kind];
  byId("degree-value").textContent = degree.toFixed(2);
  byId("degree-kind").textContent = state.busy && found.kind !== "computed" ? `${kind}; the true one is on its way` : kind;
  byId("degree-kind").classList.toggle("is-computed", found.kind === "computed");
  input.setAttribute("aria-valuetext", `${degree.toFixed(2)}, ${kind}`);
  const marks = [...new Set([...edit.nodes.map((node) => node.degree), ...(edit.plan ? state.recipe.degrees.nodes : [])])];
  byId("nodes").replaceChildren(...marks.map((mark) => {
    const there = edit.nodes.some((node) => node.degree === mark);
    const dot = make("i", { class: there ? "there" : "" });
    dot.style.left = `${(100 * (mark - low)) / (high - low)}%`;
    return dot;
  }));
  byId("degree-scale").replaceChildren(...scale(low, high));
}

function scale(low, high) {
  return ["−1 opposite", "0 nothing", "1 as asked", "2 twice"].flatMap((text, k) => {
    const share = (k - 1 - low) / (high - low);
    if (share < 0 || share > 1) return [];
    const mark = make("span", { text });
    mark.style.left = `${100 * share}%`;
    mark.style.transform = `translateX(${-100 * share}%)`;
    return [mark];
  });
}

const short = (degree) => String(Number(degree.toFixed(2))).replace("-", "−");
