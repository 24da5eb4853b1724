// The picture that the next one begins from: one of the desk's or one that is uploaded, how much of it, and which part.

import { upload } from "./api.js";
import { byId, el, local } from "./dom.js";
import * as mask from "./mask.js";
import { slider } from "./settings.js";

const MAX_BYTES = 32 * 1024 * 1024;
const TYPES = ["image/png", "image/jpeg", "image/webp"];
const WHOLE_STRENGTH = 0.6;
const PART_STRENGTH = 1;

const place = byId("begin");
const file = byId("upload");
const status = byId("upload-status");

let image = null;
let part = null; // what of it is marked, as the dialog tells it
let onPicture = () => {};

/** Set up; `use(image)` gets an uploaded picture that is to be in a post as it is. */
export function start(form, use) {
  onPicture = use;
  file.addEventListener("change", bring);
  form.addEventListener("change", (event) => {
    if (event.target.name === "use_generation") show();
  });
  show();
}

/** Whether the model can begin from a picture. */
export function allow(allowed) {
  document.body.toggleAttribute("data-begins", allowed);
  if (!allowed && image && !image.uploaded) forget();
  show();
}

function can() {
  return document.body.hasAttribute("data-begins");
}

/** Begin from this picture: `{key, url, width, height, name}`, and `uploaded` when no task made it. */
export function set(chosen) {
  image = chosen;
  part = null;
  status.textContent = "";
  place.replaceChildren(...controls());
  show();
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
  file.focus();
}

function show() {
  const painted = document.querySelector('[name="use_generation"]:checked').value === "true";
  place.hidden = !image || !painted;
  byId("bring").hidden = Boolean(image) || !painted;
  document.body.toggleAttribute("data-begun", Boolean(image) && painted && can());
}

/** What to send as `initial_image`, or null. Throws what a form shows when no part is chosen yet. */
export async function value() {
  if (!image || !can()) return null;
  const sent = { key: image.key, strength: Number(byId("strength").value) };
  if (!wantsPart()) return sent;
  if (!part) throw { fields: [{ field: "initial_image", message: "Choose the part first, or take all of it." }] };
  return { ...sent, mask: await mask.encode(part.marks), mask_feather: part.feather };
}

function wantsPart() {
  return place.querySelector('[name="extent"]:checked').value === "part";
}

async function bring() {
  const [chosen] = file.files;
  file.value = "";
  if (!chosen) return;
  const problem = refusal(chosen);
  status.classList.toggle("wrong", Boolean(problem));
  status.textContent = problem || `Uploading ${chosen.name} …`;
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
  if (!TYPES.includes(type)) return "Only PNG, JPEG and WebP pictures can be taken.";
  if (size > MAX_BYTES) return "A picture may have 32 MiB at most.";
  return "";
}

function controls() {
  const remove = el("button", { type: "button", class: "quiet", onclick: clear }, "Remove");
  const strength = slider("Strength", "strength", { min: 0.05, max: 1, step: 0.05, default: WHOLE_STRENGTH }, {
    words: (value) => value.toFixed(2),
    hint: "Low keeps the picture, high paints it anew.",
  });
  return [
    el(
      "div",
      { class: "begin-head" },
      el("span", { class: "begin-thumb" }, el("img", { src: local(image.url), alt: "", width: image.width, height: image.height })),
      el("p", { id: "begin-title" }, el("span", { class: "can-begin" }, "Begins from "), el("q", {}, image.name), el("span", { class: "hint" }, `${image.width} × ${image.height}`)),
      remove,
    ),
    el("div", { class: "can-begin" }, strength, extent(strength.querySelector("input"))),
    el("p", { class: "wrong", "data-error": "initial_image", role: "alert", hidden: true }),
    image.uploaded ? el("button", { type: "button", onclick: () => onPicture(image) }, "Use it in a post as it is") : null,
  ].filter(Boolean);
}

/** All of it, or a part; strength goes to what suits each, unless somebody has moved it. */
function extent(strength) {
  let moved = false;
  strength.addEventListener("input", (event) => {
    moved ||= event.isTrusted;
  });
  const choose = el("button", { type: "button", id: "choose-part", hidden: true }, "Mark the part …");
  const said = el("span", { class: "hint", role: "status", hidden: true });
  choose.addEventListener("click", async () => {
    const made = await mask.choose(image, part);
    if (made === undefined) return;
    part = made;
    said.textContent = part ? "What is marked is painted." : "Nothing is marked yet.";
    choose.textContent = part ? "Change the part …" : "Mark the part …";
    const thumb = place.querySelector(".begin-thumb");
    thumb.querySelector("canvas")?.remove();
    if (part) thumb.append(mask.copy(part.marks));
  });
  const option = (name, label, checked) => {
    const radio = el("input", { type: "radio", name: "extent", value: name, checked });
    radio.addEventListener("change", () => {
      choose.hidden = said.hidden = name !== "part";
      place.querySelector(".begin-thumb").classList.toggle("whole", name !== "part");
      if (!moved) {
        strength.value = name === "part" ? PART_STRENGTH : WHOLE_STRENGTH;
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
      el("legend", { class: "unseen" }, "How much of the picture may change"),
      option("whole", "All of it", true),
      option("part", "A part", false),
    ),
    el("div", { class: "row" }, choose, said),
  );
}
