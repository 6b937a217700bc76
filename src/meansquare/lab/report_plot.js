// A chart: scales, axes, marks, a cursor for pointer and keyboard, zoom along x, and its table.
const HEIGHT = 300;
const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";

function linear(low, high, from, to) {
  const scale = (value) => from + ((value - low) / (high - low || 1)) * (to - from);
  scale.back = (pixel) => low + ((pixel - from) / (to - from)) * (high - low);
  scale.ticks = (count) => linearTicks(low, high, count);
  return scale;
}

function logarithmic(low, high, from, to) {
  const inner = linear(Math.log10(low), Math.log10(high), from, to);
  const scale = (value) => inner(Math.log10(value));
  scale.back = (pixel) => 10 ** inner.back(pixel);
  scale.ticks = (count) => logTicks(low, high, count);
  return scale;
}

function linearTicks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough || 1));
  const step = [1, 2, 2.5, 5, 10].find((unit) => unit * power >= rough) * power;
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) =>
    Number(((first + i) * step).toPrecision(12)));
}

function logTicks(low, high, count) {
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const within = (value) => value >= low * 0.999 && value <= high * 1.001;
  const every = Math.max(1, Math.ceil((to - from) / count));
  const powers = [];
  for (let power = from; power <= to; power += 1) powers.push(power);
  const tens = powers.filter((p) => p % every === 0).map((p) => 10 ** p).filter(within);
  if (tens.length > 2) return tens;
  const fine = powers.flatMap((p) => [1, 2, 5].map((unit) => unit * 10 ** p)).filter(within);
  return fine.length > 1 ? fine : linearTicks(low, high, count);
}

function tickText(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const power = Math.log10(size);
  if (size >= 1e5 || size < 1e-3) {
    if (Math.abs(power - Math.round(power)) > 1e-9) return value.toExponential().replace("+", "");
    const digits = [...String(Math.abs(Math.round(power)))].map((digit) => SUPERSCRIPT[digit]);
    return `${value < 0 ? "−" : ""}10${power < 0 ? "⁻" : ""}${digits.join("")}`;
  }
  return size >= 1e4 ? value.toLocaleString("en-US")
    : String(Number(value.toPrecision(6))).replace("-", "−");
}

function extent(values, log) {
  const usable = values.filter((value) => Number.isFinite(value) && (!log || value > 0));
  if (!usable.length) return log ? [0.1, 1] : [0, 1];
  let [low, high] = [Infinity, -Infinity];
  usable.forEach((value) => { low = Math.min(low, value); high = Math.max(high, value); });
  if (low === high) return log ? [low / 2, high * 2] : [low - Math.abs(low || 1) * 0.05, high + Math.abs(high || 1) * 0.05];
  return [low, high];
}

function padded([low, high], log, share) {
  if (log) {
    const factor = (high / low) ** share;
    return [low / factor, high * factor];
  }
  return [low - (high - low) * share, high + (high - low) * share];
}

/** All heights that a chart's marks reach where x is within a range. */
function heights(spec, [low, high]) {
  const inside = (x) => x >= low && x <= high;
  const lines = [...spec.lines, ...spec.thin].flatMap((line) =>
    line.points.filter(([x]) => inside(x)).map(([, y]) => y));
  const bands = spec.bands.flatMap((band) =>
    band.points.filter(([x]) => inside(x)).flatMap(([, y, top]) => [y, top]));
  const dots = spec.dots.filter((dot) => inside(dot.x) && !dot.atTop).map((dot) => dot.y);
  return [...lines, ...bands, ...dots, ...spec.rules.filter((r) => r.inside).map((r) => r.y)];
}

/** Where a chart's data lie: pixel scales for the visible range. */
function frame(spec, width, zoom) {
  const log = spec.x.log;
  const whole = spec.x.domain;
  const domain = zoom ? [Math.max(zoom[0], whole[0]), Math.min(zoom[1], whole[1])] : whole;
  const visible = domain[0] < domain[1] ? domain : whole;
  let reach = spec.y.domain || padded(extent(heights(spec, visible), spec.y.log), spec.y.log, 0.06);
  if (spec.y.ceiling && reach[1] > spec.y.ceiling) reach = [Math.min(reach[0], spec.y.ceiling / 2), spec.y.ceiling];
  const bottom = spec.height - 40;
  const y = (spec.y.log ? logarithmic : linear)(...reach, bottom, spec.y.rows ? 8 : 26);
  const ticks = spec.y.rows ? spec.y.rows.map((_, row) => row) : y.ticks(5);
  const texts = ticks.map((tick) => (spec.y.rows ? spec.y.rows[tick] : (spec.y.format || tickText)(tick)));
  const left = Math.min(width * 0.36, 12 + 7.1 * Math.max(...texts.map((text) => text.length), 2));
  const x = (log ? logarithmic : linear)(...visible, left, width - 16);
  return { x, y, left, right: width - 16, bottom, top: spec.y.rows ? 8 : 26, ticks, texts, visible, width, height: spec.height };
}

/** `points` as a path; a gap where there is no number to draw. */
function pathOf(points, f) {
  let pen = "M";
  return points.map(([x, y]) => {
    const [across, up] = [f.x(x), f.y(y)];
    if (!Number.isFinite(across) || !Number.isFinite(up)) { pen = "M"; return ""; }
    const drawn = `${pen}${across.toFixed(1)} ${up.toFixed(1)}`;
    pen = "L";
    return drawn;
  }).join("");
}

function bandOf(points, f) {
  const floor = f.bottom + 20;
  const pixel = (value) => { const y = f.y(value); return Number.isFinite(y) ? y : floor; };
  const top = points.map(([x, , high]) => `${f.x(x).toFixed(1)} ${pixel(high).toFixed(1)}`);
  const bottom = points.map(([x, low]) => `${f.x(x).toFixed(1)} ${pixel(low).toFixed(1)}`).reverse();
  return points.length > 1 ? `M${[...top, ...bottom].join("L")}Z` : "";
}

function drawGrid(spec, f) {
  const group = svg("g", { class: "axes" });
  f.ticks.forEach((tick, index) => {
    const y = f.y(tick);
    group.append(svg("line", { class: spec.y.rows ? "grid rows" : "grid", x1: f.left, x2: f.right, y1: y, y2: y }));
    const ours = spec.y.rows && spec.y.bold === tick ? "tick bold" : "tick";
    group.append(svg("text", { class: ours, x: f.left - 7, y: y + 4, "text-anchor": "end" }, f.texts[index]));
  });
  const count = Math.max(2, Math.floor((f.right - f.left) / 74));
  const ticks = f.x.ticks(count).filter((tick) => !spec.x.whole || Number.isInteger(tick));
  ticks.forEach((tick) => {
    const x = f.x(tick);
    group.append(svg("line", { class: spec.y.rows ? "grid" : "mark", x1: x, x2: x, y1: spec.y.rows ? f.top : f.bottom, y2: f.bottom + 4 }));
    group.append(svg("text", { class: "tick", x, y: f.bottom + 17, "text-anchor": "middle" }, (spec.x.format || tickText)(tick)));
  });
  group.append(svg("line", { class: "base", x1: f.left, x2: f.right, y1: f.bottom, y2: f.bottom }));
  group.append(svg("text", { class: "title", x: f.right, y: f.height - 6, "text-anchor": "end" }, `${spec.x.title} →`));
  if (spec.y.title) group.append(svg("text", { class: "title", x: 2, y: 12 }, `↑ ${spec.y.title}`));
  return group;
}

function drawRules(spec, f) {
  const group = svg("g", { class: "rules" });
  spec.rules.forEach((rule, index) => {
    if (rule.x !== undefined) {
      const x = f.x(rule.x);
      if (x < f.left || x > f.right) return;
      const over = x > (f.left + f.right) / 2;
      group.append(svg("line", { class: rule.event ? "event" : "rule", x1: x, x2: x, y1: f.top, y2: f.bottom }));
      group.append(svg("text", { class: "note", x: x + (over ? -5 : 5), y: f.top + 11 + 14 * (index % 3), "text-anchor": over ? "end" : "start" }, rule.text));
    } else {
      const y = f.y(rule.y);
      if (!(y > f.top - 8 && y <= f.bottom)) return;
      group.append(svg("line", { class: "rule", x1: f.left, x2: f.right, y1: y, y2: y }));
      group.append(svg("text", { class: "note", x: f.right, y: y - 5, "text-anchor": "end" }, rule.text));
    }
  });
  return group;
}

function drawMarks(spec, f, id) {
  const group = svg("g", { "clip-path": `url(#clip-${id})` });
  const across = (o) => `s o${o}${OPTIMIZERS[o].ours ? " ours" : ""}`;
  spec.bands.forEach((band) => group.append(svg("path", { class: `band ${across(band.o)}`, d: bandOf(band.points, f) })));
  spec.thin.forEach((line) => group.append(svg("path", { class: `thin ${across(line.o)}`, d: pathOf(line.points, f) })));
  spec.bars.forEach((bar) => {
    const [from, to] = [f.x(bar.from), f.x(bar.to)].map((x) => Math.max(f.left, Math.min(f.right, x)));
    group.append(svg("line", { class: `bar ${bar.wide ? "wide " : ""}${across(bar.o)}`, x1: from, x2: to, y1: f.y(bar.y), y2: f.y(bar.y) }));
  });
  spec.lines.forEach((line) => {
    const drawn = { class: `line ${across(line.o)}`, d: pathOf(line.points, f) };
    if (OPTIMIZERS[line.o].dash) drawn["stroke-dasharray"] = OPTIMIZERS[line.o].dash;
    group.append(svg("path", drawn));
    markers(line, f).forEach((mark) => group.append(mark));
  });
  spec.dots.forEach((dot) => group.append(dotOf(dot, f, across(dot.o))));
  return group;
}

/** A few markers along a line, at other places for each optimizer so that none hides another. */
function markers(line, f) {
  if (line.plain) return [];
  const inside = line.points.filter(([x, y]) => x >= f.visible[0] && x <= f.visible[1] && Number.isFinite(f.y(y)));
  const step = inside.length > 12 ? Math.ceil(inside.length / 6) : 1;
  const shift = inside.length > 12 ? (line.o * 2) % step : 0;
  return inside.filter((_, index) => index % step === shift)
    .map(([x, y]) => dotOf({ x, y, o: line.o, r: 4 }, f, `s o${line.o}`));
}

function dotOf(dot, f, name) {
  const y = dot.atTop !== undefined ? f.top + 6 + 13 * dot.atTop : f.y(dot.y);
  const place = `translate(${f.x(dot.x).toFixed(1)} ${y.toFixed(1)})`;
  if (dot.cross) return svg("path", { class: `cross ${name}`, d: "M-5-5L5 5M-5 5L5-5", transform: place });
  const mark = svg("path", { class: `${dot.faint ? "faint " : ""}fill ${name}`, d: OPTIMIZERS[dot.o].mark, transform: `${place} scale(${dot.r || 5})` });
  if (!dot.ring) return mark;
  return svg("g", {}, svg("circle", { class: `ring ${name}`, r: 10, transform: place }), mark);
}

const EMPTY = { lines: [], thin: [], bands: [], bars: [], dots: [], rules: [], labels: [], stops: [], height: HEIGHT };

/** The SVG of a chart, and the frame to find places in it again. */
function draw(spec, width, zoom, id) {
  const f = frame(spec, width, zoom);
  const clip = svg("clipPath", { id: `clip-${id}` }, svg("rect", { x: f.left - 6, y: 0, width: f.right - f.left + 12, height: f.bottom + 5 }));
  const root = svg("svg", { viewBox: `0 0 ${width} ${spec.height}`, width, height: spec.height, "aria-hidden": "true", focusable: "false" },
    svg("defs", {}, clip), drawGrid(spec, f), drawRules(spec, f), drawMarks(spec, f, id));
  spec.labels.forEach((text) => {
    const x = text.x === undefined ? f.left + 8 : Math.min(f.x(text.x) + 9, f.right - 6.6 * text.text.length);
    root.append(svg("text", { class: "value", x, y: f.y(text.y) + (text.dy || 4) }, text.text));
  });
  return { root, f };
}

function tableOf({ head, rows }) {
  const cells = (row) => row.map((cell, index) => (index ? el("td", {}, cell) : el("th", { scope: "row" }, cell)));
  return el("table", { class: "data" },
    el("thead", {}, el("tr", {}, ...head.map((cell) => el("th", { scope: "col" }, cell)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...cells(row)))));
}
