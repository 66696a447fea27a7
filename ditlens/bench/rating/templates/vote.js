"use strict";

// One page for two homes. With a server (no window.BALLOTS), ballots come from it and every vote goes to it at once.
// Without one, ballots.js has set window.BALLOTS, and votes stay in localStorage until they are downloaded.
const fixed = window.BALLOTS || null;
const $ = (id) => document.getElementById(id);
const space = fixed ? `ditlens ${fixed.export} ` : "ditlens ";

// --- storage: localStorage where the browser lets us, else memory, and we say so ---
const memory = {};
let remembers = true;
const store = {
  get(key) {
    try { return localStorage.getItem(space + key); } catch { remembers = false; return memory[key] ?? null; }
  },
  set(key, value) {
    memory[key] = value;
    try { localStorage.setItem(space + key, value); } catch { remembers = false; }
  },
  clear() {
    for (const key of ["voter", "nickname", "ballot", "votes"]) {
      delete memory[key];
      try { localStorage.removeItem(space + key); } catch { remembers = false; }
    }
  },
};
const randomCode = () => [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, "0")).join("");
const savedVotes = () => (store.get("votes") || "").split("\n").filter(Boolean);

// --- where ballots come from and votes go to ---
const server = {
  async ballot(voter) {
    const answer = await fetch(`ballot?voter=${voter}`);
    if (!answer.ok) throw new Error((await answer.json()).error);
    return answer.json();
  },
  async vote(voter, vote) {
    const body = JSON.stringify({ voter, ...vote });
    const answer = await fetch("vote", { method: "POST", headers: { "Content-Type": "application/json" }, body });
    if (!answer.ok && answer.status !== 409) throw new Error((await answer.json()).error);  // 409: it is there already
  },
};
const browser = {
  async ballot() {
    let index = Number(store.get("ballot") ?? NaN);
    if (!(index >= 0 && index < fixed.ballots.length)) {
      index = crypto.getRandomValues(new Uint32Array(1))[0] % fixed.ballots.length;
      store.set("ballot", String(index));
    }
    return { pairs: fixed.ballots[index], done: savedVotes().map((line) => JSON.parse(line).pair) };
  },
  async vote(voter, vote) {
    const time = new Date().toISOString();
    const line = { export: fixed.export, ballot: Number(store.get("ballot")), voter, ...vote, time };
    store.set("votes", [...savedVotes(), JSON.stringify(line)].join("\n"));
  },
};
const home = fixed ? browser : server;

// --- the state, and what is shown of it ---
const SIDES = ["source", "left", "right"];
let voter = null, pairs = [], done = new Set(), current = null, answers = {}, since = 0, sending = false;
let ready = false;  // whether all three images are visible: nobody can judge before

function show(screen) {
  for (const id of ["start", "vote", "end"]) $(id).hidden = id !== screen;
  $("who").hidden = voter === null;
  $("code").textContent = voter ?? "";
  const nickname = store.get("nickname");
  $("name").textContent = nickname ? `${nickname}.` : "";
  const votes = fixed ? savedVotes().length : 0;
  $("download").hidden = votes === 0;
  const lost = remembers ? "" : " This browser does not keep them: download them before you close the page.";
  $("hint").textContent = votes ? `Answers, only in this browser until you hand them in: ${votes}.${lost}` : "";
}

function trouble(text) {
  $("trouble").hidden = !text;
  $("trouble").textContent = text || "";
}

function nextPair() {
  current = pairs.find((pair) => !done.has(pair.pair)) ?? null;
  answers = {};
  $("bar").max = pairs.length;
  $("bar").value = done.size;
  if (!current) {
    show("end");
    $("end").querySelector("h1").focus();
    return;
  }
  $("place").textContent = `${done.size + 1} of ${pairs.length}`;
  $("instruction").textContent = `“${current.instruction}”`;
  for (const side of SIDES) $(side).src = current[side];
  wait(current);
  refresh();
  show("vote");
  $("instruction").focus({ preventScroll: true });
  window.scrollTo(0, 0);
  const later = pairs.find((pair) => !done.has(pair.pair) && pair !== current);
  if (later) for (const side of SIDES) new Image().src = later[side];
}

async function wait(pair) {
  ready = false;
  let problem = "";
  try {
    await Promise.all(SIDES.map((side) => $(side).decode()));
  } catch {
    problem = "An image of this pair could not be loaded. Reload the page to try again; your answers so far are kept.";
  }
  if (current !== pair) return;
  ready = !problem;
  trouble(problem);
  since = performance.now();
  refresh();
}

function refresh() {
  for (const button of document.querySelectorAll("[data-answer]")) {
    const question = button.closest("fieldset").dataset.question;
    button.setAttribute("aria-pressed", String(answers[question] === button.dataset.answer));
    button.disabled = !ready;
  }
  $("next").disabled = sending || !ready || !(answers.follows && answers.keeps);
}

function choose(question, answer) {
  if (!current || !ready) return;
  answers[question] = answer;
  refresh();
}

async function send() {
  if ($("next").disabled || !current) return;
  sending = true;
  refresh();
  const seconds = Math.round((performance.now() - since) / 100) / 10;
  try {
    await home.vote(voter, { pair: current.pair, ...answers, seconds });
    done.add(current.pair);
    trouble("");
    sending = false;
    nextPair();
  } catch (error) {
    sending = false;
    trouble(`Not saved (${error.message}). Your answer is still here: press Next again.`);
    refresh();
  }
}

async function begin(code) {
  try {
    const ballot = await home.ballot(code);
    voter = code;
    store.set("voter", voter);
    pairs = ballot.pairs;
    done = new Set(ballot.done);
    trouble("");
    nextPair();
  } catch (error) {
    trouble(`The pairs could not be fetched (${error.message}). Reload the page to try again.`);
    if (!voter) show("start");
  }
}

// --- what people do ---
$("begin").addEventListener("submit", (event) => {
  event.preventDefault();
  const { nickname, code } = event.target.elements;
  store.set("nickname", nickname.value.trim());
  begin((!fixed && code.value.trim()) || randomCode());
});
for (const button of document.querySelectorAll("[data-answer]")) {
  button.addEventListener("click", () => choose(button.closest("fieldset").dataset.question, button.dataset.answer));
}
$("next").addEventListener("click", send);
$("leave").addEventListener("click", () => {
  const warning = fixed ? " Answers that were not downloaded are deleted." : ` To continue later, note the code ${voter}.`;
  if (!confirm(`End this session?${warning}`)) return;
  store.clear();
  location.reload();
});
$("download").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${savedVotes().join("\n")}\n`], { type: "application/jsonl" }));
  link.download = `${voter}.jsonl`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
$("keys").addEventListener("change", (event) => {
  document.body.classList.toggle("no-keys", !event.target.checked);
});

const KEYS = {
  a: ["follows", "left"], s: ["follows", "same"], d: ["follows", "right"],
  j: ["keeps", "left"], k: ["keeps", "same"], l: ["keeps", "right"],
};
document.addEventListener("keydown", (event) => {
  if ($("vote").hidden || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (!$("keys").checked) return;
  const chosen = KEYS[event.key.toLowerCase()];
  if (chosen) choose(...chosen);
  else if (event.key === "Enter" && !$("next").disabled && !event.target.closest("footer, .static")) {
    event.preventDefault();
    send();
  }
});

// --- start, or continue ---
for (const part of document.querySelectorAll(fixed ? ".server" : ".static")) part.hidden = true;
const known = store.get("voter");
if (known) begin(known);
else show("start");
