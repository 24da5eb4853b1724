// Parts of the view of a task that several modules use.

import { byId, el, stateName } from "./dom.js";
import { path, source } from "./site.js";

/** Say a text to people who do not see the page. */
export function announce(text) {
  const announcer = byId("announcer");
  if (announcer.textContent !== text) announcer.textContent = text;
}

/** The heading of a task, with its state. */
export function head(task, state) {
  return el("div", { class: "task-head" }, el("h2", { id: "task-title", dir: "auto" }, task.parameters.prompt), chip(state));
}

/** A state as a small label. */
export function chip(state) {
  return el("span", { class: `state ${state}` }, stateName(state));
}

/** The image of a task that is shown for it: the approved one, otherwise the first. undefined: there is none yet. */
export function mainImage(task) {
  return task.images.find((image) => image.index === task.approved_image_index) ?? task.images[0];
}

/** An image of a task. */
export function taskImage(task, image) {
  return picture(image, task.parameters.prompt);
}

/** An image `{url, key, width, height}` of ours. */
export function picture(image, alt, more = {}) {
  return el("img", { src: source(image), alt, width: image.width, height: image.height, decoding: "async", ...more });
}

/** The image to show for a choice among several. `chosen`: the index that is checked; `onChoose(image)` gets another. */
export function choices(task, chosen, onChoose) {
  const labels = task.images.map((image, position) => {
    const name = `Image ${position + 1}`;
    const radio = el("input", {
      type: "radio", name: "image_index", value: image.index, checked: image.index === chosen, "aria-label": name,
      onchange: () => onChoose(image),
    });
    return el("label", {}, radio, taskImage(task, image));
  });
  return el("fieldset", { class: "choices" }, el("legend", {}, "Choose one"), labels);
}

/** How an image was made. `initial`: the image that it started from, or null. */
export function facts(image, initial = null) {
  const items = [`${image.width} × ${image.height}`];
  if (Number.isInteger(image.seed)) items.push(`seed ${image.seed}`);
  if (image.num_inference_steps) items.push(`${image.num_inference_steps} steps`);
  if (image.scheduler) items.push(image.scheduler);
  if (image.model) items.push(image.model);
  const list = items.map((item) => el("span", {}, item));
  if (image.credit) {
    list.push(el("a", { href: image.credit_url, rel: "noopener noreferrer", target: "_blank", dir: "auto" }, image.credit));
  }
  if (initial) {
    list.push(el("span", {}, "started from ", el("a", { href: source(initial), target: "_blank" }, "an image")));
    if (initial.strength !== null) list.push(el("span", {}, `strength ${initial.strength.toFixed(2)}`));
    if (initial.has_mask) list.push(el("span", {}, "only a part"));
    if (initial.mask_feather) list.push(el("span", {}, `soft border ${initial.mask_feather} px`));
  }
  return el("p", { class: "facts" }, list);
}

/** A message next to a button, instead of the one before. */
export function complain(button, text) {
  if (button.nextElementSibling?.matches(".wrong")) button.nextElementSibling.remove();
  if (text) button.after(el("p", { class: "wrong", role: "alert" }, text));
}

/** The address of the page of a post. */
export function postPath(post) {
  return path(`posts/${encodeURIComponent(post.slug)}`);
}
