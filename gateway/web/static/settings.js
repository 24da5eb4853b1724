// The controls of a painting, made from what a model says it can do, and what they say.

import { el } from "./dom.js";
import { field } from "./forms.js";

const MAX_LORAS = 4;

// The interface's own limits, which may be narrower than the generator's.
function sides(range) {
  return { ...range, min: Math.max(range.min, 256), max: Math.min(range.max, 1536), default: Math.max(range.default, 256) };
}

/** What most people change: size, steps, guidance, how many, seed, and what to avoid. */
export function common(model) {
  const negative = el("textarea", { id: "negative_prompt", name: "negative_prompt", rows: 2, maxlength: 2000 });
  return [
    sized(slider("Width", "width", sides(model.width), { unit: " px" })),
    sized(slider("Height", "height", sides(model.height), { unit: " px" })),
    el("p", { class: "hint span as-picture" }, "The size follows the picture that it begins from."),
    slider("Steps", "num_inference_steps", model.num_inference_steps),
    slider("Guidance", "guidance_scale", model.guidance_scale),
    slider("Pictures", "candidate_count", { min: 1, max: 4, step: 1, default: 1 }),
    field("Seed", el("input", { id: "seed", name: "seed", inputmode: "numeric", placeholder: "any", autocomplete: "off" })),
    field("Avoid", negative, { span: true }),
  ];
}

/** What few people change; what the model does not have is left out. `onModel(id)` is called for another model. */
export function advanced(model, models, onModel) {
  const made = [];
  if (models.length > 1) {
    const chosen = select("Model", "model", models.map((one) => one.id), model.id);
    chosen.querySelector("select").addEventListener("change", (event) => onModel(event.target.value));
    made.push(chosen);
  }
  made.push(select("Scheduler", "scheduler", model.schedulers));
  made.push(
    slider("Guidance until", "guidance_end", { min: 0, max: 1, step: 0.05, default: 1 }, {
      words: (value) => (value === 1 ? "the end" : percent(value)),
      hint: "Steps after it cost half.",
    }),
  );
  if (model.refiner) {
    made.push(
      slider("Refiner’s share", "refiner_share", { min: 0, max: 0.9, step: 0.05, default: 0 }, {
        words: (value) => (value ? percent(value) : "none"),
        hint: `${model.refiner} paints the end.`,
      }),
    );
  }
  if (model.loras.length) made.push(loras(model.loras));
  return made;
}

function percent(value) {
  return `${Math.round(value * 100)} %`;
}

// Sizes make no sense where the size follows a picture: the style sheet takes them away then.
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
    const said = words ? words(Number(control.value)) : `${control.value}${unit}`;
    shown.textContent = said;
    control.setAttribute("aria-valuetext", said);
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
  const rows = names.map((name, number) => {
    const weight = el("input", {
      type: "number", name: `lora-weight-${number}`, min: -4, max: 4, step: 0.05, value: 1, disabled: true,
      "aria-label": `Weight of ${name}`,
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
    el("p", { class: "hint" }, `At most ${MAX_LORAS}; a weight of 1 is as it was trained.`),
    el("p", { class: "wrong", "data-error": "loras", hidden: true }),
  );
}

/** The values of the controls, as the interface names them; what stands at its default is left out where it can be. */
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
