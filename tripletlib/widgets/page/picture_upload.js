// A file chooser that looks at the size before anything is sent: a message above Jupyter's limit
// (10 MB) would cut the connection to the kernel.

function render({ model, el }) {
  el.classList.add("picture-upload");
  const label = document.createElement("label");
  const input = document.createElement("input");
  input.type = "file";
  input.accept = "image/*";
  const text = document.createElement("span");
  text.textContent = model.get("label");
  label.append(input, text);
  el.append(label);
  input.addEventListener("change", async () => {
    const [file] = input.files;
    if (!file) return;
    if (file.size > model.get("max_bytes")) {
      model.send({ refused: file.name, bytes: file.size });
    } else {
      const content = await file.arrayBuffer();
      model.send({ name: file.name }, undefined, [new DataView(content)]);
    }
    input.value = ""; // so that the same file can be chosen again
  });
}

export default { render };
