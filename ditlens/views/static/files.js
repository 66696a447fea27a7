// A button that opens files, and sends each with its name.

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
    for (const file of input.files) model.send({ name: file.name }, undefined, [await file.arrayBuffer()]);
    input.value = "";  // the same file can be chosen again
  };
}

export default { render };
