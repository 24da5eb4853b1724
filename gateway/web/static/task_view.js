// The view of one task or uploaded image: its progress, its images, and the actions on it.

import { call } from "./api.js";
import { forms, leftover, postForm } from "./approval.js";
import { byId, el, stateName } from "./dom.js";
import { draft } from "./drafts.js";
import { follow, Pauses } from "./events.js";
import { read, remove, write } from "./storage.js";
import { announce, choices, complain, facts, head, mainImage, picture, postPath, taskImage } from "./task_parts.js";
import { progress } from "./task_progress.js";

const SHOWN = "frontispiece-shown";

const body = byId("task-body");
const trouble = byId("task-trouble");

let watching = new AbortController();
let shown = null;
let onChange = () => {};
let onVary = () => {};

/**
 * Set up the view, with what this tab showed before it was loaded again. `changed(task)` gets each task whose state changes
 * here, `vary(task, image)` an image to start the next one from.
 */
export async function start(changed, vary) {
  onChange = changed;
  onVary = vary;
  blank();
  const { task: id, image } = read("sessionStorage", SHOWN) ?? {};
  if (image) await showImage(image);
  if (!id) return;
  const signal = begin(id, { task: id });
  try {
    const task = await persist(() => call("GET", `api/tasks/${id}`), signal);
    if (signal.aborted) return;
    onChange(task);
    await show(task);
  } catch (error) {
    if (signal.aborted) return;
    complainOf(error.status === 404 ? null : error);
    remove("sessionStorage", SHOWN);
  }
}

/** The id of the shown task, or null. */
export function current() {
  return shown;
}

function blank() {
  body.replaceChildren(
    el("h2", { class: "unseen", id: "task-title" }, "Image"),
    el("p", { class: "blank" }, "Describe an image, or choose a task below."),
  );
}

/** End what is shown. The signal of the next view is aborted when that ends too. */
function begin(id, memory) {
  watching.abort();
  watching = new AbortController();
  shown = id;
  complainOf(null);
  write("sessionStorage", SHOWN, memory);
  return watching.signal;
}

function complainOf(error) {
  trouble.hidden = !error;
  trouble.textContent = error ? `${error.message}${error.passes ? " Trying again …" : ""}` : "";
}

/** The result of `work`, which is tried again while its error is one that passes. */
async function persist(work, signal) {
  const pauses = new Pauses();
  for (;;) {
    try {
      const result = await work();
      if (!signal.aborted) complainOf(null);
      return result;
    } catch (error) {
      if (signal.aborted || !error.passes) throw error;
      complainOf(error);
    }
    await pauses.wait(signal);
    signal.throwIfAborted();
  }
}

/** Show a task, and follow it until it is terminal. */
export async function show(task) {
  const signal = begin(task.id, { task: task.id });
  try {
    while (!task.terminal) {
      const { id } = task;
      const live = progress(task, body, { onChange, onCancel: (button) => act(button, task, "cancel", false) });
      await follow(id, live.event, complainOf, signal);
      if (signal.aborted) return;
      task = await persist(() => call("GET", `api/tasks/${id}`), signal);
      if (signal.aborted) return;
      onChange(task);
    }
    await showResult(task, signal);
  } catch (error) {
    if (!signal.aborted) complainOf(error);
  }
}

/** Show an uploaded image with the form that creates a post with it. */
export async function showImage(image) {
  const signal = begin(null, { image });
  const title = el("div", { class: "task-head" }, el("h2", { id: "task-title", dir: "auto" }, image.name));
  const actions = el("div", { class: "row after" });
  body.replaceChildren(title, el("div", { class: "canvas" }, picture(image, image.name)), facts(image), actions);
  const done = (post) => {
    body.querySelector("form").remove();
    actions.replaceChildren(...postActions(post, actions));
    announce(`Post ${post.state}.`);
    byId("task-view").focus();
  };
  try {
    const form = await persist(() => postForm(image, done), signal);
    if (!signal.aborted) body.append(form);
  } catch (error) {
    if (!signal.aborted) complainOf(error);
  }
}

/** The view of a terminal task. */
async function showResult(task, signal) {
  const waits = task.state === "awaiting_approval";
  const choice = draft(`choice:${task.id}`);
  let image = mainImage(task);
  if (waits) image = task.images.find((one) => one.index === choice.kept()) ?? image;
  else choice.drop();
  const actions = el("div", { class: "row after" });
  const parts = [head(task, task.state)];
  if (image) {
    let about = facts(image, task.parameters.initial_image);
    const choose = (chosen) => {
      image = chosen;
      choice.keep(chosen.index);
      const now = facts(chosen, task.parameters.initial_image);
      about.replaceWith(now);
      about = now;
    };
    const many = waits && task.images.length > 1;
    parts.push(many ? choices(task, image.index, choose) : el("div", { class: "canvas" }, taskImage(task, image)), about);
    if (!image.credit) {
      const vary = el("button", { type: "button", onclick: () => onVary(task, image) }, "Vary");
      parts.push(el("div", { class: "row after vary" }, vary));
    }
  }
  if (task.error) parts.push(el("p", { class: "notice", role: "alert" }, `${task.error.message} (${task.error.reason})`));
  if (task.state === "failed" || task.state === "cancelled") {
    const retry = el("button", { type: "button", class: "primary" }, "Retry");
    retry.addEventListener("click", () => act(retry, task, "retry", true));
    actions.append(retry);
  }
  body.replaceChildren(...parts, actions);
  announce(`Task ${stateName(task.state)}.`);
  if (task.state === "approved" || task.state === "rejected") body.append(leftover(task) ?? "");
  if (task.state === "approved") await showPost(task, actions, signal);
  if (waits) await showForms(task, () => image.index, signal);
}

async function showForms(task, chosen, signal) {
  const done = ({ task: after }) => {
    onChange(after);
    show(after);
    byId("task-view").focus();
  };
  const made = await persist(() => forms(task, chosen, done), signal);
  if (!signal.aborted) body.append(...made);
}

async function showPost(task, place, signal) {
  try {
    const post = await persist(() => call("GET", `api/posts/${task.post_id}`), signal);
    if (!signal.aborted) place.replaceChildren(...postActions(post, place));
  } catch (error) {
    if (error.status !== 404) throw error;
    place.replaceChildren("The post was deleted.");
  }
}

/** The actions on a post: read it, and publish or unpublish it. */
function postActions(post, place) {
  const isDraft = post.state === "draft";
  const verb = isDraft ? "publish" : "unpublish";
  const change = el("button", { type: "button", class: isDraft ? "primary" : null }, isDraft ? "Publish" : "Unpublish");
  change.addEventListener("click", async () => {
    change.disabled = true;
    complain(change, "");
    try {
      const after = await call("POST", `api/posts/${post.id}/${verb}`);
      place.replaceChildren(...postActions(after, place));
      place.querySelector("button").focus();
      announce(`Post ${after.state}.`);
    } catch (error) {
      change.disabled = false;
      complain(change, error.message);
    }
  });
  if (isDraft) return [el("span", {}, "“", el("bdi", {}, post.title), "” is a draft."), change];
  return [el("a", { class: "button", href: postPath(post) }, "Read the post"), change];
}

async function act(button, task, verb, follows) {
  button.disabled = true;
  complain(button, "");
  try {
    const after = await call("POST", `api/tasks/${task.id}/${verb}`);
    onChange(after);
    if (follows || after.terminal) await show(after);
  } catch (error) {
    button.disabled = false;
    complain(button, error.message);
  }
}
