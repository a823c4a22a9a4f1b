// Draws what a student knows: concepts with a ring for how well they were explained, claims and gaps around them.
// A node keeps its place and its element from one drawing to the next, so that a gap is seen to close.

const SVG = "http://www.w3.org/2000/svg";
const RADIUS = { concept: 24, claim: 11, gap: 11, misconception: 11 };
// About how many pairs of nodes are looked at in one layout: large maps get fewer rounds, never a frozen page.
const WORK = 3_000_000;
// A small map is not blown up beyond this width, in its own units.
const MOST = 620;

function shape(tag, attributes, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// Moves nodes apart and related ones together; the same map always gets the same places.
export function layout(nodes, edges, known = new Map()) {
  const near = new Map(edges.map(({ from, to }) => [from, to]));
  const places = new Map();
  nodes.forEach((node, at) => {
    const anchor = places.get(near.get(node.id));
    const angle = at * 2.399963; // The golden angle spreads any number of points.
    const far = anchor ? 50 : 60 + 14 * at;
    const start = { x: (anchor?.x ?? 0) + far * Math.cos(angle), y: (anchor?.y ?? 0) + far * Math.sin(angle) };
    places.set(node.id, { ...(known.get(node.id) ?? start), r: RADIUS[node.kind] + (node.kind === "concept" ? 24 : 4) });
  });
  const all = [...places.values()];
  const links = edges.map(({ from, to, kind }) => [places.get(from), places.get(to), kind === "about" ? 84 : 112]).filter(([a, b]) => a && b);
  const rounds = Math.min(300, Math.max(20, Math.floor(WORK / (all.length ** 2 + 1))));
  for (let round = 0; round < rounds; round += 1) step(all, links, 1 - round / rounds);
  return places;
}

function step(all, links, heat) {
  for (const place of all) Object.assign(place, { dx: -place.x * 0.012, dy: -place.y * 0.018 });
  for (let i = 0; i < all.length; i += 1) {
    for (let j = i + 1; j < all.length; j += 1) push(all[i], all[j]);
  }
  for (const [a, b, length] of links) {
    const [x, y] = [b.x - a.x, b.y - a.y];
    const far = Math.hypot(x, y) || 1;
    const pull = (0.06 * (far - length)) / far;
    a.dx += x * pull; a.dy += y * pull; b.dx -= x * pull; b.dy -= y * pull;
  }
  for (const place of all) {
    const far = Math.hypot(place.dx, place.dy) || 1;
    const most = Math.min(far, 2 + 18 * heat) / far;
    place.x += place.dx * most; place.y += place.dy * most;
  }
}

function push(a, b) {
  const [x, y] = [b.x - a.x || 0.1, b.y - a.y || 0.1];
  const far = Math.hypot(x, y);
  const overlap = Math.max(0, a.r + b.r + 6 - far);
  const force = (700 / (far * far) + overlap * 0.4) / far;
  a.dx -= x * force; a.dy -= y * force; b.dx += x * force; b.dy += y * force;
}

export class Drawing {
  // Calls chosen(id) when somebody points at a node.
  constructor(home, chosen) {
    this.svg = shape("svg", { role: "img", class: "map", preserveAspectRatio: "xMidYMid meet" });
    this.lines = shape("g", { class: "lines" });
    this.points = shape("g", {});
    // Names lie above all points, so that every name can be read.
    this.names = shape("g", {});
    this.svg.append(this.lines, this.points, this.names);
    this.svg.addEventListener("click", (event) => {
      const point = event.target.closest("[data-node]");
      if (point) chosen(Number(point.dataset.node));
    });
    home.append(this.svg);
    this.home = home;
    this.known = new Map();
    this.elements = new Map();
  }

  draw(map, label) {
    const nodes = map.nodes.filter((node) => node.status !== "dismissed");
    const ids = new Set(nodes.map((node) => node.id));
    const edges = map.edges.filter(({ from, to }) => ids.has(from) && ids.has(to));
    this.known = layout(nodes, edges, this.known);
    this.svg.setAttribute("aria-label", label);
    this.svg.setAttribute("viewBox", box([...this.known.values()], Math.min(this.home.clientWidth, MOST)));
    this.lines.replaceChildren(...edges.map(({ from, to, kind }) => {
      const [a, b] = [this.known.get(from), this.known.get(to)];
      return shape("line", { x1: a.x, y1: a.y, x2: b.x, y2: b.y, class: kind });
    }));
    this.names.replaceChildren(...nodes.filter((node) => node.kind === "concept").map((node) => {
      const { x, y } = this.known.get(node.id);
      return shape("text", { x, y: y + RADIUS.concept + 17, class: "name" }, short(node.label, 22));
    }));
    const mastery = new Map(map.mastery.map((it) => [it.concept, it.mastery]));
    for (const [id, element] of this.elements) if (!ids.has(id)) { element.remove(); this.elements.delete(id); }
    for (const node of nodes) this.place(node, mastery.get(node.id) ?? 0);
  }

  place(node, mastery) {
    let element = this.elements.get(node.id);
    if (!element) {
      element = shape("g", { "data-node": node.id });
      this.elements.set(node.id, element);
      this.points.append(element);
      element.append(shape("title", {}), ...body(node));
    }
    const { x, y } = this.known.get(node.id);
    const isChosen = element.classList.contains("chosen");
    element.setAttribute("class", `${node.kind} ${node.status ?? ""} ${node.severity ?? ""} ${node.kind === "concept" ? `m${Math.min(4, Math.floor(mastery * 5))}` : ""} ${isChosen ? "chosen" : ""}`);
    element.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)})`);
    element.querySelector("title").textContent = node.label;
    // A ring is a circle whose one dash is as long as its part of the way around.
    element.querySelector(".ring")?.setAttribute("stroke-dasharray", `${Math.round(mastery * 100)} 100`);
    const sign = element.querySelector(".sign");
    if (sign) sign.textContent = node.status === "answered" ? "✓" : node.kind === "misconception" ? "!" : "?";
  }

  choose(id) {
    for (const [known, element] of this.elements) element.classList.toggle("chosen", known === id);
  }
}

function body(node) {
  const r = RADIUS[node.kind];
  if (node.kind === "concept") {
    return [
      shape("circle", { r, class: "disc" }),
      shape("circle", { r, class: "ring", pathLength: 100, transform: "rotate(-90)" }),
    ];
  }
  if (node.kind === "claim") {
    return [shape("rect", { x: -r - 2, y: -r, width: 2 * r + 4, height: 2 * r, rx: 4 }), shape("text", { y: 4 }, node.id)];
  }
  return [shape("circle", { r }), shape("text", { y: 4.5, class: "sign" })];
}

// What is to be seen: all places with their names, and at least `width`.
function box(places, width) {
  const range = (values, before, after) => [Math.min(...values, 0) - before, Math.max(...values, 0) + after];
  const [left, right] = range(places.map(({ x }) => x), 70, 70);
  const [top, bottom] = range(places.map(({ y }) => y), 34, 54);
  const spare = Math.max(0, width - (right - left)) / 2;
  return [left - spare, top, right - left + 2 * spare, bottom - top].map(Math.round).join(" ");
}

const short = (text, most) => ([...text].length > most ? `${[...text].slice(0, most - 1).join("")}…` : text);
