// The controls for the parameters of an image, made from what a model supports, and their values.

import { el } from "./dom.js";
import { field } from "./forms.js";
import { limit } from "./limits.js";

const SHARE_STEP = 0.05;

/** The parameters that are changed often: size, steps, guidance, number of images, seed, and the negative prompt. */
export function common(model) {
  const { max_length } = limit("task", "negative_prompt");
  const negative = el("textarea", { id: "negative_prompt", name: "negative_prompt", rows: 2, maxlength: max_length, dir: "auto" });
  const candidates = limit("task", "candidate_count");
  return [
    sized(slider("Width", "width", model.width, { unit: " px" })),
    sized(slider("Height", "height", model.height, { unit: " px" })),
    el("p", { class: "hint span as-image" }, "The size is that of the initial image."),
    slider("Steps", "num_inference_steps", model.num_inference_steps),
    slider("Guidance", "guidance_scale", model.guidance_scale),
    slider("Images", "candidate_count", { min: 1, max: candidates.max, step: 1, default: candidates.default }),
    field("Seed", el("input", { id: "seed", name: "seed", inputmode: "numeric", placeholder: "random", autocomplete: "off" })),
    field("Negative prompt", negative, { span: true }),
  ];
}

/** The parameters that are changed rarely, without those that the model does not support. `onModel(id)` is called when
 * another model is chosen. */
export function advanced(model, models, onModel) {
  const made = [];
  if (models.length > 1) {
    const chosen = select("Model", "model", models.map((one) => one.id), model.id);
    chosen.querySelector("select").addEventListener("change", (event) => onModel(event.target.value));
    made.push(chosen);
  }
  made.push(select("Scheduler", "scheduler", model.schedulers));
  const end = limit("task", "guidance_end");
  made.push(
    slider("Guidance until", "guidance_end", { min: end.min, max: end.max, step: SHARE_STEP, default: end.default }, {
      words: (value) => (value === end.max ? "the end" : percent(value)),
      hint: "Later steps cost half.",
    }),
  );
  if (model.refiner) {
    made.push(
      slider("Refiner’s share", "refiner_share", { min: 0, max: 1 - SHARE_STEP, step: SHARE_STEP, default: 0 }, {
        words: (value) => (value ? percent(value) : "none"),
        hint: `${model.refiner} does the last steps.`,
      }),
    );
  }
  const layers = limit("task", "clip_skip");
  made.push(
    slider("CLIP skip", "clip_skip", { min: 0, max: layers.max, step: 1, default: 0 }, {
      words: (value) => (value ? `${value} ${layers.unit}` : "none"),
    }),
  );
  if (model.loras.length) made.push(loras(model.loras));
  return made;
}

function percent(value) {
  return `${Math.round(value * 100)} %`;
}

// The style sheet hides the size while the initial image decides it.
function sized(made) {
  made.classList.add("sized");
  return made;
}

/** A labelled slider that shows its value, with a unit or in words. */
export function slider(label, name, range, { unit = "", words = null, hint = null } = {}) {
  const shown = el("span", { class: "value" });
  const control = el("input", { type: "range", id: name, name, min: range.min, max: range.max, step: range.step });
  control.value = range.default;
  const show = () => {
    const text = words ? words(Number(control.value)) : `${control.value}${unit}`;
    shown.textContent = text;
    control.setAttribute("aria-valuetext", text);
  };
  control.addEventListener("input", show);
  show();
  return field(label, control, { value: shown, hint });
}

function select(label, name, choices, chosen = choices[0]) {
  const options = choices.map((choice) => el("option", { value: choice, selected: choice === chosen }, choice));
  return field(label, el("select", { id: name, name }, options));
}

function loras(names) {
  const range = limit("lora", "weight");
  const rows = names.map((name, number) => {
    const weight = el("input", {
      type: "number", name: `lora-weight-${number}`, min: range.min, max: range.max, step: SHARE_STEP, value: range.default,
      disabled: true, "aria-label": `Weight of ${name}`,
    });
    const chosen = el("input", { type: "checkbox", name: "lora", value: name });
    chosen.addEventListener("change", () => {
      weight.disabled = !chosen.checked;
    });
    return el("li", {}, el("label", { class: "check" }, chosen, el("span", {}, name)), weight);
  });
  return el(
    "fieldset",
    { class: "loras" },
    el("legend", {}, "LoRAs"),
    el("ul", {}, rows),
    el("p", { class: "hint" }, `At most ${limit("task", "loras").max_items}. A weight of 1 is the trained strength.`),
    el("p", { class: "wrong", "data-error": "loras", hidden: true }),
  );
}

/** The values of the controls as fields of a request. A field at its default is left out where that is possible. */
export function values(form, { withSize }) {
  const data = new FormData(form);
  const body = {};
  const sizes = withSize ? ["width", "height"] : [];
  for (const name of [...sizes, "num_inference_steps", "guidance_scale", "candidate_count"]) {
    if (data.has(name)) body[name] = Number(data.get(name));
  }
  for (const name of ["scheduler", "model"]) {
    if (data.get(name)) body[name] = data.get(name);
  }
  if (Number(data.get("clip_skip"))) body.clip_skip = Number(data.get("clip_skip"));
  if (data.has("guidance_end") && Number(data.get("guidance_end")) < 1) body.guidance_end = Number(data.get("guidance_end"));
  const share = Number(data.get("refiner_share") ?? 0);
  if (share) body.denoising_end = Number((1 - share).toFixed(2));
  const chosen = [...form.querySelectorAll('[name="lora"]:checked')].map((box) => ({
    name: box.value,
    weight: Number(box.closest("li").querySelector("input[type=number]").value),
  }));
  if (chosen.length) body.loras = chosen;
  return body;
}
