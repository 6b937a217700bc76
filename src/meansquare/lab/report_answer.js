// The answer for the tasks that are shown, in the words of overall.py.
const LEAST_TASKS = 6;
const LEVEL = 0.05;

function signTest(wins, losses) {
  const count = wins + losses;
  let [tail, term] = [0, 1];
  for (let k = 0; k <= Math.min(wins, losses); k += 1) {
    tail += term;
    term = (term * (count - k)) / (k + 1);
  }
  return Math.min(1, (2 * tail) / 2 ** count);
}

const onTop = (task) => new Set(task.arms.flatMap((arm, index) => (["best", "tie"].includes(arm.verdict) ? [index] : [])));

function answerFor(tasks) {
  const decided = tasks.filter((task) => task.arms.some((arm) => arm.verdict === "best"));
  const places = placesOf(tasks, decided);
  return { decided, places, headline: headlineOf(places, decided), details: detailsOf(places, tasks, decided) };
}

function placesOf(tasks, decided) {
  const tops = decided.map(onTop);
  const count = (index) => tops.filter((top) => top.has(index)).length;
  const alone = (index) => tops.filter((top) => top.has(index) && top.size === 1).length;
  const order = OPTIMIZERS.map((_, index) => index).sort((a, b) => count(b) - count(a) || alone(b) - alone(a) || a - b);
  const first = order[0];
  return order.map((index) => {
    const wins = tops.filter((top) => top.has(index) && !top.has(first)).length;
    const losses = tops.filter((top) => !top.has(index) && top.has(first)).length;
    const rates = tasks.map((task) => task.arms[index].lr).filter((lr) => lr !== null).sort((a, b) => a - b);
    return { index, label: label(index), onTop: count(index), alone: alone(index), wins, losses, rates, apart: index !== first && signTest(wins, losses) < LEVEL };
  });
}

function headlineOf(places, decided) {
  const [first] = places;
  if (!decided.length) return "No answer yet: no task has a result of every seed.";
  if (decided.length === 1) return ofOne(decided[0]);
  if (decided.length < LEAST_TASKS) {
    const level = places.filter((place) => place.onTop === first.onTop).map((place) => place.label);
    return `${listing(level)}: ${level.length === 1 ? "" : "each "}best or tied on ${first.onTop} of ${decided.length} tasks.`;
  }
  const group = places.filter((place) => !place.apart).map((place) => place.label);
  if (group.length === 1) return `${group[0]}: best or tied on ${first.onTop} of ${decided.length} tasks.`;
  if (group.length === places.length) return `No winner: over ${decided.length} tasks, no optimizer stands out.`;
  return `${listing(group)}: too close to call, the rest behind.`;
}

function ofOne(task) {
  const sign = task.higher ? -1 : 1;
  const top = task.arms.map((arm, index) => ({ ...arm, index })).filter((arm) => ["best", "tie"].includes(arm.verdict))
    .sort((a, b) => sign * (a.mean - b.mean) || a.index - b.index);
  if (top.length === 1) return `${label(top[0].index)}, with learning rate ${rate(top[0].lr)}.`;
  return `A tie: ${listing(top.map((arm) => `${label(arm.index)} (${rate(arm.lr)})`))}.`;
}

const middleRate = (rates) => (rates.length ? rates[Math.floor((rates.length - 1) / 2)] : null);

function detailsOf(places, tasks, decided) {
  return [ratesOf(places, decided), sureness(places, tasks, decided)].filter(Boolean);
}

function ratesOf(places, decided) {
  const leaders = places.filter((place) => place.onTop === places[0].onTop && place.rates.length);
  if (decided.length < 2 || !leaders.length) return "";
  const most = `Most often best or tied, on ${places[0].onTop} of ${decided.length}: begin `;
  const starts = leaders.map((place) => `${place.label} at learning rate ${rate(middleRate(place.rates))}`);
  return `${decided.length < LEAST_TASKS ? "Begin " : most}${listing(starts)}${spanOf(leaders)}.`;
}

function spanOf(leaders) {
  if (leaders.length > 1) return ", each the middle of its chosen ones";
  const { rates } = leaders[0];
  const [low, high] = [rate(rates[0]), rate(rates[rates.length - 1])];
  return low === high ? " (chosen on every task)" : ` (chosen: from ${low} to ${high})`;
}

function sureness(places, tasks, decided) {
  if (!decided.length) return "";
  const clear = places.reduce((sum, place) => sum + place.alone, 0);
  let said = `How sure: one optimizer is clearly best on ${clear} of ${decided.length} tasks`;
  if (decided.length === 1) said = `How sure: the best is ${clear ? "clear of all others" : "not clear of the others"}`;
  else if (clear < decided.length) said += `; on ${decided.length - clear} the best ties with others`;
  if (decided.length < tasks.length) said += `; ${tasks.length - decided.length} without a verdict yet`;
  if (decided.length > 1 && decided.length < LEAST_TASKS) said += ". Too few tasks to generalise";
  return `${said}.`;
}

/** Say it for the shown tasks: the sentences, and the rows of the standings in their order. */
function showAnswer() {
  const tasks = shownTasks();
  const part = tasks.length < TASKS.length;
  const found = answerFor(tasks);
  document.getElementById("scope").textContent = part ? `Of the ${tasks.length} ${tasks.length === 1 ? "task" : "tasks"} chosen below` : "Of all tasks";
  document.getElementById("headline").textContent = found.headline;
  document.getElementById("details").replaceChildren(...found.details.map((text) => el("p", {}, text)));
  const body = document.querySelector("#standings tbody");
  found.places.forEach((place, at) => body.append(standingRow(body, place, at, found)));
}

function standingRow(body, place, at, { decided }) {
  const row = body.querySelector(`[data-optimizer="${place.index}"]`);
  const count = (verdict) => decided.filter((task) => task.arms[place.index].verdict === verdict).length;
  const share = (n) => `${decided.length ? (100 * n) / decided.length : 0}%`;
  const [best, tie] = [count("best"), count("tie")];
  row.querySelector(".count").textContent = `${place.onTop} of ${decided.length}`;
  row.querySelector(".bar-best").style.width = share(best);
  row.querySelector(".bar-tie").style.width = share(tie);
  row.querySelector(".middle").textContent = rate(middleRate(place.rates));
  row.querySelector(".span").textContent = place.rates.length ? `${rate(place.rates[0])} to ${rate(place.rates[place.rates.length - 1])}` : "";
  row.querySelector(".sure").textContent = sureText(place, at, decided.length);
  return row;
}

function sureText(place, at, decided) {
  if (!decided) return "no verdict yet";
  if (at === 0) return "the most tasks";
  return `${place.apart ? "behind" : "too close to call"} (${place.wins} : ${place.losses})`;
}
