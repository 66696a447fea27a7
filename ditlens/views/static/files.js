// A button that opens files, and sends each with its name.

const PIECE = 1 << 20;  // bytes; Jupyter drops whoever sends more than 10 MB at once

const sendFile = async (model, file) => {
  for (let at = 0; at === 0 || at < file.size; at += PIECE) {
    const piece = await file.slice(at, at + PIECE).arrayBuffer();
    model.send({ name: file.name, last: at + PIECE >= file.size }, undefined, [piece]);
  }
};

function render({ model, el }) {
  el.classList.add("ditlens-files");
  const input = el.appendChild(Object.assign(document.createElement("input"), {
    type: "file", hidden: true, accept: model.get("accept"),
  }));
  const button = el.appendChild(Object.assign(document.createElement("button"), {
    type: "button", textContent: model.get("text"), className: "jupyter-button widget-button",
  }));
  button.onclick = () => input.click();
  input.onchange = async () => {
    for (const file of input.files) await sendFile(model, file);
    input.value = "";  // the same file can be chosen again
  };
}

export default { render };
