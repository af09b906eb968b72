// The query browser without a kernel: Python has ranked everything, here it is shown and chosen.

const PAGE = 12; // queries shown at once
const content = JSON.parse(document.getElementById("content").textContent);
const at = (id) => document.getElementById(id);
const source = (key) => `data:image/jpeg;base64,${content.pictures[key]}`;

// What anywidget gives picture_grid.js in a notebook: values, changes of them, and messages.
function grid(element, label, onMessage) {
  const values = { label, groups: [], selected: "", linked: "" };
  const handlers = new Map();
  const model = {
    get: (name) => values[name],
    send: onMessage,
    on: (events, act) => events.split(" ").forEach((event) => handlers.set(event, act)),
    off: () => {},
  };
  pictureGrid.render({ model, el: element });
  return (changed) => {
    Object.assign(values, changed);
    for (const name in changed) handlers.get(`change:${name}`)?.();
  };
}

const withPictures = (groups, kept = () => true) =>
  groups.map((group) => ({
    ...group,
    items: group.items.filter(kept).map((card) => ({ ...card, src: source(card.key) })),
  }));

let now = 0; // the query that is looked up
let list = content.queries.map((_, index) => index);
let first = 0; // place of the page's first query in the list
const way = []; // the queries of the way here, and those gone back from
const gone = [];

const chooseQuery = ({ chosen }) => chosen && lookUp(Number(chosen.split(":")[1]));
const chooseAnswer = ({ chosen, hovered }) => {
  if (hovered !== undefined) pointOut(hovered);
  if (chosen) showPair(chosen);
};
const queryGrid = grid(at("queries"), "queries", chooseQuery);
const resultGrid = grid(at("results"), "ranked gallery", chooseAnswer);
const whyGrid = grid(at("why"), "why", chooseAnswer);

function make(tag, text) {
  const node = document.createElement(tag);
  node.textContent = text;
  return node;
}

function svg(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

function lookUp(index) {
  if (index === now) return;
  way.push(now);
  gone.length = 0;
  go(index);
}

function go(index) {
  now = index;
  history.replaceState(null, "", `#${index}`); // the address leads to this query
  draw();
}

function draw() {
  const query = content.queries[now];
  const rerank = at("rerank").checked;
  const view = query.views[rerank ? 1 : 0];
  const image = make("img", "");
  image.src = source(query.key);
  image.alt = query.name;
  document.querySelector(".browser-query").replaceChildren(image);
  const facts = make("div", "");
  facts.className = "facts";
  for (const [what, value] of Object.entries(view.facts)) {
    const fact = make("div", "");
    fact.append(make("span", what), make("b", value));
    facts.append(fact);
  }
  document.querySelector(".browser-about").replaceChildren(make("h2", query.name), facts);
  const groups = rerank && !at("compare").checked ? view.groups.slice(1) : view.groups;
  const junk = at("junk").checked;
  resultGrid({ groups: withPictures(groups, (card) => junk || card.verdict !== "junk") });
  whyGrid({ groups: withPictures(view.why) });
  at("why-text").textContent = view.whyText;
  at("compare").disabled = !rerank;
  at("back").disabled = !way.length;
  at("forward").disabled = !gone.length;
  drawCurve(query.curves.slice(0, rerank ? 2 : 1));
  drawMap(query, view.groups.at(-1).items);
  drawList();
}

function drawList() {
  const page = list.slice(first, first + PAGE);
  const items = page.map((index) => {
    const query = content.queries[index];
    const ap = query.ap[0] === null ? "–" : `${(100 * query.ap[0]).toFixed(1)}%`;
    const description = `${query.name} · AP ${ap}`;
    return { key: query.key, src: source(query.key), description, mark: `AP ${ap}`, moved: "", lines: query.lines };
  });
  const empty = "No query fits these filters.";
  queryGrid({ groups: [{ title: "", items, empty }], selected: content.queries[now].key });
  const last = first + page.length;
  at("position").textContent = list.length ? `${first + 1}–${last} of ${list.length}` : "none";
  at("earlier").disabled = first === 0;
  at("later").disabled = last === list.length;
}

const GAIN = ({ ap }) => ap[1] - ap[0];
const ORDERS = {
  worst: (a, b) => a.ap[0] - b.ap[0],
  best: (a, b) => b.ap[0] - a.ap[0],
  gain: (a, b) => GAIN(b) - GAIN(a),
  loss: (a, b) => GAIN(a) - GAIN(b),
};

function sort() {
  const person = at("person").value.trim().replace(/^person\s+/, "");
  const wanted = [person && `person ${person}`, at("camera").value].filter(Boolean);
  list = [...content.queries.keys()].filter((index) => {
    const { lines, firstRight } = content.queries[index];
    return wanted.every((line) => lines.includes(line)) && !(at("wrong").checked && firstRight[0] === 1);
  });
  const order = ORDERS[at("order").value];
  if (order) list.sort((a, b) => order(content.queries[a], content.queries[b]));
  first = 0;
  drawList();
}

// Precision over recall; the second line is dashed, as in the legend.
function drawCurve(curves) {
  const place = ([recall, precision]) => `${300 * recall},${240 - 240 * precision}`;
  const parts = [svg("path", { class: "axis", d: "M0,0V240H300" })];
  for (const share of [0, 0.5, 1]) {
    const across = svg("text", { x: 300 * share, y: 256, "text-anchor": "middle" });
    const up = svg("text", { x: -6, y: 244 - 240 * share, "text-anchor": "end" });
    across.textContent = up.textContent = share;
    parts.push(across, up);
  }
  curves.forEach((curve, number) => {
    const look = `fill:none;stroke-width:3;stroke:var(--${number ? "after" : "before"})`;
    const dashes = number ? { "stroke-dasharray": "9 6" } : {};
    parts.push(svg("polyline", { points: curve.map(place).join(" "), style: look, ...dashes }));
  });
  at("curve").replaceChildren(...parts);
}

// The gallery in the plane of two principal components; answers and query stand out.
const xs = content.plane.map(([x]) => x);
const ys = content.plane.map(([, y]) => y);
const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
const onMap = ([x, y]) => [(400 * (x - left)) / (right - left || 1), 300 - (300 * (y - low)) / (high - low || 1)];
at("map").setAttribute("viewBox", "-12 -12 424 324");
at("map-note").textContent = `Two principal components, ${content.explained} of the variance`;
const background = svg("path", {
  class: "other",
  d: content.plane.map((point) => `M${onMap(point).map((value) => value.toFixed(1)).join(",")}h2v2h-2z`).join(""),
});
const SHAPES = {
  right: "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0",
  wrong: "M-2,-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z",
  distractor: "M-6,-5h12l-6,11z",
  junk: "M-6,5h12l-6,-11z",
};

function drawMap(query, answers) {
  const marks = answers
    .filter((card) => at("junk").checked || card.verdict !== "junk")
    .map((card) => {
      const [x, y] = onMap(content.plane[Number(card.key.split(":")[1])]);
      const mark = svg("path", { class: `answer verdict-${card.verdict}`, d: SHAPES[card.verdict] });
      mark.setAttribute("transform", `translate(${x},${y})`);
      mark.dataset.key = card.key;
      mark.append(svg("title", {}));
      mark.lastChild.textContent = card.description;
      mark.addEventListener("click", () => showPair(card.key));
      mark.addEventListener("pointerenter", () => resultGrid({ linked: card.key }));
      mark.addEventListener("pointerleave", () => resultGrid({ linked: "" }));
      return mark;
    });
  const [x, y] = onMap(query.point);
  const itself = svg("path", { class: "query", d: "M0,-9l9,9l-9,9l-9,-9z", transform: `translate(${x},${y})` });
  at("map").replaceChildren(background, ...marks, itself);
}

function pointOut(key) {
  for (const mark of at("map").querySelectorAll(".answer"))
    mark.classList.toggle("pointed", key !== "" && mark.dataset.key === key);
}

function showPair(key) {
  const pair = document.querySelector(".browser-pair");
  const query = content.queries[now];
  const cards = query.views.flatMap((view) => [...view.groups, ...view.why]).flatMap((group) => group.items);
  const answer = cards.find((card) => card.key === key);
  const images = [[query.key, query.name], [key, answer.description]].map(([picture, text]) => {
    const image = make("img", "");
    image.src = source(picture);
    image.alt = text;
    return image;
  });
  pair.querySelector("div").replaceChildren(...images);
  pair.querySelector("p").textContent = `${query.name}, beside gallery picture ${key.split(":")[1]}: ${answer.description}`;
  pair.showModal();
}

function fill(select, texts) {
  for (const text of texts) {
    const option = make("option", text);
    option.value = text;
    select.append(option);
  }
}

const named = (place) => [...new Set(content.queries.map(({ lines }) => lines[place]))];
fill(at("camera"), named(1).sort());
fill(at("people"), named(0));
for (const id of ["rerank", "compare", "junk"]) at(id).addEventListener("change", draw);
for (const id of ["order", "camera", "person", "wrong"]) at(id).addEventListener("change", sort);
at("earlier").addEventListener("click", () => { first -= PAGE; drawList(); });
at("later").addEventListener("click", () => { first += PAGE; drawList(); });
at("back").addEventListener("click", () => { gone.push(now); go(way.pop()); });
at("forward").addEventListener("click", () => { way.push(now); go(gone.pop()); });
now = Math.min(Number(location.hash.slice(1)) || 0, content.queries.length - 1);
draw();
