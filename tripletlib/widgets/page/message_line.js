// The line in which a widget talks to its reader. It also keeps keys typed in the widget from
// JupyterLab, which would delete or insert cells.

function render({ model, el }) {
  el.classList.add("message-line");
  const draw = () => {
    const line = document.createElement("div");
    line.setAttribute("role", model.get("role"));
    line.textContent = model.get("text");
    el.replaceChildren(...(model.get("text") ? [line] : []));
  };
  // JupyterLab looks at the focused element first and at what surrounds it later, so the attribute
  // must be on the element itself.
  const guard = (event) => {
    const widget = el.closest(".tripletlib-widget");
    if (!widget?.contains(event.target)) return;
    widget.tabIndex = -1; // a click on no control focuses the widget and not the cell
    event.target.dataset.lmSuppressShortcuts = "true";
  };
  const names = ["pointerdown", "focusin"];
  for (const name of names) document.addEventListener(name, guard, true);
  model.on("change:text change:role", draw);
  draw();
  return () => {
    for (const name of names) document.removeEventListener(name, guard, true);
    model.off("change:text change:role", draw);
  };
}

export default { render };
