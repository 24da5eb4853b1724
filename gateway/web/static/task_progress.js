// The view of a task that is queued or generating.

import { byId, el, stateName } from "./dom.js";
import { announce, head, taskImage } from "./task_parts.js";

/**
 * Draw the progress of a task into `body`. `onCancel(button)` is called by its button, `onChange(task)` when its state
 * changes. The result has `event(name, data)`, which gets each event of the task.
 */
export function progress(task, body, { onCancel, onChange }) {
  const { width, height } = task.parameters;
  const canvas = el("div", { class: "canvas waiting" }, "Waiting for the generator …");
  const bar = el("progress", { max: 1, "aria-label": "Progress" });
  const steps = el("span", { id: "steps" }, "in the queue");
  const queue = el("span");
  const eta = el("span");
  const trouble = el("p", { class: "hint", role: "status" });
  const cancel = el("button", { type: "button", id: "cancel", onclick: () => onCancel(cancel) }, "Cancel");
  const label = el("div", {}, head(task, task.state));
  const frames = new Map();
  let quarter = -1;
  body.replaceChildren(
    label,
    canvas,
    el("div", { class: "progress" }, bar, el("p", { class: "numbers" }, steps, queue, eta)),
    el("div", { class: "row after" }, cancel, trouble),
  );
  if (task.queue_position !== null) queue.textContent = waiting(task.queue_position);

  // The images stay in the order of their index, whichever comes first.
  function place(index, image) {
    frames.set(index, image);
    canvas.classList.remove("waiting");
    canvas.classList.toggle("several", task.parameters.candidate_count > 1);
    canvas.replaceChildren(...[...frames.keys()].sort().map((key) => frames.get(key)));
  }

  function showState(state, data) {
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
  }

  function showProgress(data) {
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
  }

  showState(task.state, { attempt: task.attempt_count });
  return {
    event(name, data) {
      if (name === "progress") showProgress(data);
      else if (name === "preview") {
        const image = el("img", { class: "preview", alt: "Preview of the image", width, height });
        image.src = `data:${data.content_type};base64,${data.data}`;
        place(data.index, image);
      } else if (name === "image") place(data.image.index, taskImage(task, data.image));
      else if ("state" in data) {
        showState(data.state, data);
        if (data.terminal) byId("cancel").disabled = true;
        onChange({ ...task, state: data.state, terminal: data.terminal });
      }
    },
  };
}

function waiting(position) {
  return position === 0 ? "next in the queue" : `${position} before it`;
}
