// The gallery as dots in a plane: query and answers stand out; the wheel zooms, a drag moves the
// plane, a double click shows all of it. The dot near the mouse grows, and a click chooses it.

const NEAR = 14; // pixels from the mouse within which a dot answers
const CLOSEST = 1 / 60; // of the whole width: the narrowest view
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#AA4499", "#8C6D00", "#4B7BA6", "#B0413E"];
// In pixels, around the origin.
const SHAPES = {
  right: "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0",
  wrong: "M-2,-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
  distractor: "M-6,-5h12l-6,11z",
  junk: "M-6,5h12l-6,-11z",
  unknown: "M-5,-5h10v10h-10z",
  query: "M0,-9l9,9l-9,9l-9,-9z",
  ring: "M-10,0a10,10 0 1,0 20,0a10,10 0 1,0 -20,0",
  near: "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0",
};

function svg(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function box(points) {
  const [left, top] = [0, 1].map((axis) => points.reduce((low, p) => Math.min(low, p[axis]), Infinity));
  const [right, bottom] = [0, 1].map((axis) => points.reduce((high, p) => Math.max(high, p[axis]), -Infinity));
  const rim = 0.04 * Math.max(right - left, bottom - top) || 1;
  return [left - rim, top - rim, right - left + 2 * rim, bottom - top + 2 * rim];
}

function render({ model, el }) {
  el.classList.add("gallery-map");
  const plot = svg("svg", { role: "img", "aria-label": "map of the gallery" });
  const colours = document.createElement("select");
  colours.setAttribute("aria-label", "colours of the map");
  for (const name of ["verdict", ...Object.keys(model.get("kinds"))])
    colours.add(new Option(`colours: ${name}`, name));
  const tip = document.createElement("div");
  tip.className = "map-tip";
  tip.hidden = true;
  el.replaceChildren(colours, plot, tip);

  const points = model.get("points").map(([x, y]) => [x, -y]); // on a page y points down
  const whole = box(points);
  let view = whole;
  let near = null; // the index of the dot near the mouse
  let held = null; // where the mouse took hold of the plane

  const pixel = () => Math.max(view[2] / (plot.clientWidth || 400), view[3] / (plot.clientHeight || 300));
  const under = (event) => {
    const place = new DOMPoint(event.clientX, event.clientY).matrixTransform(plot.getScreenCTM().inverse());
    return [place.x, place.y];
  };
  const mark = (shape, [x, y], look) => {
    const transform = `translate(${x},${y}) scale(${pixel()})`;
    return svg("path", { d: SHAPES[shape], class: look, transform });
  };
  const dots = (chosen, colour) => {
    const d = chosen.map((index) => `M${points[index].join(",")}h0`).join("");
    return svg("path", { d, class: "dots", style: colour ? `stroke:${colour}` : "" });
  };
  const [ground, marks] = [svg("g", {}), svg("g", {})];
  plot.append(ground, marks);
  const paint = () => {
    const kind = model.get("kinds")[colours.value];
    const groups = COLOURS.map(() => []);
    kind?.forEach((number, index) => groups[number % COLOURS.length].push(index));
    const all = kind ? groups.map((group, number) => dots(group, COLOURS[number])) : [dots([...points.keys()])];
    ground.replaceChildren(...all);
  };
  const draw = () => {
    plot.setAttribute("viewBox", view.join(" "));
    const answers = model.get("answers").map(([index, verdict]) =>
      mark(verdict, points[index], `answer verdict-${verdict}`));
    const [x, y] = model.get("query");
    const linked = model.get("linked") && points[Number(model.get("linked").split(":")[1])];
    const above = [mark("query", [x, -y], "query")];
    if (linked) above.push(mark("ring", linked, "ring"));
    if (near !== null) above.push(mark("near", points[near], "near"));
    marks.replaceChildren(...answers, ...above);
  };

  const nearest = (event) => {
    const [x, y] = under(event);
    let best = null;
    let least = NEAR * pixel();
    points.forEach((point, index) => {
      const distance = Math.hypot(point[0] - x, point[1] - y);
      if (distance < least) [best, least] = [index, distance];
    });
    return best;
  };
  const approach = (index) => {
    if (index === near) return;
    near = index;
    tip.hidden = true;
    plot.style.cursor = index === null ? "" : "pointer";
    draw();
    model.send({ hovered: index === null ? "" : `gallery:${index}` });
  };
  const describe = () => {
    const { key, src, text } = model.get("tip");
    tip.hidden = near === null || key !== `gallery:${near}`;
    if (tip.hidden) return;
    const [image, name] = [document.createElement("img"), document.createElement("div")];
    image.src = src ?? "";
    image.alt = "";
    image.hidden = !src;
    name.textContent = text;
    tip.replaceChildren(image, name);
    const place = new DOMPoint(...points[near]).matrixTransform(plot.getScreenCTM());
    const around = el.getBoundingClientRect();
    const right = place.x - around.left > around.width / 2;
    tip.style.top = `${Math.max(0, place.y - around.top - 60)}px`;
    tip.style.left = right ? "" : `${place.x - around.left + 16}px`;
    tip.style.right = right ? `${around.right - place.x + 16}px` : "";
  };
  const show = (changed) => {
    view = changed;
    draw();
  };

  plot.addEventListener("wheel", (event) => {
    event.preventDefault();
    const [x, y] = under(event);
    const factor = Math.exp(Math.sign(event.deltaY) * 0.2);
    const width = Math.min(whole[2], Math.max(whole[2] * CLOSEST, view[2] * factor));
    const by = width / view[2];
    show(width === whole[2] ? whole : [x - (x - view[0]) * by, y - (y - view[1]) * by, width, view[3] * by]);
  }, { passive: false });
  plot.addEventListener("pointerdown", (event) => { held = { at: under(event), moved: false }; });
  plot.addEventListener("pointermove", (event) => {
    if (!held || !event.buttons) return approach(nearest(event));
    const [x, y] = under(event);
    const [dx, dy] = [held.at[0] - x, held.at[1] - y];
    if (!held.moved && Math.hypot(dx, dy) < 4 * pixel()) return;
    held.moved = true;
    approach(null);
    show([view[0] + dx, view[1] + dy, view[2], view[3]]);
  });
  plot.addEventListener("click", (event) => {
    const chosen = held?.moved ? null : nearest(event);
    held = null;
    if (chosen !== null) model.send({ chosen: `gallery:${chosen}` });
  });
  plot.addEventListener("dblclick", () => show(whole));
  plot.addEventListener("pointerleave", () => approach(null));
  colours.addEventListener("change", paint);
  const seen = new ResizeObserver(draw); // the size of a pixel is known once it is on the page
  seen.observe(plot);
  const redrawn = ["answers", "query", "linked"].map((name) => `change:${name}`);
  for (const event of redrawn) model.on(event, draw);
  model.on("change:tip", describe);
  paint();
  draw();
  return () => {
    seen.disconnect();
    for (const event of redrawn) model.off(event, draw);
    model.off("change:tip", describe);
  };
}

export default { render };
