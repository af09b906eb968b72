// The playground: points to drag, and what triplets.js makes of them. A browser refuses modules
// from files, so this is a classic script and exports nothing: playground.py makes it a widget's
// module, or puts it into a page that has no kernel.

const HALF = 250; // half the side of the plane, in the drawing's units
const TRACE = { width: 230, height: 64, length: 80 };
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };
const SHAPES = { o: circle(8), "^": "M0-9L9 7H-9z", s: "M-7.5-7.5h15v15h-15z" };
const PARTS = `
  <svg class="playground-plane" viewBox="-300 -260 560 560" role="application"
      aria-label="embeddings: arrow keys move a point, Enter makes it the anchor">
    <g class="playground-grid"></g>
    <text y="292">embedding, first entry</text>
    <text transform="translate(-286 0) rotate(-90)">embedding, second entry</text>
    <path class="mark playground-ring" d="${circle(15)}"/>
    <path class="mark playground-positive"/><path class="mark playground-negative"/>
    <text class="playground-positive" dy="29"></text>
    <text class="playground-negative" dy="29"></text>
    <path class="mark playground-arrows"/>
    <g class="playground-points"></g>
  </svg>
  <div class="playground-side">
    <p>Drag a point. Click one to make it the anchor.</p>
    <label>margin
      <input class="playground-margin" type="range" min="0" value="0.5" step="0.05">
      <span class="playground-value"></span>
    </label>
    <label><input class="playground-soft" type="checkbox"> soft margin</label>
    <label>arrows and steps by
      <select class="playground-follow">
        <option value="hard">batch hard</option><option value="all">batch all</option>
      </select>
    </label>
    <div class="playground-buttons">
      <button class="playground-step">take a gradient step</button>
      <button class="playground-walk">20 steps</button>
      <button class="playground-pile">pile up</button>
      <button class="playground-undo">undo</button>
      <button class="playground-reset">reset</button>
    </div>
    <div class="playground-text" aria-live="polite"></div>
    <svg class="playground-trace" role="img" aria-label="the losses after each of the last changes"
        viewBox="-2 -24 ${TRACE.width + 34} ${TRACE.height + 30}">
      <text y="-10">losses so far: ━ batch hard, ╍ batch all</text>
      <text class="playground-top" x="${TRACE.width + 6}" y="4"></text>
      <text x="${TRACE.width + 6}" y="${TRACE.height + 4}">0</text>
      <path class="playground-floor" d="M0 ${TRACE.height}h${TRACE.width}"/>
      <path class="mark playground-all"/><path class="mark playground-hard"/>
    </svg>
  </div>`;

function circle(r) {
  return `M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0z`;
}

// Shaft and head, from a tail along a vector.
function arrow([x, y], [u, v]) {
  const length = Math.hypot(u, v);
  if (!length) return "";
  const back = -Math.min(12, length / 2) / length;
  const [p, q] = [back * u, back * v];
  const barbs = `m${p - q / 2} ${q + p / 2}L${x + u} ${y + v}l${p + q / 2} ${q - p / 2}`;
  return `M${x} ${y}l${u} ${v}${barbs}`;
}

// Lines at round numbers, at most four on each side of 0.
function gridLines(limit) {
  const power = 10 ** Math.floor(Math.log10(limit));
  const step = power * (limit < 2 * power ? 0.5 : limit < 5 * power ? 1 : 2);
  let lines = "";
  for (let i = -Math.floor(limit / step); i * step <= limit; i += 1) {
    const [at, text] = [(i * step * HALF) / limit, `${Number((i * step).toPrecision(2))}`];
    lines += `<path d="M${at} ${-HALF}v${2 * HALF}M${-HALF} ${-at}h${2 * HALF}"/>
      <text x="${at}" y="${HALF + 18}">${text}</text>
      <text x="${-HALF - 14}" y="${5 - at}">${text}</text>`;
  }
  return lines;
}

function pointMark({ name, colour, marker }) {
  return `<g class="playground-point" role="button" tabindex="0"><circle r="14"/>
    <path class="mark" fill="${colour}" d="${SHAPES[marker]}"/>
    <text x="19" y="-9">${name}</text></g>`;
}

// Stands for the widget's model where there is no kernel.
function pageModel(values) {
  let changed = null;
  return {
    get: (name) => values[name],
    set: (name, value) => { values[name] = value; changed(); },
    save_changes: () => {},
    on: (event, callback) => { changed = callback; },
  };
}

// The drawing of a scene { points, anchor, margin }.
class Plane {
  constructor(svg, looks, least) {
    Object.assign(this, { svg, looks, least, limit: least }); // shown is -limit to limit
    this.part = (name) => svg.querySelector(`.playground-${name}`);
    this.part("points").innerHTML = looks.map(pointMark).join("");
    this.marks = [...this.part("points").children];
  }

  place([x, y]) {
    return [(x * HALF) / this.limit, (-y * HALF) / this.limit];
  }

  put(node, point) {
    node.setAttribute("transform", `translate(${this.place(point).join(" ")})`);
  }

  // The point in the plane that is under the mouse or a finger.
  under({ clientX, clientY }) {
    const pixel = new DOMPoint(clientX, clientY);
    const { x, y } = pixel.matrixTransform(this.svg.getScreenCTM().inverse());
    return [(x * this.limit) / HALF, (-y * this.limit) / HALF];
  }

  index(event) {
    return this.marks.indexOf(event.target.closest(".playground-point"));
  }

  fit(points) {
    this.limit = Math.max(this.least, 1.1 * Math.max(...points.flat().map(Math.abs)));
    this.part("grid").innerHTML = gridLines(this.limit);
  }

  draw({ points, anchor }, steps, [, positive, negative]) {
    this.marks.forEach((mark, i) => {
      this.put(mark, points[i]);
      const [x, y] = points[i].map((v) => v.toFixed(1));
      mark.setAttribute("aria-label", `${this.looks[i].name} at ${x}, ${y}`);
      mark.setAttribute("aria-pressed", i === anchor);
    });
    this.put(this.part("ring"), points[anchor]);
    const arrows = points.map((point, i) => arrow(this.place(point), this.place(steps[i])));
    this.part("arrows").setAttribute("d", arrows.join(""));
    this.drawPair("positive", points[anchor], points[positive]);
    this.drawPair("negative", points[anchor], points[negative]);
  }

  drawPair(kind, from, to) {
    const [line, text] = this.svg.querySelectorAll(`.playground-${kind}`);
    line.setAttribute("d", `M${this.place(from)}L${this.place(to)}`);
    text.textContent = `d_${kind.slice(0, 3)} ${distance(from, to).toFixed(2)}`;
    this.put(text, to);
  }
}

// Pairs of losses, of batch hard and batch all, as two lines.
function drawTrace(svg, losses) {
  const top = Math.max(...losses.flat());
  svg.querySelector(".playground-top").textContent = top.toFixed(2);
  ["hard", "all"].forEach((name, k) => {
    const ends = losses.map((pair, i) => [i / TRACE.length, 1 - pair[k] / (top || 1)]);
    const line = ends.map(([x, y]) => `${TRACE.width * x} ${TRACE.height * y}`).join("L");
    svg.querySelector(`.playground-${name}`).setAttribute("d", `M${line}h1`);
  });
}

function sentences({ points, anchor, margin }, { hard, all }, triplet, looks) {
  const mean = ({ loss, active }) =>
    `loss ${loss.toFixed(3)} · active ${Math.round(100 * active)}%`;
  const pair = (i) => `${looks[i].name}, ${distance(points[anchor], points[i]).toFixed(2)} away`;
  const own = tripletLoss(difference(points, triplet), margin).loss.toFixed(3);
  return [
    `batch hard: ${mean(hard)}`,
    `batch all: ${mean(all)}`,
    `${looks[anchor].name}: loss ${own}`,
    `hardest positive: ${pair(triplet[1])}`,
    `hardest negative: ${pair(triplet[2])}`,
  ].join("\n");
}

// Calls `grab`, `drag` with the way from there, and `drop` or `choose` as points are dragged or
// clicked, and `nudge` and `choose` as keys are pressed on them.
function listen(plane, { grab, drag, drop, nudge, choose }) {
  let held = null; // by one finger; others are ignored until it is gone
  plane.svg.addEventListener("pointerdown", (event) => {
    const i = plane.index(event);
    if (i < 0 || held) return;
    plane.svg.setPointerCapture(event.pointerId);
    held = { i, pointer: event.pointerId, from: plane.under(event), moved: false };
    grab();
  });
  plane.svg.addEventListener("pointermove", (event) => {
    if (held?.pointer !== event.pointerId) return;
    const by = plane.under(event).map((v, axis) => v - held.from[axis]);
    held.moved ||= Math.hypot(...by) > plane.limit / 100;
    if (held.moved) drag(held.i, by);
  });
  const release = (event) => {
    if (held?.pointer !== event.pointerId) return;
    const { i, moved } = held;
    held = null;
    if (moved) drop();
    else choose(i);
  };
  plane.svg.addEventListener("lostpointercapture", release);
  plane.svg.addEventListener("pointercancel", release); // also before it was captured
  plane.svg.addEventListener("keydown", (event) => {
    const [i, by] = [plane.index(event), KEYS[event.key]];
    if (i < 0 || !(by || ["Enter", " "].includes(event.key))) return;
    event.preventDefault();
    if (by) nudge(i, by.map((v) => (v * plane.limit) / 32));
    else choose(i);
  });
}

function render({ model, el }) {
  const { looks, labels, learning_rate: rate, half_width: least } = model.get("fixed");
  const triplets = allTriplets(labels);
  el.classList.add("playground");
  el.tabIndex = -1; // a click on no control focuses the widget and not the cell
  el.innerHTML = PARTS;
  const part = (name) => el.querySelector(`.playground-${name}`);
  const plane = new Plane(part("plane"), looks, least);
  // JupyterLab deletes and inserts cells by single keys, unless the focused element says no.
  for (const one of [el, ...el.querySelectorAll("*")]) one.dataset.lmSuppressShortcuts = "true";

  const losses = []; // [batch hard, batch all] after each of the last changes
  const before = []; // the points before each change, for "undo"
  let grabbed = null; // the points as they were before one was taken hold of
  let timer = 0;
  const now = () => model.get("now"); // { points, anchor, margin }
  const change = (changes) => {
    model.set("now", { ...now(), ...changes });
    model.save_changes();
  };
  const remember = () => {
    clearTimeout(timer);
    before.push(now().points);
  };
  const move = (points) => {
    remember();
    change({ points });
  };
  const shifted = (points, i, by) => points.with(i, points[i].map((v, axis) => v + by[axis]));
  const steps = ({ gradient }) => gradient.map((slope) => slope.map((v) => -rate * v));
  const stepped = () => {
    const by = steps(measure(now(), triplets)[part("follow").value]);
    return now().points.map((point, i) => point.map((v, axis) => v + by[i][axis]));
  };
  const walk = (count) => {
    change({ points: stepped() });
    if (count > 1) timer = setTimeout(walk, 80, count - 1);
  };

  const drawControls = (margin) => {
    part("soft").checked = part("margin").disabled = margin === "soft";
    if (margin === "soft") return;
    part("margin").max = Math.max(2, margin);
    part("margin").value = part("value").textContent = margin;
  };
  const draw = () => {
    const scene = now();
    if (!grabbed) plane.fit(scene.points); // while it grows, a point held outside would run away
    const measured = measure(scene, triplets);
    const triplet = measured.choices.find(([a]) => a === scene.anchor);
    plane.draw(scene, steps(measured[part("follow").value]), triplet);
    part("text").textContent = sentences(scene, measured, triplet, looks);
    drawControls(scene.margin);
    const pair = [measured.hard.loss, measured.all.loss];
    if (String(losses.at(-1)) !== String(pair)) losses.push(pair);
    losses.splice(0, losses.length - TRACE.length);
    drawTrace(part("trace"), losses);
  };

  listen(plane, {
    grab: () => { clearTimeout(timer); grabbed = now().points; },
    drag: (i, by) => change({ points: shifted(grabbed, i, by) }),
    drop: () => { before.push(grabbed); grabbed = null; draw(); },
    nudge: (i, by) => move(shifted(now().points, i, by)),
    choose: (anchor) => {
      grabbed = null;
      if (triplets.some(([a]) => a === anchor)) change({ anchor });
    },
  });
  const setMargin = () => change({
    margin: part("soft").checked ? "soft" : part("margin").valueAsNumber,
  });
  const actions = {
    step: () => move(stepped()),
    walk: () => { remember(); walk(20); },
    pile: () => move(now().points.map((point) => point.map((v) => v / 50))),
    undo: () => { clearTimeout(timer); if (before.length) change({ points: before.pop() }); },
    reset: () => { remember(); losses.length = 0; change(model.get("start")); },
  };
  for (const [name, act] of Object.entries(actions)) part(name).addEventListener("click", act);
  for (const name of ["margin", "soft"]) part(name).addEventListener("input", setMargin);
  part("follow").addEventListener("input", draw);
  model.on("change:now", draw);
  draw();
  return () => { clearTimeout(timer); model.off("change:now", draw); };
}
