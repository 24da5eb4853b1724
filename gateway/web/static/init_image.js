// The image that the next one starts from: an image of a task or an upload, how much of it changes, and which part.

import { upload } from "./api.js";
import { byId, el } from "./dom.js";
import { limit } from "./limits.js";
import * as mask from "./mask.js";
import { slider } from "./settings.js";
import { picture } from "./task_parts.js";

const TYPES = ["image/png", "image/jpeg", "image/webp"];
const STRENGTH_STEP = 0.05;

const place = byId("init-image");
const file = byId("upload");
const status = byId("upload-status");

let image = null;
let part = null; // the marked part, as the dialog returns it, with the marks as a URL too
let onImage = () => {};
let onChange = () => {};

/** Set up the controls. `use(image)` gets an uploaded image for a post; `changed()` is called when `state()` changes. */
export function start(form, use, changed) {
  onImage = use;
  onChange = changed;
  file.addEventListener("change", uploadChosen);
  form.addEventListener("change", (event) => {
    if (event.target.name === "use_generation") show();
  });
  show();
}

/** Set whether the model can start from an image. */
export function allow(allowed) {
  const isNew = allowed && !can();
  document.body.toggleAttribute("data-can-start", allowed);
  if (isNew && image) draw(); // with the limits that are known now
  if (!allowed && image && !image.uploaded) forget();
  show();
}

function can() {
  return document.body.hasAttribute("data-can-start");
}

/** The image and the marked part as JSON, for `restore`. */
export function state() {
  if (!image) return null;
  const { key, url, width, height, name, uploaded } = image;
  return { image: { key, url, width, height, name, uploaded }, part: part && { url: part.url, feather: part.feather } };
}

/** Start from what `state()` returned. */
export async function restore(before) {
  if (before) {
    image = before.image;
    draw();
  }
  show();
  if (!before?.part) return;
  const marks = await mask.restored(before.image, before.part.url);
  if (image !== before.image || part) return; // the user was quicker
  part = { ...before.part, marks };
  showPart();
}

/** Start from this image: `{key, url, width, height, name}`, with `uploaded` if it is not of a task. */
export function set(chosen) {
  image = chosen;
  part = null;
  status.textContent = "";
  draw();
  show();
  onChange();
  place.scrollIntoView({ block: "nearest" });
  (can() ? byId("strength") : place.querySelector("button")).focus({ preventScroll: true });
}

function forget() {
  image = null;
  part = null;
  place.replaceChildren();
}

function clear() {
  forget();
  show();
  onChange();
  file.focus();
}

function show() {
  const generated = document.querySelector('[name="use_generation"]:checked').value === "true";
  place.hidden = !image || !generated;
  byId("upload-field").hidden = Boolean(image) || !generated;
  document.body.toggleAttribute("data-has-init", Boolean(image) && generated && can());
}

/** The `initial_image` of the request, or null. Throws an error for the form when no part is marked yet. */
export async function value() {
  if (!image || !can()) return null;
  const sent = { key: image.key, strength: Number(byId("strength").value) };
  if (!wantsPart()) return sent;
  if (!part) throw { fields: [{ field: "initial_image", message: "Mark the part first, or choose the whole image." }] };
  return { ...sent, mask: await mask.encode(part.marks), mask_feather: part.feather };
}

function draw() {
  place.replaceChildren(...controls());
  showPart();
}

function wantsPart() {
  return place.querySelector('[name="extent"]:checked').value === "part";
}

async function uploadChosen() {
  const [chosen] = file.files;
  file.value = "";
  if (!chosen) return;
  const problem = refusal(chosen);
  status.classList.toggle("wrong", Boolean(problem));
  status.replaceChildren(...(problem ? [problem] : ["Uploading ", el("bdi", {}, chosen.name), " …"]));
  if (problem) return;
  file.disabled = true;
  try {
    set({ ...(await upload(chosen)), name: chosen.name, uploaded: true });
  } catch (error) {
    status.classList.add("wrong");
    status.textContent = error.message;
  } finally {
    file.disabled = false;
  }
}

function refusal({ type, size }) {
  if (!TYPES.includes(type)) return "The image must be a PNG, JPEG or WebP file.";
  const { max } = limit("upload", "size_bytes");
  if (max && size > max) return `The image must be at most ${max / 2 ** 20} MiB.`;
  return "";
}

function controls() {
  const remove = el("button", { type: "button", class: "quiet", onclick: clear }, "Remove");
  const { max, default: usual } = limit("initial_image", "strength");
  const strength = slider("Strength", "strength", { min: STRENGTH_STEP, max, step: STRENGTH_STEP, default: usual }, {
    words: (value) => value.toFixed(2),
    hint: "Low keeps the image, high changes all of it.",
  });
  return [
    el(
      "div",
      { class: "init-head" },
      el("span", { class: "init-thumb" }, picture(image, "")),
      el("p", { id: "init-title" }, el("span", { class: "can-start" }, "Starts from "), el("q", { dir: "auto" }, image.name), el("span", { class: "hint" }, `${image.width} × ${image.height}`)),
      remove,
    ),
    el("div", { class: "can-start" }, strength, extent(strength.querySelector("input"))),
    el("p", { class: "wrong", "data-error": "initial_image", role: "alert", hidden: true }),
    image.uploaded ? el("button", { type: "button", onclick: () => onImage(image) }, "Use it in a post unchanged") : null,
  ].filter(Boolean);
}

function showPart() {
  byId("part-said").textContent = part ? "The marked part changes." : "";
  byId("choose-part").textContent = part ? "Change the part …" : "Mark the part …";
  const thumb = place.querySelector(".init-thumb");
  thumb.querySelector("canvas")?.remove();
  if (part) thumb.append(mask.copy(part.marks));
}

/** The choice between the whole image and a part of it. Each sets its usual strength unless the user has set one. */
function extent(strength) {
  let moved = false;
  strength.addEventListener("input", (event) => {
    moved ||= event.isTrusted;
  });
  const choose = el("button", { type: "button", id: "choose-part", hidden: true }, "Mark the part …");
  const said = el("span", { class: "hint", id: "part-said", role: "status", hidden: true });
  choose.addEventListener("click", async () => {
    const made = await mask.choose(image, part);
    if (made === undefined) return;
    part = made && { ...made, url: made.marks.toDataURL() };
    showPart();
    if (!part) said.textContent = "Nothing is marked yet.";
    onChange();
  });
  const option = (name, label, checked) => {
    const radio = el("input", { type: "radio", name: "extent", value: name, checked });
    radio.addEventListener("change", () => {
      choose.hidden = said.hidden = name !== "part";
      place.querySelector(".init-thumb").classList.toggle("whole", name !== "part");
      if (!moved) {
        const { max, default: usual } = limit("initial_image", "strength");
        strength.value = name === "part" ? max : usual;
        strength.dispatchEvent(new Event("input"));
      }
    });
    return el("label", {}, radio, el("span", {}, label));
  };
  return el(
    "div",
    { class: "extent" },
    el(
      "fieldset",
      { class: "switch" },
      el("legend", { class: "unseen" }, "How much of the image may change"),
      option("whole", "Whole image", true),
      option("part", "Part of it", false),
    ),
    el("div", { class: "row" }, choose, said),
  );
}
