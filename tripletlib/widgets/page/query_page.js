// The query browser without a kernel: Python has ranked everything, here it is shown and chosen.

const PAGE = 12; // queries shown at once
const content = JSON.parse(document.getElementById("content").textContent);
const at = (id) => document.getElementById(id);
const source = (key) => content.pictures[key];

// What anywidget gives a widget in a notebook: values, changes of them, and messages. Returns a
// function that changes some.
function show(widget, element, values, onMessage) {
  const handlers = new Map();
  const model = {
    get: (name) => values[name],
    send: onMessage,
    on: (events, act) => events.split(" ").forEach((event) => handlers.set(event, act)),
    off: () => {},
  };
  widget.render({ model, el: element });
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
  if (hovered !== undefined) map({ linked: hovered });
  if (chosen) showPair(chosen);
};
const chooseDot = ({ chosen, hovered }) => {
  if (hovered !== undefined) {
    results({ linked: hovered });
    map({ tip: { key: hovered, src: source(hovered), text: nameOf(hovered) } });
  }
  if (chosen) showPair(chosen);
};
const pictures = (id, label, choose) =>
  show(pictureGrid, at(id), { label, groups: [], selected: "", linked: "" }, choose);
const queries = pictures("queries", "queries", chooseQuery);
const results = pictures("results", "ranked gallery", chooseAnswer);
const why = pictures("why", "why", chooseAnswer);
const curve = show(precisionRecall, at("curve"), { curves: [] });
const { points, kinds, names } = content.gallery;
const map = show(
  galleryMap, at("map"), { points, kinds, answers: [], query: [0, 0], linked: "", tip: {} }, chooseDot,
);

// A picture of the gallery by its key; those that are no answer of any query have no picture here.
function nameOf(key) {
  return key && `Gallery picture ${key.split(":")[1]}: ${names[Number(key.split(":")[1])]}`;
}

function make(tag, text) {
  const node = document.createElement(tag);
  node.textContent = text;
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

const seen = () => content.queries[now].views[at("rerank").checked ? 1 : 0];

function draw() {
  const query = content.queries[now];
  const rerank = at("rerank").checked;
  const view = seen();
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
  const about = facts.hasChildNodes() ? facts : make("p", content.noScores);
  document.querySelector(".browser-about").replaceChildren(make("h2", query.name), about);
  const groups = rerank && !at("compare").checked ? view.groups.slice(1) : view.groups;
  const junk = at("junk").checked;
  results({ groups: withPictures(groups, (card) => junk || card.verdict !== "junk") });
  why({ groups: withPictures(view.why) });
  at("why-text").textContent = view.whyText;
  at("compare").disabled = !rerank;
  at("back").disabled = !way.length;
  at("forward").disabled = !gone.length;
  curve({ curves: query.curves.slice(0, rerank ? 2 : 1) });
  const answers = view.groups.at(-1).items.filter((card) => junk || card.verdict !== "junk");
  map({ query: query.point, answers: answers.map(({ key, verdict }) => [Number(key.split(":")[1]), verdict]) });
  drawList();
}

function drawList() {
  const page = list.slice(first, first + PAGE);
  const items = page.map((index) => {
    const query = content.queries[index];
    const ap = query.ap[0] === null ? "–" : `${(100 * query.ap[0]).toFixed(1)}%`;
    const description = `${query.name} · AP ${ap}`;
    const { key, lines } = query;
    return { key, src: source(key), description, verdict: "", mark: `AP ${ap}`, moved: "", lines };
  });
  const empty = "No query fits these filters.";
  queries({ groups: [{ title: "", items, empty }], selected: content.queries[now].key });
  const last = first + page.length;
  at("position").textContent = list.length ? `${first + 1}–${last} of ${list.length}` : "none";
  at("earlier").disabled = first === 0;
  at("later").disabled = last === list.length;
}

const ORDERS = { // by what queries are sorted, the smallest first
  worst: ([before]) => before,
  best: ([before]) => -before,
  gain: ([before, after]) => before - after,
  loss: ([before, after]) => after - before,
};

function sort() {
  const person = at("person").value.trim().replace(/^person\s+/, "");
  const wanted = [person && `person ${person}`, at("camera").value].filter(Boolean);
  list = [...content.queries.keys()].filter((index) => {
    const { lines, firstRight } = content.queries[index];
    return wanted.every((line) => lines.includes(line)) && !(at("wrong").checked && firstRight[0] === 1);
  });
  const order = ORDERS[at("order").value];
  const value = ({ ap }) => (ap[0] === null ? 2 : order(ap)); // those without an AP come last
  if (order) list.sort((a, b) => value(content.queries[a]) - value(content.queries[b]));
  first = 0;
  drawList();
}

function showPair(key) {
  if (!source(key)) return;
  const pair = document.querySelector(".browser-pair");
  const query = content.queries[now];
  const cards = [...seen().groups.toReversed(), ...seen().why].flatMap((group) => group.items);
  const text = cards.find((card) => card.key === key)?.description ?? "not among the answers shown";
  const images = [[query.key, query.name], [key, nameOf(key)]].map(([picture, name]) => {
    const image = make("img", "");
    image.src = source(picture);
    image.alt = name;
    return image;
  });
  pair.querySelector("div").replaceChildren(...images);
  pair.querySelector("p").textContent = `${query.name}, beside ${nameOf(key)}: ${text}`;
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
at("map-note").textContent = `Two principal components, ${content.gallery.explained} of the variance`;
const asked = Number(location.hash.slice(1));
now = Number.isInteger(asked) ? Math.max(0, Math.min(asked, content.queries.length - 1)) : 0;
draw();
