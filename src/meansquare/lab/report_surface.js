// Trajectories over a surface's contour lines, played like a film.
const FILM_SECONDS = 8;
const STILL = matchMedia("(prefers-reduced-motion: reduce)");

function addSurface(parent, task, id) {
  const film = { task, id, seed: 0, at: 1, playing: false, due: false };
  const seeds = Math.max(...task.arms.map((arm) => arm.ways.length));
  film.stage = el("div", { class: "film", role: "img", "aria-label": `The surface of ${task.title}` });
  film.play = el("button", { type: "button", class: "play", onclick: () => toggle(film) }, "▶ Play");
  film.slider = el("input", { type: "range", min: "0", max: "1000", value: "1000", "aria-label": `Share of the steps done, ${task.title}`, oninput: () => scrub(film) });
  film.out = el("output", {}, "");
  const pick = el("div", { class: "segments", role: "group", "aria-label": "Seed" }, ...Array.from({ length: seeds }, (_, i) => el("button", { type: "button", "aria-pressed": String(i === 0), onclick: (event) => pickSeed(film, i, event.currentTarget) }, `Seed ${i + 1}`)));
  const details = el("details", {}, el("summary", {}, "Show as table"), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Trajectories, ${task.title}, as a table` }));
  details.addEventListener("toggle", () => wayTable(film));
  film.details = details;
  film.host = el("figure", { class: "card wide", id: `chart-${id}` },
    el("div", { class: "head" }, el("h4", {}, "Ways over the surface"), pick),
    film.stage, el("div", { class: "player" }, film.play, film.slider, film.out),
    el("figcaption", {}, "Each final run's way with its chosen settings, over lines of equal height: the darker, the lower. Square: start; star: the lowest point; all ways run at the same share of their steps."), details);
  parent.append(film.host);
  films.push(film);
}

const films = [];

function pickSeed(film, seed, button) {
  film.seed = seed;
  [...button.parentNode.children].forEach((one) => one.setAttribute("aria-pressed", String(one === button)));
  drawFilm(film);
}

function toggle(film) {
  film.playing = !film.playing;
  film.play.textContent = film.playing ? "❚❚ Pause" : "▶ Play";
  if (!film.playing) return;
  if (film.at >= 1) film.at = 0;
  // Who asked for no motion gets the end of the film, and the slider for the rest.
  if (STILL.matches) { film.at = 1; toggle(film); showMoment(film); return; }
  let last = null;
  const tick = (now) => {
    if (!film.playing) return;
    // A frame's time can lie before the click that asked for it: the first one only sets the clock.
    film.at = Math.min(1, film.at + (now - (last === null ? now : last)) / 1000 / FILM_SECONDS);
    last = now;
    showMoment(film);
    if (film.at >= 1) toggle(film);
    else requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}

function scrub(film) {
  if (film.playing) toggle(film);
  film.at = film.slider.value / 1000;
  showMoment(film);
}

function drawFilm(film) {
  if (!film.due) return;
  const { window: [left, right, bottom, top], paths, units, optimum } = film.task.ground;
  film.x = (x) => ((x - left) / (right - left)) * units;
  film.y = (y) => ((top - y) / (top - bottom)) * units;
  // Units of the picture per pixel of the screen, so that marks are of one size everywhere.
  film.pixel = units / (film.stage.clientWidth || units);
  film.flat = film.pixel > 1.6 ? 0.85 : 0.47;
  const root = svg("svg", { viewBox: `0 0 ${units} ${units * film.flat}`, "aria-hidden": "true", focusable: "false" });
  const ground = svg("g", { transform: `scale(1 ${film.flat})` }, ...paths.map((d) => svg("path", { class: "contour", d })));
  root.append(ground);
  if (optimum) root.append(svg("text", { class: "optimum", x: film.x(optimum[0]), y: film.y(optimum[1]) * film.flat + 9 * film.pixel, "text-anchor": "middle", style: `font-size:${26 * film.pixel}px;stroke-width:${4 * film.pixel}px` }, "★"));
  film.ways = shownArms(film.task).filter((arm) => (arm.ways[film.seed] || { x: [] }).x.length).map((arm) => wayOf(film, arm, root));
  film.stage.replaceChildren(root);
  film.stage.setAttribute("aria-label", `Contour lines of ${film.task.title} with the ways of ${listing(film.ways.map((way) => label(way.o)))}.`);
  showMoment(film);
  wayTable(film);
}

function wayOf(film, arm, root) {
  const way = arm.ways[film.seed];
  const o = arm.index;
  const points = way.x.map((x, i) => [film.x(x), film.y(way.y[i]) * film.flat]);
  const drawn = { class: `line way s o${o}${OPTIMIZERS[o].ours ? " ours" : ""}`, d: "" };
  if (OPTIMIZERS[o].dash) drawn["stroke-dasharray"] = OPTIMIZERS[o].dash;
  const made = { o, points, steps: way.points - 1, ends: way, line: svg("path", drawn), head: svg("path", { class: `fill head s o${o}`, d: OPTIMIZERS[o].mark }) };
  const [x, y] = points[0];
  root.append(svg("rect", { class: "start", x: x - 4 * film.pixel, y: y - 4 * film.pixel, width: 8 * film.pixel, height: 8 * film.pixel }), made.line, made.head);
  return made;
}

function showMoment(film) {
  film.ways.forEach((way) => {
    const place = film.at * (way.points.length - 1);
    const whole = Math.floor(place);
    const done = way.points.slice(0, whole + 1);
    if (whole < way.points.length - 1) done.push(between(way.points[whole], way.points[whole + 1], place - whole));
    way.line.setAttribute("d", `M${done.map(([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`).join("L")}`);
    const [x, y] = done[done.length - 1];
    way.head.setAttribute("transform", `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(${7 * film.pixel})`);
  });
  film.slider.value = String(Math.round(film.at * 1000));
  const steps = Math.max(0, ...film.ways.map((way) => way.steps));
  film.out.textContent = `${Math.round(film.at * steps).toLocaleString("en-US")} of ${steps.toLocaleString("en-US")} points`;
  film.slider.setAttribute("aria-valuetext", film.out.textContent);
}

const between = (a, b, share) => [a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share];

function wayTable(film) {
  if (!film.details.open || !film.ways) return;
  const row = ({ o, ends, steps }) => [label(o), String(steps), ...[0, ends.x.length - 1].map((i) => `${number(ends.x[i])}, ${number(ends.y[i])}`)];
  film.details.lastChild.replaceChildren(tableOf({ head: ["Optimizer", "Steps told", "Start (x, y)", "End (x, y)"], rows: film.ways.map(row) }));
}

function watchFilms() {
  const near = new IntersectionObserver((entries) => entries.forEach(({ isIntersecting, target }) => {
    const film = films.find((one) => one.host === target);
    if (isIntersecting && !film.due) { film.due = true; drawFilm(film); }
    if (!isIntersecting && film.playing) toggle(film);
  }), { rootMargin: "300px" });
  films.forEach((film) => near.observe(film.host));
  addEventListener("resize", () => films.forEach(drawFilm));
  addEventListener("beforeprint", () => films.forEach((film) => { film.due = true; drawFilm(film); }));
}
