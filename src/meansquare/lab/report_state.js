// What the reader chose, kept in the address after "#", so that a view can be linked; and words.
const DATA = JSON.parse(document.getElementById("data").textContent);
const OPTIMIZERS = DATA.optimizers;
const TASKS = DATA.tasks;

const state = fromHash(location.hash);
const listeners = [];

function fromHash(hash) {
  const words = new URLSearchParams(hash.includes("=") ? hash.slice(1) : "");
  const pairs = (name) => words.getAll(name).map((word) => word.split("~"));
  return {
    kinds: new Set(words.getAll("kind")),
    tasks: new Set(words.getAll("task")),
    off: new Set(words.getAll("off")),
    x: ["steps", "seconds"].includes(words.get("x")) ? words.get("x") : "period",
    everySeed: words.has("seeds"),
    theme: ["light", "dark"].includes(words.get("theme")) ? words.get("theme") : "",
    views: new Map(pairs("view")),
    zooms: new Map(pairs("zoom").map(([id, low, high]) => [id, [Number(low), Number(high)]])
      .filter(([, range]) => range.every(Number.isFinite) && range[0] < range[1])),
    at: words.get("at") || "",
  };
}

function toHash() {
  const words = new URLSearchParams();
  state.kinds.forEach((kind) => words.append("kind", kind));
  state.tasks.forEach((task) => words.append("task", task));
  state.off.forEach((name) => words.append("off", name));
  if (state.x !== "period") words.set("x", state.x);
  if (state.everySeed) words.set("seeds", "every");
  if (state.theme) words.set("theme", state.theme);
  state.views.forEach((view, id) => words.append("view", `${id}~${view}`));
  state.zooms.forEach((range, id) => words.append("zoom", [id, ...range.map(brief)].join("~")));
  if (state.at) words.set("at", state.at);
  return words.toString();
}

const brief = (value) => Number(value.toPrecision(6));

/** Change the state by calling `edit`, then everything that shows it. */
function change(edit) {
  edit(state);
  const hash = toHash();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  listeners.forEach((listener) => listener());
}

function reread() {
  Object.assign(state, fromHash(location.hash));
  listeners.forEach((listener) => listener());
}

/** Put a value into a set, or take it out. */
function flip(set, value) {
  if (!set.delete(value)) set.add(value);
}

const isOn = (index) => !state.off.has(OPTIMIZERS[index].name);

function isShown(task) {
  const { kinds, tasks } = state;
  return (!kinds.size || kinds.has(task.kind)) && (!tasks.size || tasks.has(task.name));
}

const shownTasks = () => TASKS.filter(isShown);

/** The arms of a task that are switched on, RMSProp last so that it is drawn on top. */
function shownArms(task) {
  return task.arms
    .map((arm, index) => ({ ...arm, index }))
    .filter((arm) => isOn(arm.index))
    .sort((a, b) => OPTIMIZERS[a.index].ours - OPTIMIZERS[b.index].ours);
}

/** A task's shown arms, best mean first, those without one last. */
function rankedArms(task) {
  const sign = task.higher ? -1 : 1;
  return shownArms(task).sort((a, b) =>
    (a.mean === null) - (b.mean === null) || sign * (a.mean - b.mean) || a.index - b.index);
}

const label = (index) => OPTIMIZERS[index].label;

/** Four significant digits, as wording.number writes them. */
function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "none";
  const size = Math.abs(value);
  if (size >= 1e4 && size < 1e7) return Math.round(value).toLocaleString("en-US");
  if (value !== 0 && (size >= 1e7 || size < 1e-4)) return value.toExponential(3);
  return value.toPrecision(4);
}

/** A learning rate: three significant digits at most. */
function rate(value) {
  if (value === null) return "none";
  return value !== 0 && Math.abs(value) < 1e-4
    ? value.toExponential(2).replace(/\.?0+e/, "e").replace(/e-(\d)$/, "e-0$1")
    : String(Number(value.toPrecision(3)));
}

/** `a`, `a and b`, `a, b and c`. */
function listing(names) {
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length / 2;
  return sorted.length % 2 ? sorted[Math.floor(half)] : (sorted[half - 1] + sorted[half]) / 2;
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** A new HTML element; text and children are never read as markup. */
function el(name, attributes, ...children) {
  const made = document.createElement(name);
  Object.entries(attributes || {}).forEach(([key, value]) => {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null) made.setAttribute(key, value);
  });
  made.append(...children);
  return made;
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  Object.entries(attributes || {}).forEach(([key, value]) => made.setAttribute(key, value));
  made.append(...children);
  return made;
}

/** An optimizer's marker, as it stands in legends, tables and tooltips. */
function swatch(index) {
  const mark = svg("path", { d: OPTIMIZERS[index].mark, class: `fill o${index}` });
  return svg("svg", { class: "swatch", viewBox: "-1.3 -1.3 2.6 2.6", "aria-hidden": "true" }, mark);
}
