// The form for a new image. Its controls are made from the capabilities of the generator.

import { call, repeatable } from "./api.js";
import { byId, el } from "./dom.js";
import { draft } from "./drafts.js";
import { restore, snapshot, submitting } from "./forms.js";
import * as initImage from "./init_image.js";
import { limit } from "./limits.js";
import { advanced, common, values } from "./settings.js";

const IDEAS = 4;

const form = byId("prompt-form");
const prompt = byId("prompt");
const typed = draft("prompt", { perTab: true });

/** Set up the form. `onTask(task)` gets each new task, `onImage(image)` an uploaded image for a post. */
export function start(onTask, onImage) {
  const before = typed.kept();
  initImage.start(form, onImage, keep);
  if (before) {
    restore(form, before.values);
    initImage.restore(before.initial);
  }
  for (const kind of ["input", "change"]) form.addEventListener(kind, keep);
  let keyed = repeatable();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const task = await submitting(form, async () => {
      const body = await request();
      return call("POST", "api/tasks", body, keyed(body));
    });
    if (!task) return;
    keyed = repeatable(); // the same form sent again after a response is a new task
    onTask(task);
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
}

/** Keep the form as it is, with what was kept of the controls that are not made yet. */
function keep() {
  const whole = typed.keep({ values: { ...typed.kept()?.values, ...snapshot(form) }, initial: initImage.state() });
  byId("prompt-unkept").hidden = whole;
}

/** Start the next image from an image of a task. */
export function vary(task, image) {
  prompt.value = task.parameters.prompt;
  form.querySelector('[name="use_generation"][value="true"]').checked = true;
  initImage.set({ ...image, name: task.parameters.prompt });
  keep();
}

/** Show what the generator supports. */
export function setCapabilities(capabilities) {
  const { models } = capabilities;
  const { max_length } = limit("task", "prompt");
  if (max_length) prompt.maxLength = max_length;
  byId("ideas").replaceChildren(...(models[0]?.example_prompts ?? []).slice(0, IDEAS).map(idea));
  const stock = form.querySelector('[name="use_generation"][value="false"]');
  stock.disabled = !capabilities.stock_available;
  byId("stock-hint").textContent = "Stock photos are not configured.";
  byId("stock-hint").hidden = capabilities.stock_available;
  if (!models.length) return;
  if (stock.disabled && stock.checked) form.querySelector('[name="use_generation"][value="true"]').checked = true;
  const { model, ...values } = typed.kept()?.values ?? {};
  setModel(models.find((one) => one.id === model) ?? models[0], models);
  restore(form, values);
}

function setModel(model, models) {
  const written = ["seed", "negative_prompt"].map((id) => [id, byId(id)?.value ?? ""]);
  byId("model-description").textContent = model.description;
  byId("parameters").replaceChildren(...common(model));
  byId("advanced-parameters").replaceChildren(
    ...advanced(model, models, (id) => {
      setModel(models.find((one) => one.id === id), models);
      byId("model").focus();
    }),
  );
  for (const [id, value] of written) byId(id).value = value;
  initImage.allow(model.initial_images);
}

function idea(text) {
  const use = () => {
    prompt.value = text;
    prompt.focus();
    keep();
  };
  return el("li", {}, el("button", { type: "button", onclick: use, dir: "auto" }, text));
}

/** The body of the request. A seed that is not a number is sent as text, so that the server explains the error. */
async function request() {
  const data = new FormData(form);
  const generated = data.get("use_generation") === "true";
  const initial = generated ? await initImage.value() : null;
  const body = {
    prompt: data.get("prompt"),
    use_generation: generated,
    negative_prompt: data.get("negative_prompt") ?? "",
    ...values(form, { withSize: initial === null }),
  };
  if (initial) body.initial_image = initial;
  const seed = String(data.get("seed") ?? "").trim();
  if (seed) body.seed = /^\d+$/.test(seed) ? Number(seed) : seed;
  return body;
}
