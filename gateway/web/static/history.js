// The list of tasks with states and thumbnails, which is refreshed.

import { call } from "./api.js";
import { ago, byId, el } from "./dom.js";
import { chip, mainImage, picture } from "./task_parts.js";
import { current } from "./task_view.js";

const PAGE = 24;
const cards = byId("cards");
const filter = byId("state-filter");
const more = byId("more-tasks");
const error = byId("history-error");

let tasks = [];
let nextPage = "";
let onChoose = () => {};
let timer = 0;

/** Set up the list. `choose(task)` gets the task that is clicked. */
export function start(choose) {
  onChoose = choose;
  filter.addEventListener("change", () => refresh());
  more.addEventListener("click", older);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) refresh();
  });
  addEventListener("online", refresh);
  return refresh();
}

/** Stop the refreshing. */
export function stop() {
  clearTimeout(timer);
}

function address(pageToken) {
  const query = new URLSearchParams({ page_size: String(PAGE) });
  if (filter.value) query.set("state", filter.value);
  if (pageToken) query.set("page_token", pageToken);
  return `api/tasks?${query}`;
}

/** Fetch the first page again. Older pages that were fetched stay. */
export async function refresh() {
  clearTimeout(timer);
  const asked = filter.value;
  try {
    const page = await call("GET", address(""));
    if (asked !== filter.value) return;
    const fresh = new Set(page.tasks.map((task) => task.id));
    const oldest = page.tasks.at(-1)?.create_time ?? "";
    const rest = tasks.filter((task) => !fresh.has(task.id) && task.create_time < oldest && matches(task));
    if (!rest.length) nextPage = page.next_page_token;
    tasks = [...page.tasks, ...rest];
    error.hidden = true;
    draw();
  } catch (problem) {
    error.textContent = problem.message;
    error.hidden = false;
  }
  if (document.hidden) return;
  const busy = tasks.some((task) => !task.terminal);
  timer = setTimeout(refresh, busy ? 2500 : 8000);
}

async function older() {
  more.disabled = true;
  try {
    const page = await call("GET", address(nextPage));
    const known = new Set(tasks.map((task) => task.id));
    tasks = [...tasks, ...page.tasks.filter((task) => !known.has(task.id))];
    nextPage = page.next_page_token;
    draw();
  } catch (problem) {
    error.textContent = problem.message;
    error.hidden = false;
  }
  more.disabled = false;
}

function matches(task) {
  return !filter.value || task.state === filter.value;
}

/** Update the list with a task that changed elsewhere on the page. */
export function update(task) {
  const place = tasks.findIndex((one) => one.id === task.id);
  if (place >= 0) tasks[place] = { ...tasks[place], ...task };
  else tasks.unshift(task);
  tasks = tasks.filter(matches);
  draw();
}

/** Draw the list. A card that has not changed keeps its element, and so the focus. */
export function draw() {
  const old = new Map([...cards.children].map((card) => [card.dataset.id, card]));
  const wanted = tasks.map((task) => {
    const key = `${task.state} ${task.images.length} ${task.queue_position} ${task.id === current()} ${task.approved_image_index} ${ago(task.create_time)}`;
    const known = old.get(task.id);
    if (known?.dataset.key === key) return known;
    const made = card(task, key);
    if (known?.contains(document.activeElement)) queueMicrotask(() => made.firstChild.focus());
    return made;
  });
  if (wanted.length !== cards.children.length || wanted.some((one, place) => one !== cards.children[place])) {
    cards.replaceChildren(...wanted);
  }
  byId("no-tasks").hidden = tasks.length > 0;
  more.hidden = !nextPage;
}

function card(task, key) {
  const image = mainImage(task);
  const thumb = image
    ? picture(image, "", { loading: "lazy" })
    : { queued: "…", generating: "✎", failed: "!", cancelled: "×" }[task.state] || "";
  const foot = [chip(task.state), el("time", { datetime: task.create_time }, ago(task.create_time))];
  const button = el(
    "button",
    { type: "button", "aria-current": task.id === current() ? "true" : null, onclick: () => onChoose(task) },
    el("span", { class: "thumb", "aria-hidden": "true" }, thumb),
    el("span", { class: "words", dir: "auto" }, task.parameters.prompt),
    el("span", { class: "foot" }, foot),
  );
  return el("li", { "data-id": task.id, "data-key": key }, button);
}
