// Precision over recall, up to two curves. Their steps enclose the AP by the rectangle rule.

const [WIDTH, HEIGHT] = [300, 230];

function svg(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

const place = ([recall, precision]) => `${WIDTH * recall},${HEIGHT * (1 - precision)}`;

function steps(curve) {
  const corners = curve.flatMap((point, i) => (i ? [[curve[i - 1][0], point[1]], point] : [point]));
  return corners.map(place).join(" ");
}

function axes() {
  const parts = [svg("path", { class: "axis", d: `M0,0V${HEIGHT}H${WIDTH}` })];
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const across = { x: WIDTH * share, y: HEIGHT + 15, "text-anchor": "middle" };
    const up = { x: -6, y: HEIGHT * (1 - share) + 4, "text-anchor": "end" };
    parts.push(svg("text", across, share), svg("text", up, share));
  }
  parts.push(svg("text", { x: WIDTH / 2, y: HEIGHT + 32, "text-anchor": "middle" }, "recall"));
  const turned = `translate(-34,${HEIGHT / 2}) rotate(-90)`;
  parts.push(svg("text", { transform: turned, "text-anchor": "middle" }, "precision"));
  return parts;
}

function render({ model, el }) {
  el.classList.add("curve");
  const label = "precision over recall";
  const plot = svg("svg", { role: "img", "aria-label": label, viewBox: "-48 -8 360 276" });
  el.replaceChildren(plot);
  const draw = () => {
    const lines = model.get("curves").map((curve, number) =>
      svg("polyline", { points: steps(curve), class: number ? "line after" : "line before" }));
    plot.replaceChildren(...axes(), ...lines);
  };
  model.on("change:curves", draw);
  draw();
  return () => model.off("change:curves", draw);
}

export default { render };
