// A card around a chart: its title, its views, zoom, tooltip, keys, and "show as table".
const cards = [];
const announcer = () => document.getElementById("said");

/** Put a chart into `parent`; `build(view)` gives what it shows, null where there is nothing. */
function addCard(parent, { id, title, views, build, note, wide, more }) {
  const card = { id, title, views, build, near: false, stale: true, stop: -1, more: more || [] };
  card.plot = el("div", { class: "plot", tabindex: "0", role: "application", "aria-roledescription": "chart", "aria-describedby": "keys" });
  card.tip = el("div", { class: "tip", hidden: true });
  card.box = el("div", { class: "stage" }, card.plot, card.tip);
  card.tools = toolsOf(card);
  card.details = el("details", {}, el("summary", {}, "Show as table"), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, as a table` }));
  card.details.addEventListener("toggle", () => fillTable(card));
  card.host = el("figure", { class: `card${wide ? " wide" : ""}`, id: `chart-${id}` },
    el("div", { class: "head" }, el("h4", {}, title), card.tools), card.box,
    el("figcaption", {}, note), card.details);
  parent.append(card.host);
  listen(card);
  cards.push(card);
  return card;
}

const viewOf = (card) => {
  const chosen = state.views.get(card.id);
  return card.views.some(([key]) => key === chosen) ? chosen : card.views[0][0];
};

function toolsOf(card) {
  const tools = el("div", { class: "tools" });
  if (card.views.length > 1) {
    const group = el("div", { class: "segments", role: "group", "aria-label": `${card.title}: what is shown` });
    card.views.forEach(([key, text]) => group.append(el("button", {
      type: "button", "data-view": key, onclick: () => change((s) => { s.views.set(card.id, key); s.zooms.delete(card.id); }),
    }, text)));
    tools.append(group);
  }
  tools.append(...card.more);
  const button = (text, name, act) => el("button", { type: "button", class: "icon", "aria-label": `${name}: ${card.title}`, title: name, "data-zoom": name.split(" ")[1] || name, onclick: act }, text);
  card.reset = button("⟲", "Reset zoom", () => zoomTo(card, null));
  card.reset.dataset.zoom = "reset";
  tools.append(el("div", { class: "zoom", role: "group", "aria-label": `${card.title}: zoom` },
    button("+", "Zoom in", () => zoomBy(card, 0.5)), button("−", "Zoom out", () => zoomBy(card, 2)), card.reset));
  return tools;
}

/** Draw a chart anew, now or when it comes near the screen. */
function refresh(card) {
  card.stale = !card.near || !card.plot.clientWidth;
  if (card.stale) return;
  const view = viewOf(card);
  card.tools.querySelectorAll("[data-view]").forEach((button) =>
    button.setAttribute("aria-pressed", button.dataset.view === view));
  const built = card.build(view);
  card.spec = built && { ...EMPTY, ...built };
  hideTip(card);
  if (!card.spec) {
    card.plot.replaceChildren(el("p", { class: "empty" }, "Nothing to show with this choice."));
    card.f = null;
  } else {
    const drawn = draw(card.spec, card.plot.clientWidth, state.zooms.get(card.id), card.id.replace(".", "-"));
    card.f = drawn.f;
    card.plot.replaceChildren(drawn.root);
  }
  card.plot.setAttribute("aria-label", `${card.title}. ${card.spec ? card.spec.summary || "" : "Nothing to show."}`);
  card.reset.disabled = !state.zooms.has(card.id);
  fillTable(card);
}

function fillTable(card) {
  if (!card.details.open || !card.spec) return;
  card.details.lastChild.replaceChildren(tableOf(card.spec.table));
}

function zoomTo(card, range) {
  change((s) => (range ? s.zooms.set(card.id, range) : s.zooms.delete(card.id)));
}

/** Show `factor` times as much, around the cursor where there is one. */
function zoomBy(card, factor, around) {
  if (!card.f) return;
  const { f, spec } = card;
  const stop = spec.stops[card.stop];
  const middle = around !== undefined ? around : stop ? f.x(stop.x) : (f.left + f.right) / 2;
  const reach = (end) => f.x.back(middle + (end - middle) * factor);
  const range = [Math.max(spec.x.domain[0], reach(f.left)), Math.min(spec.x.domain[1], reach(f.right))];
  const whole = range[0] <= spec.x.domain[0] && range[1] >= spec.x.domain[1];
  if (range[0] < range[1]) zoomTo(card, whole ? null : range);
}

function listen(card) {
  const { plot } = card;
  plot.addEventListener("pointermove", (event) => move(card, event));
  plot.addEventListener("pointerleave", () => { if (!card.from) hideTip(card); });
  plot.addEventListener("pointerdown", (event) => press(card, event));
  plot.addEventListener("pointerup", (event) => release(card, event));
  plot.addEventListener("pointercancel", () => endBrush(card));
  plot.addEventListener("wheel", (event) => wheel(card, event), { passive: false });
  plot.addEventListener("keydown", (event) => key(card, event));
  plot.addEventListener("blur", () => hideTip(card));
}

const place = (card, event) => {
  const box = card.plot.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

function move(card, event) {
  if (!card.f) return;
  const [x, y] = place(card, event);
  if (card.from !== undefined && card.from !== null) return drawBrush(card, x);
  const found = nearest(card, x, y);
  if (found < 0) hideTip(card);
  else showStop(card, found, false);
}

/** The stop closest to a place on the screen, only along x where a stop has no height. */
function nearest(card, x, y) {
  const { spec, f } = card;
  let [found, least] = [-1, Infinity];
  spec.stops.forEach((stop, index) => {
    const across = f.x(stop.x);
    if (across < f.left - 8 || across > f.right + 8) return;
    const up = stop.y === undefined ? 0 : f.y(stop.y) - y;
    const far = spec.y.rows ? up ** 2 * 9 + (across - x) ** 2 / 50 : (across - x) ** 2 + up ** 2;
    if (far < least) [found, least] = [index, far];
  });
  return found;
}

function showStop(card, index, aloud) {
  const { spec, f } = card;
  const stop = spec.stops[index];
  if (!stop) return;
  card.stop = index;
  card.tip.replaceChildren(el("strong", {}, stop.title), ...stop.lines.map(([o, text]) =>
    el("div", {}, ...(o === null ? [] : [swatch(o)]), el("span", {}, text))));
  card.tip.hidden = false;
  const x = f.x(stop.x);
  const up = stop.y === undefined ? f.top + 10 : f.y(stop.y);
  const width = card.tip.offsetWidth;
  const left = x + 14 + width > f.width ? Math.max(0, x - width - 14) : x + 14;
  card.tip.style.left = `${Math.min(left, Math.max(0, f.width - width))}px`;
  card.tip.style.top = `${Math.max(0, Math.min(up - 20, f.height - card.tip.offsetHeight))}px`;
  cursor(card, x, stop.y === undefined ? null : up);
  if (aloud) announcer().textContent = `${stop.title}: ${stop.lines.map(([, text]) => text).join("; ")}`;
}

function cursor(card, x, y) {
  const { f } = card;
  card.plot.querySelectorAll(".cursor").forEach((old) => old.remove());
  const drawn = y === null
    ? svg("line", { class: "cursor", x1: x, x2: x, y1: f.top, y2: f.bottom })
    : svg("circle", { class: "cursor", cx: x, cy: y, r: 9 });
  card.plot.querySelector("svg").append(drawn);
}

function hideTip(card) {
  card.tip.hidden = true;
  card.stop = -1;
  card.plot.querySelectorAll(".cursor").forEach((old) => old.remove());
}

function press(card, event) {
  if (!card.f || event.pointerType !== "mouse" || event.button !== 0) return;
  [card.from] = place(card, event);
  card.plot.setPointerCapture(event.pointerId);
}

function drawBrush(card, x) {
  const { f } = card;
  const [low, high] = [card.from, x].sort((a, b) => a - b).map((at) => Math.max(f.left, Math.min(f.right, at)));
  card.plot.querySelectorAll(".brush").forEach((old) => old.remove());
  if (high - low < 4) return;
  hideTip(card);
  card.plot.querySelector("svg").append(svg("rect", { class: "brush", x: low, width: high - low, y: f.top, height: f.bottom - f.top }));
}

function release(card, event) {
  const from = card.from;
  endBrush(card);
  if (from === undefined || from === null || !card.f) return;
  const [x] = place(card, event);
  const [low, high] = [from, x].sort((a, b) => a - b).map((at) => Math.max(card.f.left, Math.min(card.f.right, at)));
  if (high - low > 8) zoomTo(card, [card.f.x.back(low), card.f.x.back(high)]);
}

function endBrush(card) {
  card.from = null;
  card.plot.querySelectorAll(".brush").forEach((old) => old.remove());
}

function wheel(card, event) {
  // Without a key the wheel scrolls the page, as everywhere else on it.
  if (!(event.ctrlKey || event.metaKey) || !card.f) return;
  event.preventDefault();
  zoomBy(card, event.deltaY < 0 ? 0.8 : 1.25, place(card, event)[0]);
}

function key(card, event) {
  if (!card.f || event.ctrlKey || event.metaKey || event.altKey) return;
  const last = card.spec.stops.length - 1;
  const inside = (index) => card.f.x(card.spec.stops[index].x) >= card.f.left - 8 && card.f.x(card.spec.stops[index].x) <= card.f.right + 8;
  const to = { ArrowRight: card.stop + 1, ArrowLeft: card.stop - 1, Home: 0, End: last }[event.key];
  if (to !== undefined) {
    let index = Math.max(0, Math.min(last, to));
    const step = event.key === "ArrowLeft" || event.key === "End" ? -1 : 1;
    while (index >= 0 && index <= last && !inside(index)) index += step;
    showStop(card, index, true);
  } else if (event.key === "+" || event.key === "=") zoomBy(card, 0.5);
  else if (event.key === "-") zoomBy(card, 2);
  else if (event.key === "0") zoomTo(card, null);
  else if (event.key === "Escape") hideTip(card);
  else return;
  event.preventDefault();
}

/** Draw charts when they come near the screen, so that a long page opens at once. */
function watchCards() {
  const near = new IntersectionObserver((entries) => entries.forEach((entry) => {
    const card = cards.find((one) => one.host === entry.target);
    card.near = entry.isIntersecting;
    if (card.near && card.stale) refresh(card);
  }), { rootMargin: "700px" });
  const resized = new ResizeObserver((entries) => entries.forEach(({ target, contentRect }) => {
    const card = cards.find((one) => one.plot === target);
    if (card.width !== contentRect.width) { card.width = contentRect.width; refresh(card); }
  }));
  cards.forEach((card) => { near.observe(card.host); resized.observe(card.plot); });
  addEventListener("beforeprint", () => cards.forEach((card) => { card.near = true; refresh(card); }));
}
