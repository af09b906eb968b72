// Draws groups of captioned pictures as buttons. One message from Python redraws everything, one
// message to Python says which picture was chosen. All text goes in as text, never as HTML.

function make(tag, className, text) {
  const node = document.createElement(tag);
  node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function card(item, choose) {
  const verdict = item.verdict && `verdict-${item.verdict}`;
  const button = make("button", `picture-card ${verdict}`);
  button.type = "button";
  button.dataset.key = item.key;
  button.title = item.description;
  button.setAttribute("aria-label", item.description);
  button.tabIndex = -1;
  const head = make("span", "picture-head");
  head.append(make("span", "picture-mark", item.mark), make("span", "picture-moved", item.moved));
  const picture = make("img", "picture");
  picture.src = item.src;
  picture.alt = "";
  button.append(head, picture, ...item.lines.map((line) => make("span", "picture-line", line)));
  button.addEventListener("click", () => choose(item.key));
  return button;
}

// The card that lies above or below, by what is seen: rows depend on the width of the cell.
function vertical(cards, from, direction) {
  const here = from.getBoundingClientRect();
  const rest = cards.filter((other) => {
    const top = other.getBoundingClientRect().top;
    return direction > 0 ? top > here.top + 4 : top < here.top - 4;
  });
  const far = (other) => {
    const there = other.getBoundingClientRect();
    return Math.abs(there.top - here.top) * 10 + Math.abs(there.left - here.left);
  };
  return rest.sort((a, b) => far(a) - far(b))[0];
}

function target(key, cards, from) {
  const place = cards.indexOf(from);
  switch (key) {
    case "ArrowRight": return cards[place + 1];
    case "ArrowLeft": return cards[place - 1];
    case "ArrowDown": return vertical(cards, from, 1);
    case "ArrowUp": return vertical(cards, from, -1);
    case "Home": return cards[0];
    case "End": return cards[cards.length - 1];
    default: return null;
  }
}

function render({ model, el }) {
  el.classList.add("picture-groups");
  el.setAttribute("role", "group");
  const cards = () => [...el.querySelectorAll(".picture-card")];

  // One card is in the order of the Tab key; the arrow keys go from there.
  const rove = (to, focus) => {
    cards().forEach((other) => { other.tabIndex = other === to ? 0 : -1; });
    if (focus) to?.focus();
  };
  const markSelected = () => {
    for (const one of cards()) {
      const chosen = one.dataset.key === model.get("selected");
      one.classList.toggle("selected", chosen);
      if (chosen) one.setAttribute("aria-current", "true");
      else one.removeAttribute("aria-current");
    }
  };
  const link = (key) => {
    for (const one of cards()) one.classList.toggle("linked", key !== "" && one.dataset.key === key);
  };
  let hovered = "";
  const hover = (key) => {
    if (key === hovered) return;
    hovered = key;
    link(key);
    model.send({ hovered: key });
  };
  const linkFromPython = () => link(model.get("linked"));
  const draw = () => {
    const hadFocus = el.contains(document.activeElement);
    el.setAttribute("aria-label", model.get("label"));
    el.replaceChildren(...model.get("groups").map((group) => {
      const box = make("div", "picture-group");
      if (group.title) box.append(make("div", "picture-title", group.title));
      const grid = make("div", "picture-grid");
      grid.append(...group.items.map((item) => card(item, (key) => model.send({ chosen: key }))));
      if (!group.items.length) grid.append(make("div", "picture-empty", group.empty));
      box.append(grid);
      return box;
    }));
    markSelected();
    rove(el.querySelector(".picture-card.selected") ?? cards()[0], hadFocus);
  };

  el.addEventListener("keydown", (event) => {
    const from = event.target.closest(".picture-card");
    const to = from && target(event.key, cards(), from);
    if (to === null) return;
    event.preventDefault();
    event.stopPropagation();
    if (to) rove(to, true);
  });
  const entered = (event) => hover(event.target.closest?.(".picture-card")?.dataset.key ?? "");
  el.addEventListener("pointerover", entered);
  el.addEventListener("focusin", (event) => {
    entered(event);
    const focused = event.target.closest(".picture-card");
    if (focused) rove(focused, false);
  });
  for (const name of ["pointerleave", "focusout"]) el.addEventListener(name, () => hover(""));
  model.on("change:groups", draw);
  model.on("change:selected", markSelected);
  model.on("change:linked", linkFromPython);
  draw();
  return () => {
    model.off("change:groups", draw);
    model.off("change:selected", markSelected);
    model.off("change:linked", linkFromPython);
  };
}

export default { render };
