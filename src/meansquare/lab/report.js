// The page comes alive: filters, theme, the answer, charts; then it follows the reader's choices.
const root = document.documentElement;
const each = (selector, act) => document.querySelectorAll(selector).forEach(act);

function darkNow() {
  return state.theme ? state.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function showTheme() {
  if (state.theme) root.dataset.theme = state.theme;
  else delete root.dataset.theme;
  const button = document.getElementById("theme");
  button.setAttribute("aria-pressed", String(darkNow()));
  button.textContent = darkNow() ? "☾ Dark" : "☀ Light";
}

function showChoice() {
  each("[data-kind]", (chip) => chip.setAttribute("aria-pressed", String(state.kinds.has(chip.dataset.kind))));
  each("[data-pick]", (box) => { box.checked = state.tasks.has(box.dataset.pick); });
  each("[data-toggle]", (chip) => chip.setAttribute("aria-pressed", String(isOn(Number(chip.dataset.toggle)))));
  each("[data-x]", (chip) => chip.setAttribute("aria-pressed", String(chip.dataset.x === state.x)));
  each("[data-seeds]", (chip) => chip.setAttribute("aria-pressed", String(state.everySeed)));
  each("[data-task]", (part) => { part.hidden = !isShown(TASKS[part.dataset.task]); });
  each("tr[data-arm]", (row) => { row.hidden = !isOn(Number(row.dataset.arm)); });
  const shown = shownTasks().length;
  document.getElementById("shown").textContent = shown === TASKS.length ? `All ${shown} tasks` : `${shown} of ${TASKS.length} tasks`;
  document.getElementById("none").hidden = shown > 0;
  document.getElementById("everything").disabled = !toHash();
}

function showAll() {
  showTheme();
  showChoice();
  showAnswer();
  cards.forEach(refresh);
  films.forEach(drawFilm);
}

function clearChoice() {
  change((s) => {
    [s.kinds, s.tasks, s.off, s.views, s.zooms].forEach((set) => set.clear());
    Object.assign(s, { x: "period", everySeed: false, at: "" });
  });
}

function wireChoice() {
  each("[data-kind]", (chip) => chip.addEventListener("click", () => change((s) => flip(s.kinds, chip.dataset.kind))));
  each("[data-pick]", (box) => box.addEventListener("change", () => change((s) => flip(s.tasks, box.dataset.pick))));
  each("[data-toggle]", (chip) => {
    const index = Number(chip.dataset.toggle);
    chip.addEventListener("click", () => change((s) => flip(s.off, OPTIMIZERS[index].name)));
    ["pointerenter", "focus"].forEach((name) => chip.addEventListener(name, () => { root.dataset.only = index; }));
    ["pointerleave", "blur"].forEach((name) => chip.addEventListener(name, () => { delete root.dataset.only; }));
  });
  document.getElementById("everything").addEventListener("click", clearChoice);
  document.getElementById("theme").addEventListener("click", () => change((s) => { s.theme = darkNow() ? "light" : "dark"; }));
}

/** Links within the page go into the state, for the address holds the reader's choice. */
function wireLinks() {
  each('a[href^="#"]', (link) => link.addEventListener("click", (event) => {
    event.preventDefault();
    const to = link.getAttribute("href").slice(1);
    change((s) => { s.at = to; });
    goTo(to);
  }));
}

function goTo(id) {
  const target = document.getElementById(id);
  if (!target) return;
  target.scrollIntoView();
  target.focus({ preventScroll: true });
}

function closeMenus(event) {
  each("details.menu[open]", (menu) => {
    const outside = event.type === "click" && !menu.contains(event.target);
    if (outside || event.key === "Escape") menu.open = false;
  });
}

function start() {
  each("[data-js]", (part) => { part.hidden = false; });
  addOverallCards(document.getElementById("overall"));
  each(".charts[data-of]", (parent) => addTaskCards(parent, TASKS[parent.dataset.of], Number(parent.dataset.of)));
  wireChoice();
  wireLinks();
  listeners.push(showAll);
  addEventListener("hashchange", () => { reread(); goTo(state.at); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
  addEventListener("click", closeMenus);
  addEventListener("keydown", closeMenus);
  showAll();
  watchCards();
  watchFilms();
  if (state.at) goTo(state.at);
  performance.mark("drawn");
}

start();
