// The line in which a widget talks to its reader. It also keeps keys typed in the widget from
// JupyterLab, which would delete or insert cells, and names controls for screen readers: ipywidgets
// ties no label to a slider's handle and no tooltip to a select.

const CONTROLS = "select, input, button, .noUi-handle";

function name(widget) {
  for (const control of widget.querySelectorAll(CONTROLS)) {
    const part = control.closest(".jupyter-widgets");
    const label = part?.querySelector(":scope > .widget-label")?.textContent;
    const text = label || part?.title || control.title;
    if (text && !control.closest("label") && !control.hasAttribute("aria-label"))
      control.setAttribute("aria-label", text);
  }
  // Read aloud when it changes.
  widget.querySelector(".announced .widget-html-content")?.setAttribute("aria-live", "polite");
}

function render({ model, el }) {
  el.classList.add("message-line");
  const draw = () => {
    const line = document.createElement("div");
    line.setAttribute("role", model.get("role"));
    line.textContent = model.get("text");
    if (model.get("file")) {
      const link = document.createElement("a");
      link.href = model.get("content");
      link.download = model.get("file");
      link.textContent = "download";
      line.append(" · ", link);
    }
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
  for (const event of names) document.addEventListener(event, guard, true);
  // The rest of the widget is drawn later, and piece by piece; this line may be gone before it is.
  const nameAll = () => {
    const widget = el.closest(".tripletlib-widget");
    if (widget) name(widget);
    return widget;
  };
  const named = new MutationObserver(nameAll);
  const attached = new ResizeObserver(() => {
    const widget = nameAll();
    if (!widget) return;
    named.observe(widget, { childList: true, subtree: true });
    attached.disconnect();
  });
  attached.observe(el);
  model.on("change:text change:role change:content", draw);
  draw();
  return () => {
    named.disconnect();
    attached.disconnect();
    for (const event of names) document.removeEventListener(event, guard, true);
    model.off("change:text change:role change:content", draw);
  };
}

export default { render };
