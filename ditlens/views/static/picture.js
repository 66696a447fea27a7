// Two pictures, one behind the other: a divider between them, both side by side, or their difference.
// Also the place where a file can be dropped, and what makes the page around it fit for a keyboard.

const MODES = {
  wipe: "divider", before: "before", after: "after", difference: "difference",
};

const url = (bytes) => {
  if (!bytes || !bytes.byteLength) return "";
  return URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" }));
};

const PIECE = 1 << 20;  // bytes; Jupyter drops whoever sends more than 10 MB at once

const sendFile = async (model, file) => {
  for (let at = 0; at === 0 || at < file.size; at += PIECE) {
    const piece = await file.slice(at, at + PIECE).arrayBuffer();
    model.send({ name: file.name, last: at + PIECE >= file.size }, undefined, [piece]);
  }
};

const make = (tag, parent, props = {}) => parent.appendChild(Object.assign(document.createElement(tag), props));

// Notebooks have shortcuts of one letter: x would cut the cell while a slider has the focus. Ctrl+S still saves.
const keep = (event) => { if (!event.ctrlKey && !event.metaKey) event.stopPropagation(); };

// What ipywidgets does not tell screen readers: the name of a slider, and whether a section is open.
const tell = (page) => {
  for (const handle of page.querySelectorAll(".noUi-handle:not([aria-label])")) {
    const label = handle.closest(".jupyter-widgets").querySelector(".widget-label");
    if (label?.textContent) handle.setAttribute("aria-label", label.textContent);
  }
  for (const button of page.querySelectorAll(".widget-toggle-button")) {
    button.setAttribute("aria-expanded", String(button.classList.contains("mod-active")));
  }
};

function render({ model, el }) {
  el.classList.add("ditlens-picture");
  el.addEventListener("keydown", keep);
  let observer;
  const whenShown = () => {
    const page = el.closest(".ditlens-page");
    if (!page) { if (!done) requestAnimationFrame(whenShown); return; }
    page.addEventListener("keydown", keep);
    page.addEventListener("pointerdown", (event) => hold(!!event.target.closest(".ditlens-degree")), true);
    observer = new MutationObserver(() => tell(page));
    observer.observe(page, { childList: true, subtree: true, attributeFilter: ["class"] });
    tell(page);
  };
  const hold = (held) => {
    if (held === model.get("held")) return;
    model.set("held", held);
    model.save_changes();
  };
  const release = () => hold(false);
  for (const kind of ["pointerup", "pointercancel"]) window.addEventListener(kind, release, true);
  let done = false;
  requestAnimationFrame(whenShown);

  if (model.get("static_class")) {  // a live page needs no still copy of itself
    make("style", document.head, { textContent: `.${model.get("static_class")} { display: none; }` });
  }
  const bar = make("div", el, { className: "ditlens-modes" });
  bar.setAttribute("role", "radiogroup");
  bar.setAttribute("aria-label", "What to show");
  const stage = make("div", el, { className: "ditlens-stage" });
  const before = make("img", stage, { className: "ditlens-before", draggable: false });
  const after = make("img", stage, { className: "ditlens-after", draggable: false });
  const difference = make("canvas", stage, { className: "ditlens-difference" });
  const line = make("div", stage, { className: "ditlens-line" });
  const note = make("div", stage, { className: "ditlens-note" });
  const slider = make("input", el, { type: "range", min: 0, max: 100, step: 1, className: "ditlens-divider" });
  slider.setAttribute("aria-label", "Divider: the source on its left, the result on its right");

  const buttons = Object.entries(MODES).map(([mode, text]) => {
    const button = make("button", bar, { type: "button", textContent: text });
    button.setAttribute("role", "radio");
    button.onclick = () => { model.set("mode", mode); model.save_changes(); button.focus(); };
    button.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      const all = [...bar.children];
      all[(all.indexOf(button) + step + all.length) % all.length].click();
    };
    return [mode, button];
  });

  const drawDifference = () => {
    const width = after.naturalWidth, height = after.naturalHeight;
    if (!width || before.naturalWidth !== width || before.naturalHeight !== height) return;
    difference.width = width;
    difference.height = height;
    const context = difference.getContext("2d", { willReadFrequently: true });
    const pixels = (img) => { context.drawImage(img, 0, 0); return context.getImageData(0, 0, width, height); };
    const a = pixels(before).data, out = pixels(after), b = out.data;
    for (let k = 0; k < b.length; k += 4) {
      const change = Math.abs(a[k] - b[k]) + Math.abs(a[k + 1] - b[k + 1]) + Math.abs(a[k + 2] - b[k + 2]);
      b[k] = b[k + 1] = b[k + 2] = Math.min(255, change);  // three times the mean over the colours
    }
    context.putImageData(out, 0, 0);
  };

  const show = () => {
    const mode = model.get("mode"), position = mode === "before" ? 100 : mode === "after" ? 0 : model.get("position");
    for (const [name, button] of buttons) {
      button.setAttribute("aria-checked", String(name === mode));
      button.tabIndex = name === mode ? 0 : -1;
    }
    after.style.clipPath = `inset(0 0 0 ${position}%)`;
    line.style.left = `${position}%`;
    line.hidden = slider.hidden = mode !== "wipe";
    difference.hidden = mode !== "difference";
    slider.value = position;
    if (mode === "difference") drawDifference();
    const kinds = { preview: "preview: the true edit follows", edit: "", opened: "" };
    note.textContent = mode === "difference" ? "difference, 3 times as bright" : kinds[model.get("kind")] || "";
    before.alt = model.get("before_alt");
    after.alt = model.get("after_alt");
  };

  const load = (img, name) => {
    const next = url(model.get(name)), old = img.src;
    if (!next) { img.removeAttribute("src"); return; }
    img.onload = () => {
      if (old.startsWith("blob:")) URL.revokeObjectURL(old);
      stage.style.aspectRatio = `${img.naturalWidth} / ${img.naturalHeight}`;
      stage.dataset[name] = String(Number(stage.dataset[name] || 0) + 1);  // counted for tests
      if (model.get("mode") === "difference") drawDifference();
    };
    img.src = next;
  };

  const move = (event) => {
    const box = stage.getBoundingClientRect();
    const position = Math.round(100 * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
    model.set("position", position);
    show();
  };
  stage.addEventListener("pointerdown", (event) => {
    if (model.get("mode") !== "wipe") return;
    stage.setPointerCapture(event.pointerId);
    move(event);
  });
  stage.addEventListener("pointermove", (event) => { if (event.buttons && model.get("mode") === "wipe") move(event); });
  stage.addEventListener("pointerup", () => model.save_changes());
  slider.addEventListener("input", () => { model.set("position", Number(slider.value)); show(); });
  slider.addEventListener("change", () => model.save_changes());

  for (const kind of ["dragenter", "dragover"]) {
    stage.addEventListener(kind, (event) => { event.preventDefault(); stage.classList.add("ditlens-drop"); });
  }
  stage.addEventListener("dragleave", () => stage.classList.remove("ditlens-drop"));
  stage.addEventListener("drop", async (event) => {
    event.preventDefault();
    stage.classList.remove("ditlens-drop");
    const file = event.dataTransfer.files[0];
    if (!file) return;
    await sendFile(model, file);
  });

  model.on("change:before", () => load(before, "before"));
  model.on("change:after", () => load(after, "after"));
  for (const name of ["mode", "position", "kind", "before_alt", "after_alt"]) model.on(`change:${name}`, show);
  load(before, "before");
  load(after, "after");
  show();
  return () => {
    done = true;
    observer?.disconnect();
    for (const kind of ["pointerup", "pointercancel"]) window.removeEventListener(kind, release, true);
  };
}

export default { render };
