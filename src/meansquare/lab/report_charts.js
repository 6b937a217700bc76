// What each chart shows of a task, or of all shown tasks together.
// "epoch", but "× 500 examples" where a period has no name of its own.
const periodWord = (task) => (/^\d/.test(task.period) ? `× ${task.period}` : task.period);
const X_WORDS = { period: periodWord, steps: () => "steps", seconds: () => "seconds of training" };
const TIMES = [["steps", 1, "steps"], ["seconds", 2, "seconds of training"], ["optimizer", 3, "seconds inside the optimizer"]];
const percent = (share) => `${Math.round(100 * share)} %`;
const measured = (text, task) => (task.unit ? `${text} ${task.unit}` : text);
const inUnit = (text, task) => (task.unit ? `${text}, ${task.unit}` : text);
const metricTitle = (task) => inUnit(task.metric, task);

function addTaskCards(parent, task, index) {
  const id = (kind) => `${index}.${kind}`;
  const arms = task.arms;
  if (task.ground && arms.some((arm) => arm.ways.some((way) => way.x.length))) addSurface(parent, task, id("way"));
  if (arms.some((arm) => arm.curves.at.length)) {
    addCard(parent, { id: id("curves"), title: "Learning curves", views: [["metric", "Validation"], ["train", "Training loss"]], build: (view) => curvesChart(task, view), note: curvesNote(task), more: axisButtons(task) });
  }
  if (arms.some((arm) => arm.tried.length)) {
    addCard(parent, { id: id("search"), title: "How much the learning rate matters", views: [["rate", "By rate"], ["trials", "By trials"]], build: (view) => (view === "rate" ? ratesChart(task) : trialsChart(task)), note: searchNote() });
  }
  if (arms.some((arm) => arm.scores.length)) {
    addCard(parent, { id: id("results"), title: "Results on the test data", views: [["result", "Result"], ["gap", "Gap to the best"]], build: (view) => (view === "result" ? resultsChart(task) : gapsChart(task)), note: "Faint: every seed. Marker and bar: mean and its 95 % interval. In the gap, seed by seed, an interval that holds 0 is a tie. Dashed: baselines." });
    addCard(parent, { id: id("reached"), title: "Time to the target", views: [["steps", "Steps"], ["seconds", "Seconds"], ["optimizer", "In optimizer"]], build: (view) => reachedChart(task, view), note: reachedNote(task) });
  }
}

/** What curves run along, and whether as bands or seed by seed: one choice for all tasks. */
function axisButtons(task) {
  const pick = (key) => change((s) => {
    s.x = key;
    [...s.zooms.keys()].filter((id) => id.endsWith(".curves")).forEach((id) => s.zooms.delete(id));
  });
  const words = { period: `${task.period}s`, steps: "steps", seconds: "seconds" };
  const axes = Object.keys(X_WORDS).map((key) => el("button", { type: "button", "data-x": key, onclick: () => pick(key) }, periodWord(task) !== task.period && key === "period" ? "periods" : words[key]));
  const seeds = el("button", { type: "button", "data-seeds": true, onclick: () => change((s) => { s.everySeed = !s.everySeed; }) }, "every seed");
  return [el("div", { class: "segments", role: "group", "aria-label": "Learning curves along" }, ...axes), el("div", { class: "segments" }, seeds)];
}

function curvesNote(task) {
  const drifts = Object.keys(task.events).length ? " Dotted: where the data drift." : "";
  return `Mean over seeds; the band spans the lowest and the highest seed. A cross ends a seed that diverged, and with it the mean.${drifts} Drag, or press +, to zoom.`;
}

const searchNote = () => (DATA.search === "all"
  ? "Every trial; other settings vary from trial to trial (see the table). Ring: chosen. Crosses on top: diverged."
  : "Loss on validation data after tuning with each rate. Ring: chosen. Crosses on top: diverged. A wide valley forgives a bad guess.");

const reachedNote = (task) => (task.target === null ? "No target: no optimizer has a result."
  : `The median seed's way to a validation ${task.metric.replace(/^test /, "")} of ${measured(number(task.target), task)}. Who misses it in half of the seeds has no such time.`);

/** x of each kept point of an arm, in the units chosen. */
const xOf = (arm) => (state.x === "period" ? arm.curves.at : arm.curves[state.x]);

function curvesChart(task, view) {
  const arms = shownArms(task).filter((arm) => arm.curves.at.length);
  if (!arms.length) return null;
  const all = arms.flatMap((arm) => arm.curves[view].flat());
  const log = (view === "train" || task.scale === "log") && all.every((value) => value > 0);
  const drawn = arms.map((arm) => curveOf(arm, view));
  const xs = arms.flatMap(xOf);
  return {
    x: { title: X_WORDS[state.x](task), domain: spread(xs), whole: state.x !== "seconds" },
    y: { title: view === "train" ? "training loss" : `${inUnit("validation", task)}${task.higher ? "" : " (lower is better)"}`, log },
    lines: drawn.map((one) => ({ o: one.o, points: one.mean })),
    bands: state.everySeed ? [] : drawn.map((one) => ({ o: one.o, points: one.band })),
    thin: state.everySeed ? drawn.flatMap((one) => one.seeds.map((points) => ({ o: one.o, points }))) : [],
    dots: drawn.flatMap((one) => one.ends),
    rules: [...driftsOf(task, arms), ...targetOf(task, view)],
    stops: curveStops(task, drawn),
    summary: drawn.map((one) => `${label(one.o)} ends at ${number(one.mean.length ? one.mean[one.mean.length - 1][1] : null)}`).join("; "),
    table: curveTable(task, drawn),
  };
}

function spread(xs) {
  const [low, high] = extent(xs, false);
  return low === high ? [low - 1, high + 1] : [low, high];
}

function curveOf(arm, view) {
  const xs = xOf(arm);
  const seeds = arm.curves[view];
  const columns = xs.map((x, i) => [x, seeds.map((seed) => seed[i]).filter((value) => value !== undefined)]);
  const whole = columns.filter(([, values]) => values.length === seeds.length);
  const some = columns.filter(([, values]) => values.length);
  return {
    o: arm.index,
    mean: whole.map(([x, values]) => [x, mean(values)]),
    band: some.map(([x, values]) => [x, Math.min(...values), Math.max(...values)]),
    seeds: seeds.map((seed) => seed.map((value, i) => [xs[i], value])),
    ends: arm.curves.ended.map(([seed]) => endOf(arm, seeds[arm.seeds.indexOf(seed)], xs)).filter(Boolean),
  };
}

function endOf(arm, seed, xs) {
  const last = seed.length - 1;
  return last < 0 ? null : { o: arm.index, x: xs[last], y: seed[last], cross: true };
}

function targetOf(task, view) {
  if (view !== "metric" || task.target === null) return [];
  return [{ y: task.target, text: `target ${number(task.target)}` }];
}

/** Drifts come after periods; how many seconds that is differs between optimizers. */
function driftsOf(task, arms) {
  if (state.x === "seconds") return [];
  const { at, steps } = arms[0].curves;
  const perPeriod = state.x === "steps" ? steps[steps.length - 1] / at[at.length - 1] : 1;
  return Object.entries(task.events).map(([text, period]) => ({ x: period * perPeriod, text, event: true }));
}

function curveStops(task, drawn) {
  const unit = X_WORDS[state.x](task);
  const xs = [...new Set(drawn.flatMap((one) => one.mean.map(([x]) => x)))].sort((a, b) => a - b);
  const thinned = xs.length > 400 ? xs.filter((_, i) => i % Math.ceil(xs.length / 400) === 0) : xs;
  return thinned.map((x) => ({
    x,
    title: unit.startsWith("×") ? `${x} ${unit}` : `${unit} ${state.x === "seconds" ? number(x) : x.toLocaleString("en-US")}`,
    lines: drawn.map((one) => [one, closest(one.mean, x)]).filter(([, point]) => point)
      .sort((a, b) => (task.higher ? -1 : 1) * (a[1][1] - b[1][1]))
      .map(([one, point]) => [one.o, `${label(one.o)} ${number(point[1])}${rangeText(one.band, point[0])}`]),
  }));
}

function rangeText(band, x) {
  const found = band.find((point) => point[0] === x);
  return found && found[1] !== found[2] ? ` (${number(found[1])} to ${number(found[2])})` : "";
}

function closest(points, x) {
  if (!points.length || x > points[points.length - 1][0] * 1.02 + 1e-9) return null;
  return points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));
}

function curveTable(task, drawn) {
  const xs = [...new Set(drawn.flatMap((one) => one.mean.map(([x]) => x)))].sort((a, b) => a - b);
  const every = Math.max(1, Math.ceil(xs.length / 25));
  const kept = xs.filter((_, index) => index % every === 0 || index === xs.length - 1);
  return {
    head: [X_WORDS[state.x](task), ...drawn.map((one) => label(one.o))],
    rows: kept.map((x) => [number(x).replace(/\.?0+$/, ""), ...drawn.map((one) => {
      const point = closest(one.mean, x);
      return point ? number(point[1]) : "ended";
    })]),
  };
}

function ratesChart(task) {
  const arms = shownArms(task).filter((arm) => arm.tried.length);
  const finite = arms.flatMap((arm) => arm.tried.map(([, loss]) => loss)).filter((loss) => loss !== null);
  if (!arms.length) return null;
  const log = finite.length > 0 && finite.every((loss) => loss > 0);
  const least = Math.min(...finite);
  // Runs that blew up without diverging would flatten every valley.
  const ceiling = log ? Math.min(Math.max(...finite), 30 * least) * 1.6 : undefined;
  const crossed = {};
  const dots = arms.flatMap((arm) => arm.tried.map(([lr, loss]) => trialDot(arm, lr, loss, crossed)));
  return {
    x: { title: "learning rate", log: true, domain: padded(extent(dots.map((dot) => dot.x), true), true, 0.03) },
    y: { title: "validation loss", log, ceiling },
    lines: DATA.search === "lr" ? arms.map((arm) => ({ o: arm.index, plain: true, points: arm.tried.map(([lr, loss]) => [lr, loss === null ? NaN : loss]) })) : [],
    dots,
    stops: arms.flatMap((arm) => arm.tried.map((trial) => trialStop(arm, trial))).sort((a, b) => a.x - b.x),
    summary: arms.map((arm) => `${label(arm.index)} is best at ${rate(arm.lr)}`).join("; "),
    table: {
      head: ["Optimizer", "Learning rate", ...(DATA.search === "all" ? ["Other settings"] : []), "Validation loss", "Chosen"],
      rows: arms.flatMap((arm) => arm.tried.map(([lr, loss, more]) => [label(arm.index), rate(lr), ...(DATA.search === "all" ? [more] : []), loss === null ? "diverged" : number(loss), isChosen(arm, lr, loss) ? "yes" : ""])),
    },
  };
}

/** The trial that was chosen: no other one has a lower loss at this rate. */
function isChosen(arm, lr, loss) {
  const here = arm.tried.filter((trial) => trial[0] === arm.lr && trial[1] !== null).map((trial) => trial[1]);
  return lr === arm.lr && loss !== null && loss === Math.min(...here);
}

function trialDot(arm, lr, loss, crossed) {
  if (loss !== null) return { o: arm.index, x: lr, y: loss, ring: isChosen(arm, lr, loss), r: 4.5 };
  const key = lr.toPrecision(3);
  crossed[key] = (crossed[key] || 0) + 1;
  return { o: arm.index, x: lr, cross: true, atTop: crossed[key] - 1 };
}

function trialStop(arm, [lr, loss, more]) {
  const said = loss === null ? "diverged" : `validation loss ${number(loss)}${isChosen(arm, lr, loss) ? ", chosen" : ""}`;
  return { x: lr, y: loss === null ? undefined : loss, title: `learning rate ${rate(lr)}`, lines: [[arm.index, `${label(arm.index)}: ${said}`], ...(more ? [[null, more]] : [])] };
}

function trialsChart(task) {
  const arms = shownArms(task).filter((arm) => arm.sofar.length);
  if (!arms.length) return null;
  const drawn = arms.map((arm) => {
    const rows = arm.sofar.map((row, i) => [i + 1, ...row]).filter((row) => row[1] !== null);
    return {
      o: arm.index,
      mean: rows.map(([x, middle]) => [x, middle]),
      band: rows.map(([x, , low, high]) => [x, low, high === null ? Infinity : high]),
    };
  });
  const values = drawn.flatMap((one) => one.mean.map(([, y]) => y));
  const log = values.every((value) => value > 0);
  return {
    x: { title: "trials", domain: [1, Math.max(2, ...arms.map((arm) => arm.sofar.length))], whole: true },
    y: { title: "best validation loss so far", log, ceiling: log && values.length ? Math.max(...values) * 1.6 : undefined },
    lines: drawn.map((one) => ({ o: one.o, points: one.mean })),
    bands: drawn.map((one) => ({ o: one.o, points: one.band })),
    stops: curveStops({ ...task, higher: false, period: "trials" }, drawn),
    summary: "The median best loss after so many trials in any order, with its 95 % interval.",
    table: {
      head: ["Trials", ...drawn.map((one) => label(one.o))],
      rows: arms.reduce((most, arm) => Math.max(most, arm.sofar.length), 0) ? Array.from({ length: Math.max(...arms.map((arm) => arm.sofar.length)) }, (_, i) => [String(i + 1), ...arms.map((arm) => (i < arm.sofar.length ? number(arm.sofar[i][0]) : ""))]) : [],
    },
  };
}

const rowHeight = (count) => 52 + 34 * count;

function rowsOf(arms) {
  return { rows: arms.map((arm) => label(arm.index)), domain: [arms.length - 0.4, -0.6], bold: arms.findIndex((arm) => OPTIMIZERS[arm.index].ours) };
}

function resultsChart(task) {
  const arms = rankedArms(task);
  const scores = arms.flatMap((arm) => arm.scores.filter((score) => score !== null));
  if (!scores.length) return null;
  const log = task.scale === "log" && scores.every((score) => score > 0);
  const domain = padded(extent(scores, log), log, 0.08);
  const [low, high] = domain;
  const near = Object.entries(task.baselines).filter(([, value]) => value > low && value < high);
  return {
    height: rowHeight(arms.length) + 14 * near.length,
    x: { title: `${metricTitle(task)} (${task.higher ? "higher" : "lower"} is better)`, domain, log },
    y: rowsOf(arms),
    dots: arms.flatMap((arm, row) => [
      ...arm.scores.filter((score) => score !== null).map((score) => ({ o: arm.index, x: score, y: row, faint: true, r: 3.5 })),
      ...(arm.mean === null ? [] : [{ o: arm.index, x: arm.mean, y: row, r: 6 }]),
    ]),
    bars: arms.map((arm, row) => ({ arm, row })).filter(({ arm }) => arm.interval && arm.scores.length > 1)
      .map(({ arm, row }) => ({ o: arm.index, from: arm.interval[0], to: arm.interval[1], y: row })),
    labels: arms.map((arm, row) => ({ y: row, text: absence(arm) })).filter(({ text }) => text),
    rules: near.map(([text, value]) => ({ x: value, text })),
    stops: arms.flatMap((arm, row) => resultStop(task, arm, row)),
    summary: arms.map((arm) => `${label(arm.index)}: ${resultText(arm)}`).join("; "),
    table: { head: ["Optimizer", "Mean", "95 % interval", ...Array.from({ length: DATA.seeds }, (_, i) => `Seed ${i + 1}`)],
      rows: arms.map((arm) => [label(arm.index), number(arm.mean), arm.interval ? `${number(arm.interval[0])} to ${number(arm.interval[1])}` : "", ...Array.from({ length: DATA.seeds }, (_, i) => seedText(arm, i + 1))]) },
  };
}

function seedText(arm, seed) {
  const at = arm.seeds.indexOf(seed);
  if (at < 0) return "not run";
  return arm.scores[at] === null ? "diverged" : number(arm.scores[at]);
}

function absence(arm) {
  if (arm.mean !== null) return "";
  if (!arm.scores.length) return arm.verdict === "diverged" ? "diverged at every setting" : "not run yet";
  return `${arm.scores.filter((score) => score === null).length} of ${arm.scores.length} seeds diverged`;
}

const resultText = (arm) => (arm.mean === null ? absence(arm)
  : `${number(arm.mean)}${arm.scores.length > 1 ? ` [${number(arm.interval[0])}, ${number(arm.interval[1])}]` : ""}`);

function resultStop(task, arm, row) {
  if (arm.mean === null) return [];
  const chance = arm.against && arm.verdict !== "best" ? [[null, `beats the best in ${percent(arm.chance)} of seeds`]] : [];
  return [{ x: arm.mean, y: row, title: label(arm.index), lines: [[arm.index, measured(resultText(arm), task)], [null, `${arm.verdict}; learning rate ${rate(arm.lr)}${arm.others ? `, ${arm.others}` : ""}`], ...chance] }];
}

function gapsChart(task) {
  const arms = rankedArms(task).filter((arm) => arm.against);
  if (!arms.length) return null;
  const ends = arms.flatMap((arm) => arm.against);
  return {
    height: rowHeight(arms.length),
    x: { title: inUnit("how much better than the best", task), domain: padded(extent([...ends, 0], false), false, 0.08) },
    y: rowsOf(arms),
    bars: arms.map((arm, row) => ({ o: arm.index, from: arm.against[1], to: arm.against[2], y: row })),
    dots: arms.map((arm, row) => ({ o: arm.index, x: arm.against[0], y: row, r: 6 })),
    rules: [{ x: 0, text: "" }],
    stops: arms.map((arm, row) => ({ x: arm.against[0], y: row, title: label(arm.index), lines: [[arm.index, gapText(arm)]] })),
    summary: arms.map((arm) => `${label(arm.index)}: ${gapText(arm)}`).join("; "),
    table: { head: ["Optimizer", "Gap to the best", "95 % interval", "Beats the best", "Verdict"],
      rows: arms.map((arm) => [label(arm.index), number(arm.against[0]), `${number(arm.against[1])} to ${number(arm.against[2])}`, arm.verdict === "best" ? "" : percent(arm.chance), arm.verdict]) },
  };
}

const gapText = (arm) => (arm.verdict === "best" ? "the best"
  : `${number(arm.against[0])} [${number(arm.against[1])}, ${number(arm.against[2])}]: ${arm.verdict}, beats the best in ${percent(arm.chance)} of seeds`);

function reachedChart(task, view) {
  const [, place, unit] = TIMES.find(([key]) => key === view);
  const arms = shownArms(task).filter((arm) => arm.scores.length)
    .sort((a, b) => (a.reached[place] === null) - (b.reached[place] === null) || a.reached[place] - b.reached[place]);
  if (!arms.length || task.target === null) return null;
  const times = arms.map((arm) => arm.reached[place]).filter((time) => time !== null);
  const count = (time) => (view === "steps" ? Math.round(time).toLocaleString("en-US") : number(time));
  const text = (arm) => (arm.reached[place] === null ? `missed (${arm.reached[0]} of ${arm.scores.length} seeds reach it)` : count(arm.reached[place]));
  return {
    height: rowHeight(arms.length),
    x: { title: unit, domain: [0, 1.18 * Math.max(...times, 1e-9)] },
    y: rowsOf(arms),
    bars: arms.map((arm, row) => ({ o: arm.index, from: 0, to: arm.reached[place] || 0, y: row, wide: true })).filter((bar) => bar.to),
    labels: arms.map((arm, row) => ({ x: arm.reached[place] === null ? undefined : arm.reached[place], y: row, text: text(arm) })),
    stops: arms.map((arm, row) => ({ x: arm.reached[place] || 0, y: row, title: label(arm.index), lines: [[arm.index, arm.reached[place] === null ? text(arm) : `${text(arm)} ${unit}`], [null, `${arm.reached[0]} of ${arm.scores.length} seeds reach the target`]] })),
    summary: arms.map((arm) => `${label(arm.index)} ${text(arm)}`).join("; "),
    table: { head: ["Optimizer", "Seeds that reach it", ...TIMES.map(([, , words]) => words)], rows: arms.map((arm) => [label(arm.index), `${arm.reached[0]} of ${arm.scores.length}`, ...TIMES.map(([, at]) => (arm.reached[at] === null ? "missed" : number(arm.reached[at])))]) },
  };
}

function addOverallCards(parent) {
  addCard(parent, { wide: true, id: "all.profile", title: "Performance profile", views: TIMES.map(([key, , words]) => [key, key === "optimizer" ? "In optimizer" : words.split(" ")[0][0].toUpperCase() + words.split(" ")[0].slice(1)]), build: profileChart, note: "Share of the tasks on which an optimizer reaches the target in at most so many times the time of the fastest. Left: how often it is the fastest; right: how often it gets there at all." });
  addCard(parent, { id: "all.rates", title: "Learning rates that won the search", views: [["rate", "Rate"]], build: allRates, note: "One marker for each task; the bar joins the middle half. A rate that serves many tasks is a safe first guess." });
  addCard(parent, { id: "all.share", title: "Time spent in the optimizer", views: [["share", "Share"], ["step", "µs per step"]], build: sharesChart, note: "One marker for each task, the line at the median. The share is of the time spent training." });
}

function profileChart(view) {
  const place = TIMES.find(([key]) => key === view)[1];
  const tasks = shownTasks();
  const indexes = OPTIMIZERS.map((_, index) => index).filter(isOn);
  if (!tasks.length || !indexes.length || !tasks.some((task) => task.arms.some((arm) => arm.reached[place] !== null))) return null;
  const ratios = indexes.map((index) => tasks.map((task) => ratioOf(task, index, place)));
  const longest = Math.max(1.5, ...ratios.flat().filter((ratio) => ratio !== null));
  const lines = indexes.map((o, i) => ({ o, plain: false, points: stairs(ratios[i], longest * 1.1) }))
    .sort((a, b) => OPTIMIZERS[a.o].ours - OPTIMIZERS[b.o].ours);
  const shareAt = (i, x) => ratios[i].filter((ratio) => ratio !== null && ratio <= x + 1e-9).length / tasks.length;
  const xs = [...new Set(ratios.flat().filter((ratio) => ratio !== null))].sort((a, b) => a - b);
  const said = (o, i, x) => `${label(o)} ${percent(shareAt(i, x))} of ${tasks.length} tasks`;
  return {
    x: { title: "times as long as the fastest", log: true, domain: [1, longest * 1.1] },
    y: { title: "share of tasks at their target", domain: [0, 1.03], format: percent },
    lines,
    stops: xs.map((x) => ({ x, title: `within ${x.toPrecision(3)} × the fastest`, lines: indexes.map((o, i) => [o, said(o, i, x), shareAt(i, x)]).sort((a, b) => b[2] - a[2]) })),
    summary: indexes.map((o, i) => `${said(o, i, 1)} as the fastest, ${percent(shareAt(i, Infinity))} at all`).join("; "),
    table: { head: ["Times the fastest", ...indexes.map(label)], rows: [1, 1.25, 1.5, 2, 3, 5, 10, Infinity].map((x) => [x === Infinity ? "any" : String(x), ...indexes.map((_, i) => percent(shareAt(i, x)))]) },
  };
}

function ratioOf(task, index, place) {
  const times = task.arms.map((arm) => arm.reached[place]).filter((time) => time !== null);
  const own = task.arms[index].reached[place];
  const least = Math.min(...times);
  return own === null ? null : least > 0 ? own / least : 1;
}

function stairs(ratios, end) {
  const sorted = ratios.filter((ratio) => ratio !== null).sort((a, b) => a - b);
  const points = [[1, sorted.filter((ratio) => ratio <= 1).length / ratios.length]];
  sorted.forEach((ratio, i) => points.push([ratio, points[points.length - 1][1]], [ratio, Math.max(points[points.length - 1][1], (i + 1) / ratios.length)]));
  return [...points, [end, points[points.length - 1][1]]];
}

/** Rows of optimizers with a marker per task. */
function stripChart(of, x, say) {
  const indexes = OPTIMIZERS.map((_, index) => index).filter(isOn);
  const found = indexes.map((o) => shownTasks().map((task) => ({ task, value: of(task.arms[o]) })).filter(({ value }) => value !== null));
  const values = found.flat().map(({ value }) => value);
  if (!values.length) return null;
  const middles = found.map((row) => (row.length ? median(row.map(({ value }) => value)) : null));
  const quarter = (row, share) => row.map(({ value }) => value).sort((a, b) => a - b)[Math.round(share * (row.length - 1))];
  return {
    height: rowHeight(indexes.length),
    x: { ...x, domain: x.log ? padded(extent(values, true), true, 0.06) : [0, 1.08 * Math.max(...values)] },
    y: rowsOf(indexes.map((index) => ({ index }))),
    dots: found.flatMap((row, y) => [...row.map(({ value }) => ({ o: indexes[y], x: value, y, faint: true, r: 4.5 })), ...(middles[y] === null ? [] : [{ o: indexes[y], x: middles[y], y, r: 6.5 }])]),
    bars: found.map((row, y) => row.length && { o: indexes[y], from: quarter(row, 0.25), to: quarter(row, 0.75), y }).filter(Boolean),
    stops: found.flatMap((row, y) => row.map(({ task, value }) => ({ x: value, y, title: task.title, lines: [[indexes[y], `${label(indexes[y])}: ${say(value)}`]] })).sort((a, b) => a.x - b.x)),
    summary: indexes.map((o, y) => `${label(o)}: in the middle ${middles[y] === null ? "none" : say(middles[y])}`).join("; "),
    table: { head: ["Task", ...indexes.map(label)], rows: shownTasks().map((task) => [task.title, ...indexes.map((o) => { const value = of(task.arms[o]); return value === null ? "none" : say(value); })]) },
  };
}

const allRates = () => stripChart((arm) => arm.lr, { title: "learning rate", log: true }, rate);

const sharesChart = (view) => (view === "share"
  ? stripChart((arm) => arm.share, { title: "share of training time", format: percent }, (value) => `${(100 * value).toPrecision(2)} %`)
  : stripChart((arm) => arm.stepUs, { title: "µs per step, median", log: true }, (value) => `${value.toPrecision(3)} µs`));
