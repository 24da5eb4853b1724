// The view of one task: its progress, its images, and the actions on it.

import { call, follow } from "./api.js";
import { forms, postForm } from "./approval.js";
import { byId, el, local, stateName } from "./dom.js";

const body = byId("task-body");
const announcer = byId("announcer");

let watching = new AbortController();
let shown = null;
let onChange = () => {};
let onVary = () => {};

/**
 * Set up the view. `changed(task)` gets each task whose state changes here, `vary(task, image)` an image to start the next
 * one from.
 */
export function start(changed, vary) {
  onChange = changed;
  onVary = vary;
  blank();
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

function announce(text) {
  if (announcer.textContent !== text) announcer.textContent = text;
}

/** Show a task, and follow it until it is terminal. */
export async function show(task) {
  watching.abort();
  watching = new AbortController();
  shown = task.id;
  const { signal } = watching;
  try {
    if (!task.terminal) {
      const live = progress(task);
      live.state(task.state, { attempt: task.attempt_count });
      await follow(task.id, 0, (name, data) => live.event(name, data), signal);
      if (signal.aborted) return;
      task = await call("GET", `/api/tasks/${task.id}`);
      onChange(task);
    }
    if (!signal.aborted) await showResult(task, signal);
  } catch (error) {
    if (!signal.aborted) body.append(el("p", { class: "notice", role: "alert" }, error.message));
  }
}

/** Show an uploaded image with the form that creates a post with it. */
export async function showImage(image) {
  watching.abort();
  watching = new AbortController();
  shown = null;
  const { signal } = watching;
  const title = el("div", { class: "task-head" }, el("h2", { id: "task-title" }, image.name));
  const element = el("img", { src: local(image.url), alt: image.name, width: image.width, height: image.height });
  const actions = el("div", { class: "row after" });
  body.replaceChildren(title, el("div", { class: "canvas" }, element), facts(image), actions);
  try {
    const form = await postForm(image, (post) => {
      form.remove();
      actions.replaceChildren(...postActions(post, actions));
      announce(`Post ${post.state}.`);
      byId("task-view").focus();
    });
    if (!signal.aborted) body.append(form);
  } catch (error) {
    if (!signal.aborted) body.append(el("p", { class: "notice", role: "alert" }, error.message));
  }
}

function head(task, state) {
  return el("div", { class: "task-head" }, el("h2", { id: "task-title" }, task.parameters.prompt), chip(state));
}

/** A state as a small label. */
export function chip(state) {
  return el("span", { class: `state ${state}` }, stateName(state));
}

/** The view of a task that is queued or generating. */
function progress(task) {
  const { width, height } = task.parameters;
  const canvas = el("div", { class: "canvas waiting" }, "Waiting for the generator …");
  const bar = el("progress", { max: 1, "aria-label": "Progress" });
  const steps = el("span", { id: "steps" }, "in the queue");
  const queue = el("span");
  const eta = el("span");
  const trouble = el("p", { class: "hint", role: "status" });
  const cancel = el("button", { type: "button", id: "cancel" }, "Cancel");
  cancel.addEventListener("click", () => act(cancel, task, "cancel", false));
  const label = el("div", {}, head(task, task.state));
  body.replaceChildren(
    label,
    canvas,
    el("div", { class: "progress" }, bar, el("p", { class: "numbers" }, steps, queue, eta)),
    el("div", { class: "row after" }, cancel, trouble),
  );
  if (task.queue_position !== null) queue.textContent = waiting(task.queue_position);
  let quarter = -1;
  const frames = new Map();

  // The images stay in the order of their index, whichever comes first.
  function place(index, image) {
    frames.set(index, image);
    canvas.classList.remove("waiting");
    canvas.classList.toggle("several", task.parameters.candidate_count > 1);
    canvas.replaceChildren(...[...frames.keys()].sort().map((key) => frames.get(key)));
  }

  return {
    state(state, data) {
      label.replaceChildren(head(task, state));
      announce(`Task ${stateName(state)}.`);
      if (state === "generating") {
        queue.textContent = data.attempt > 1 ? `attempt ${data.attempt}` : "";
        steps.textContent = "starting";
      }
      if (state === "queued") {
        bar.removeAttribute("value");
        steps.textContent = "in the queue";
        eta.textContent = "";
        trouble.textContent = data.error ? `${data.error.message} It will be retried.` : "";
      }
    },
    event(name, data) {
      if (name === "progress") {
        if (data.total_steps) {
          bar.value = data.step / data.total_steps;
          const stepsDone = data.step === data.total_steps;
          steps.textContent = stepsDone ? "storing the image" : `step ${data.step} of ${data.total_steps}`;
          const now = Math.floor((4 * data.step) / data.total_steps);
          if (now > quarter && now < 4) announce(`${now * 25} percent`);
          quarter = Math.max(quarter, now);
        }
        queue.textContent = data.queue_position === null ? "" : waiting(data.queue_position);
        eta.textContent = data.eta_seconds === null ? "" : `about ${Math.max(1, Math.round(data.eta_seconds))} s left`;
      } else if (name === "preview") {
        const image = el("img", { class: "preview", alt: "Preview of the image", width, height });
        image.src = `data:${data.content_type};base64,${data.data}`;
        place(data.index, image);
      } else if (name === "image") {
        place(data.image.index, taskImage(task, data.image));
      } else if ("state" in data) {
        this.state(data.state, data);
        onChange({ ...task, state: data.state, terminal: data.terminal });
      }
    },
  };
}

function waiting(position) {
  return position === 0 ? "next in the queue" : `${position} before it`;
}

function taskImage(task, image) {
  return el("img", { src: local(image.url), alt: task.parameters.prompt, width: image.width, height: image.height });
}

/** The view of a terminal task. */
async function showResult(task, signal) {
  const title = head(task, task.state);
  const actions = el("div", { class: "row after" });
  const parts = [title];
  const many = task.images.length > 1 && task.state === "awaiting_approval";
  if (many) parts.push(choices(task));
  else if (task.images.length) parts.push(el("div", { class: "canvas" }, taskImage(task, task.images[0])));
  const chosen = () => Number(body.querySelector('[name="image_index"]:checked')?.value ?? task.images[0].index);
  if (task.images.length) parts.push(facts(task.images[0], task.parameters.initial_image));
  if (task.images.length && !task.images[0].credit) {
    const vary = () => onVary(task, task.images.find((image) => image.index === chosen()));
    parts.push(el("div", { class: "row after vary" }, el("button", { type: "button", onclick: vary }, "Vary")));
  }
  if (task.error) parts.push(el("p", { class: "notice", role: "alert" }, `${task.error.message} (${task.error.reason})`));
  if (task.state === "failed" || task.state === "cancelled") {
    const retry = el("button", { type: "button", class: "primary" }, "Retry");
    retry.addEventListener("click", () => act(retry, task, "retry", true));
    actions.append(retry);
  }
  if (task.state === "approved") {
    call("GET", `/api/posts/${task.post_id}`).then(
      (post) => actions.replaceChildren(...postActions(post, actions)),
      (error) => actions.replaceChildren(error.status === 404 ? "The post was deleted." : error.message),
    );
  }
  body.replaceChildren(...parts, actions);
  announce(`Task ${stateName(task.state)}.`);
  if (task.state !== "awaiting_approval") return;
  const made = await forms(task, chosen, ({ task: after }) => {
    onChange(after);
    show(after);
    byId("task-view").focus();
  });
  if (!signal.aborted) body.append(...made);
}

/** The actions on a post: read it, and publish or unpublish it. */
function postActions(post, place) {
  const draft = post.state === "draft";
  const verb = draft ? "publish" : "unpublish";
  const change = el("button", { type: "button", class: draft ? "primary" : null }, draft ? "Publish" : "Unpublish");
  change.addEventListener("click", async () => {
    change.disabled = true;
    try {
      const after = await call("POST", `/api/posts/${post.id}/${verb}`);
      place.replaceChildren(...postActions(after, place));
      place.querySelector("button").focus();
      announce(`Post ${after.state}.`);
    } catch (error) {
      change.disabled = false;
      change.after(el("p", { class: "wrong", role: "alert" }, error.message));
    }
  });
  if (draft) return [el("span", {}, `“${post.title}” is a draft.`), change];
  return [el("a", { class: "button", href: `/posts/${post.slug}` }, "Read the post"), change];
}

function choices(task) {
  const labels = task.images.map((image, position) =>
    el(
      "label",
      {},
      el("input", { type: "radio", name: "image_index", value: image.index, checked: position === 0, "aria-label": `Image ${position + 1}` }),
      taskImage(task, image),
    ),
  );
  return el("fieldset", { class: "choices" }, el("legend", {}, "Choose one"), labels);
}

function facts(image, initial = null) {
  const items = [`${image.width} × ${image.height}`];
  if (Number.isInteger(image.seed)) items.push(`seed ${image.seed}`);
  if (image.num_inference_steps) items.push(`${image.num_inference_steps} steps`);
  if (image.scheduler) items.push(image.scheduler);
  if (image.model) items.push(image.model);
  const list = items.map((item) => el("span", {}, item));
  if (image.credit) list.push(el("a", { href: image.credit_url, rel: "noopener noreferrer", target: "_blank" }, image.credit));
  if (initial) {
    list.push(el("span", {}, "started from ", el("a", { href: local(initial.url), target: "_blank" }, "an image")));
    if (initial.strength !== null) list.push(el("span", {}, `strength ${initial.strength.toFixed(2)}`));
    if (initial.has_mask) list.push(el("span", {}, "only a part"));
    if (initial.mask_feather) list.push(el("span", {}, `soft border ${initial.mask_feather} px`));
  }
  return el("p", { class: "facts" }, list);
}

async function act(button, task, verb, follows) {
  button.disabled = true;
  try {
    const after = await call("POST", `/api/tasks/${task.id}/${verb}`);
    onChange(after);
    if (follows || after.terminal) await show(after);
  } catch (error) {
    button.disabled = false;
    button.after(el("p", { class: "wrong", role: "alert" }, error.message));
  }
}
