// The form for a new picture; its controls are made from what the generator says it can do.

import { call } from "./api.js";
import { byId, el } from "./dom.js";
import { field, submitting } from "./forms.js";

const form = byId("compose");
const prompt = byId("prompt");

/** Set up the form; `onTask(task)` gets each task that is made. */
export function start(onTask) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    // The same key for a request that is sent again: a lost answer does not paint twice.
    const key = crypto.randomUUID();
    const task = await submitting(form, () => call("POST", "/api/tasks", request(), { "Idempotency-Key": key }));
    if (task) onTask(task);
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
}

/** Show what the generator can do. */
export function setCapabilities(capabilities) {
  const model = capabilities.models[0];
  byId("model-description").textContent = model?.description ?? "";
  byId("ideas").replaceChildren(...(model?.example_prompts ?? []).slice(0, 4).map(idea));
  const stock = form.querySelector('[name="use_generation"][value="false"]');
  stock.disabled = !capabilities.stock_available;
  byId("stock-hint").textContent = "Stock photos are not set up here.";
  byId("stock-hint").hidden = capabilities.stock_available;
  if (model) byId("parameters").replaceChildren(...controls(model, capabilities.models));
}

function idea(text) {
  const use = () => {
    prompt.value = text;
    prompt.focus();
  };
  return el("li", {}, el("button", { type: "button", onclick: use }, text));
}

// The interface's own limits, which may be narrower than the generator's.
function sides(range) {
  return { ...range, min: Math.max(range.min, 256), max: Math.min(range.max, 1536), default: Math.max(range.default, 256) };
}

function controls(model, models) {
  const made = [
    slider("Width", "width", sides(model.width), " px"),
    slider("Height", "height", sides(model.height), " px"),
    slider("Steps", "num_inference_steps", model.num_inference_steps),
    slider("Guidance", "guidance_scale", model.guidance_scale),
    slider("Pictures", "candidate_count", { min: 1, max: 4, step: 1, default: 1 }),
    field("Seed", el("input", { id: "seed", name: "seed", inputmode: "numeric", placeholder: "any", autocomplete: "off" })),
    select("Scheduler", "scheduler", model.schedulers),
  ];
  if (models.length > 1) made.push(select("Model", "model", models.map((one) => one.id)));
  const negative = el("textarea", { id: "negative_prompt", name: "negative_prompt", rows: 2, maxlength: 2000 });
  made.push(field("Avoid", negative, { span: true }));
  return made;
}

function slider(label, name, range, unit = "") {
  const shown = el("span", { class: "value" });
  const control = el("input", { type: "range", id: name, name, min: range.min, max: range.max, step: range.step });
  control.value = range.default;
  const show = () => {
    shown.textContent = `${control.value}${unit}`;
  };
  control.addEventListener("input", show);
  show();
  return field(label, control, { value: shown });
}

function select(label, name, choices) {
  const options = choices.map((choice) => el("option", { value: choice }, choice));
  return field(label, el("select", { id: name, name }, options));
}

/** The form as the interface wants it. A seed that is no number is sent as it is, and refused with a reason. */
function request() {
  const data = new FormData(form);
  const text = (name) => String(data.get(name) ?? "").replace(/\s+/g, " ").trim().normalize("NFC");
  const body = {
    prompt: text("prompt"),
    use_generation: data.get("use_generation") === "true",
    negative_prompt: text("negative_prompt"),
  };
  for (const name of ["width", "height", "num_inference_steps", "guidance_scale", "candidate_count"]) {
    if (data.has(name)) body[name] = Number(data.get(name));
  }
  for (const name of ["scheduler", "model"]) {
    if (data.get(name)) body[name] = data.get(name);
  }
  const seed = text("seed");
  if (seed) body.seed = /^\d+$/.test(seed) ? Number(seed) : seed;
  return body;
}
