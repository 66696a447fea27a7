// Points that stand for pictures: hover shows the picture, a click opens it, a line drawn around some selects them.
// With keys: arrows move a cross, Enter opens the nearest point, Space begins and ends a rectangle that selects.

const make = (tag, parent, props = {}) => parent.appendChild(Object.assign(document.createElement(tag), props));
const NEAR = 14, MARGIN = 14, THUMB = 96;

const numbers = (view, Type) => {
  if (!view || !view.byteLength) return new Type(0);
  return new Type(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
};

const isInside = (x, y, line) => {
  let inside = false;
  for (let i = 0, j = line.length - 1; i < line.length; j = i++) {
    const [ax, ay] = line[i], [bx, by] = line[j];
    if ((ay > y) !== (by > y) && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
};

function render({ model, el }) {
  el.classList.add("ditlens-scatter");
  el.addEventListener("keydown", (event) => event.stopPropagation());
  if (model.get("static_class")) {  // a live page needs no still copy of itself
    make("style", document.head, { textContent: `.${model.get("static_class")} { display: none; }` });
  }
  const plane = make("div", el, { className: "ditlens-plane" });
  const canvas = make("canvas", plane, { tabIndex: 0 });
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label",
    "Scatter. Arrow keys move a cross, Enter opens the nearest picture, Space begins and ends a selection, Escape clears it.");
  const tip = make("div", plane, { className: "ditlens-tip", hidden: true });
  const thumb = make("div", tip, { className: "ditlens-thumb" });
  const words = make("div", tip);
  const down = make("div", el, { className: "ditlens-axis" });
  const legend = make("div", el, { className: "ditlens-legend" });
  const live = make("div", el, { className: "ditlens-heard" });
  live.setAttribute("role", "status");

  let xy, items, places, shades, width = 1, height = 1, px = new Float32Array(0), py = px, bounds = [0, 1, 0, 1];
  let base = document.createElement("canvas"), line = null, cross = null, corner = null, hovered = -1, sheet = "";

  const place = () => {
    const count = items.length;
    px = new Float32Array(count); py = new Float32Array(count);
    let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < count; i++) {
      left = Math.min(left, xy[2 * i]); right = Math.max(right, xy[2 * i]);
      low = Math.min(low, xy[2 * i + 1]); high = Math.max(high, xy[2 * i + 1]);
    }
    const [across, up] = [0.5 * (right - left), 0.5 * (high - low)];  // a path may begin far away: show its near part
    const [a, b, c, d] = [left - across, right + across, low - up, high + up];
    for (const [x, y] of model.get("path")) {
      left = Math.min(left, Math.max(a, x)); right = Math.max(right, Math.min(b, x));
      low = Math.min(low, Math.max(c, y)); high = Math.max(high, Math.min(d, y));
    }
    bounds = [left, right - left || 1, low, high - low || 1];
    for (let i = 0; i < count; i++) [px[i], py[i]] = where(xy[2 * i], xy[2 * i + 1]);
  };
  const where = (x, y) => [
    MARGIN + ((x - bounds[0]) / bounds[1]) * (width - 2 * MARGIN),
    height - MARGIN - ((y - bounds[2]) / bounds[3]) * (height - 2 * MARGIN),
  ];

  const read = () => {
    xy = numbers(model.get("xy"), Float32Array);
    items = numbers(model.get("items"), Int32Array);
    places = numbers(model.get("places"), Int32Array);
    shades = numbers(model.get("shades"), Uint8Array);
    down.textContent = model.get("axes").length ? `→ ${model.get("axes")[0]}    ↑ ${model.get("axes")[1]}` : "";
    draw();
  };

  const draw = () => {
    const ratio = window.devicePixelRatio || 1;
    width = plane.clientWidth || 400; height = plane.clientHeight || 320;
    for (const each of [canvas, base]) { each.width = width * ratio; each.height = height * ratio; }
    const context = base.getContext("2d");
    context.scale(ratio, ratio);
    place();
    const chosen = new Set(model.get("chosen")), count = items.length;
    const radius = count > 5000 ? 1.5 : count > 1000 ? 2.5 : 4;
    const order = chosen.size ? [false, true] : [null];
    for (const now of order) {
      context.globalAlpha = now === false ? 0.25 : 0.85;
      for (let i = 0; i < count; i++) {
        if (now !== null && chosen.has(items[i]) !== now) continue;
        context.fillStyle = `rgb(${shades[3 * i]},${shades[3 * i + 1]},${shades[3 * i + 2]})`;
        if (count > 5000) { context.fillRect(px[i] - radius, py[i] - radius, 2 * radius, 2 * radius); continue; }
        context.beginPath();
        context.arc(px[i], py[i], radius, 0, 7);
        context.fill();
      }
    }
    el.dataset.points = String(count);
    el.dataset.drawn = String(Number(el.dataset.drawn || 0) + 1);
    over();
  };

  const ring = (context, x, y, radius, strong) => {
    for (const [style, thick] of [["#fff", 4], [strong ? "#d55e00" : "#000", 2]]) {
      context.strokeStyle = style; context.lineWidth = thick;
      context.beginPath(); context.arc(x, y, radius, 0, 7); context.stroke();
    }
  };

  const over = () => {
    const ratio = window.devicePixelRatio || 1, context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(base, 0, 0);
    context.scale(ratio, ratio);
    const ink = "#222";  // the plane is light in every theme: dark colours are told apart on it
    const path = model.get("path").map(([x, y]) => where(x, y));
    if (path.length > 1) {
      context.strokeStyle = ink; context.lineWidth = 1.5; context.setLineDash([]);
      context.beginPath();
      path.forEach(([x, y], k) => (k ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.stroke();
      context.fillStyle = ink; context.font = "11px system-ui, sans-serif";
      path.forEach(([x, y], k) => {
        context.beginPath(); context.arc(x, y, 2.5, 0, 7); context.fill();
        if (k === 0 || k === path.length - 1) context.fillText(String(model.get("path_steps")[k] ?? k), x + 5, y - 5);
      });
    }
    const open = model.get("opened");
    const own = [];
    for (let i = 0; i < items.length; i++) if (items[i] === open) own.push(i);
    for (const i of own.slice(0, 200)) ring(context, px[i], py[i], own.length > 1 ? 3.5 : 7, true);
    if (hovered >= 0) ring(context, px[hovered], py[hovered], 6, false);
    context.strokeStyle = ink; context.lineWidth = 1.5; context.setLineDash([5, 3]);
    if (line) { context.beginPath(); line.forEach(([x, y], k) => (k ? context.lineTo(x, y) : context.moveTo(x, y))); context.closePath(); context.stroke(); }
    if (cross && corner) context.strokeRect(corner[0], corner[1], cross[0] - corner[0], cross[1] - corner[1]);
    if (cross && document.activeElement === canvas) {
      context.setLineDash([]);
      context.beginPath();
      context.moveTo(cross[0] - 9, cross[1]); context.lineTo(cross[0] + 9, cross[1]);
      context.moveTo(cross[0], cross[1] - 9); context.lineTo(cross[0], cross[1] + 9);
      context.stroke();
    }
  };

  const nearest = (x, y, most) => {
    let best = -1, least = most * most;
    for (let i = 0; i < items.length; i++) {
      const d = (px[i] - x) ** 2 + (py[i] - y) ** 2;
      if (d <= least) { least = d; best = i; }
    }
    return best;
  };

  const told = (i) => {
    const label = model.get("labels")[items[i]] || `picture ${items[i]}`;
    return `${items[i]}${places[i] >= 0 ? `, token ${places[i]}` : ""} · ${label}`;
  };

  const hover = (i) => {
    if (i === hovered) return;
    hovered = i;
    tip.hidden = i < 0;
    if (i >= 0) {
      const across = model.get("across"), item = items[i], scale = THUMB / model.get("side");
      thumb.hidden = !sheet || item >= model.get("on_sheet");
      thumb.style.backgroundImage = `url(${sheet})`;
      thumb.style.backgroundSize = `${across * THUMB}px auto`;
      thumb.style.backgroundPosition = `${-(item % across) * THUMB}px ${-Math.floor(item / across) * model.get("side") * scale}px`;
      words.textContent = told(i);
      tip.style.left = `${Math.min(Math.max(0, px[i] + 12), Math.max(0, width - 240))}px`;
      tip.style.top = `${py[i] > height / 2 ? py[i] - 130 : py[i] + 12}px`;
    }
    over();
  };

  const select = (test, add) => {
    const found = new Set(add ? model.get("chosen") : []);
    for (let i = 0; i < items.length; i++) if (test(px[i], py[i])) found.add(items[i]);
    model.set("lasso", { numbers: [...found].sort((a, b) => a - b), count: (model.get("lasso").count || 0) + 1 });
    model.save_changes();
    live.textContent = found.size ? `${found.size} pictures selected` : "nothing selected";
  };
  const open = (i) => {
    if (i < 0) return;
    model.set("picked", { item: items[i], place: places[i], count: (model.get("picked").count || 0) + 1 });
    model.save_changes();
    live.textContent = `opened ${told(i)}`;
  };

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  let from = null;
  canvas.addEventListener("pointerdown", (event) => { from = at(event); canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = at(event);
    if (!from) { hover(nearest(x, y, NEAR)); return; }
    if (!line && Math.hypot(x - from[0], y - from[1]) > 5) { line = [from]; hover(-1); }
    if (line) { line.push([x, y]); over(); }
  });
  canvas.addEventListener("pointerup", (event) => {
    const drawn = line;
    from = line = null;
    if (drawn) { select((x, y) => isInside(x, y, drawn), event.shiftKey); over(); return; }
    open(nearest(...at(event), NEAR));
  });
  canvas.addEventListener("pointercancel", () => { from = line = null; over(); });
  canvas.addEventListener("pointerleave", () => hover(-1));
  canvas.addEventListener("dblclick", () => select(() => false, false));
  canvas.addEventListener("focus", () => { if (canvas.matches(":focus-visible")) { cross ??= [width / 2, height / 2]; over(); } });
  canvas.addEventListener("blur", () => { corner = null; over(); });
  canvas.addEventListener("keydown", (event) => {
    cross ??= [width / 2, height / 2];
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const pace = event.shiftKey ? 40 : 10;
    if (way) {
      cross = [Math.min(width, Math.max(0, cross[0] + pace * way[0])), Math.min(height, Math.max(0, cross[1] + pace * way[1]))];
      hover(nearest(...cross, 40));
      if (hovered >= 0 && !corner) live.textContent = told(hovered);
    } else if (event.key === "Enter") open(nearest(...cross, Infinity));
    else if (event.key === " " && !corner) { corner = cross; live.textContent = "selection begun: move to its other corner, then press Space"; }
    else if (event.key === " ") {
      const [a, b] = [corner, cross];
      select((x, y) => (x - a[0]) * (x - b[0]) <= 0 && (y - a[1]) * (y - b[1]) <= 0, event.shiftKey);
      corner = null;
    } else if (event.key === "Escape") { corner = null; select(() => false, false); }
    else return;
    event.preventDefault();
    over();
  });

  const explain = () => {
    legend.replaceChildren();
    for (const { color, label } of model.get("legend")) {
      const each = make("span", legend);
      make("i", each).style.background = color;
      make("span", each, { textContent: label });
    }
  };
  const picture = () => {
    if (sheet) URL.revokeObjectURL(sheet);
    const bytes = model.get("sheet");
    sheet = bytes && bytes.byteLength ? URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })) : "";
  };

  for (const name of ["xy", "items", "shades", "axes"]) model.on(`change:${name}`, () => queueMicrotask(read));
  for (const name of ["chosen", "path"]) model.on(`change:${name}`, draw);
  model.on("change:opened", over);
  model.on("change:legend", explain);
  model.on("change:sheet", picture);
  const watch = new ResizeObserver(() => draw());
  picture(); explain(); read();
  watch.observe(plane);
  return () => watch.disconnect();
}

export default { render };
