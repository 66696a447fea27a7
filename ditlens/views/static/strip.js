// A row of small pictures, of which one is chosen: by a click, or with the arrow keys and Enter.

function render({ model, el }) {
  el.classList.add("ditlens-strip");
  el.addEventListener("keydown", (event) => event.stopPropagation());
  let urls = [];

  const pick = (index) => {
    model.set("picked", [index, (model.get("picked")[1] || 0) + 1]);
    model.save_changes();
  };

  const show = () => {
    const images = model.get("images"), labels = model.get("labels"), chosen = model.get("chosen");
    urls.forEach((each) => URL.revokeObjectURL(each));
    urls = images.map((bytes) => URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })));
    const row = document.createElement("div");
    row.className = "ditlens-row";
    row.setAttribute("role", "listbox");
    row.setAttribute("aria-label", model.get("title"));
    row.setAttribute("aria-orientation", "horizontal");
    images.forEach((_, index) => {
      const item = document.createElement("div");
      item.setAttribute("role", "option");
      item.setAttribute("aria-selected", String(index === chosen));
      item.setAttribute("aria-label", labels[index] || `${index + 1} of ${images.length}`);
      item.tabIndex = index === Math.max(0, chosen) ? 0 : -1;
      const img = document.createElement("img");
      img.src = urls[index];
      img.alt = "";
      img.draggable = false;
      item.append(img);
      if (labels[index]) item.append(Object.assign(document.createElement("span"), { textContent: labels[index] }));
      item.onclick = () => pick(index);
      item.onkeydown = (event) => {
        const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(index); }
        if (!step) return;
        event.preventDefault();
        const next = row.children[Math.min(images.length - 1, Math.max(0, index + step))];
        for (const each of row.children) each.tabIndex = each === next ? 0 : -1;
        next.focus();
      };
      row.append(item);
    });
    const focused = el.contains(document.activeElement);
    el.replaceChildren(row);
    const current = row.querySelector('[aria-selected="true"]');
    if (current) current.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (focused && current) current.focus({ preventScroll: true });
  };

  for (const name of ["images", "labels", "chosen"]) model.on(`change:${name}`, show);
  show();
}

export default { render };
