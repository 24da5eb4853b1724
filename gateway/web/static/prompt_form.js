// The form for a new picture; its controls are made from what the generator says it can do.

import { call, repeatable } from "./api.js";
import * as begin from "./begin.js";
import { byId, el } from "./dom.js";
import { submitting } from "./forms.js";
import { advanced, common, values } from "./settings.js";

const form = byId("compose");
const prompt = byId("prompt");

/** Set up the form; `onTask(task)` gets each task that is made, `onPicture(image)` one to make a post of as it is. */
export function start(onTask, onPicture) {
  begin.start(form, onPicture);
  let keyed = repeatable();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const task = await submitting(form, async () => {
      const body = await request();
      return call("POST", "/api/tasks", body, keyed(body));
    });
    if (!task) return;
    keyed = repeatable(); // what is sent after an answer is wanted once more
    onTask(task);
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
}

/** Begin the next picture from one of a task's. */
export function vary(task, image) {
  prompt.value = task.parameters.prompt;
  form.querySelector('[name="use_generation"][value="true"]').checked = true;
  begin.set({ ...image, name: task.parameters.prompt });
}

/** Show what the generator can do. */
export function setCapabilities(capabilities) {
  const { models } = capabilities;
  byId("ideas").replaceChildren(...(models[0]?.example_prompts ?? []).slice(0, 4).map(idea));
  const stock = form.querySelector('[name="use_generation"][value="false"]');
  stock.disabled = !capabilities.stock_available;
  byId("stock-hint").textContent = "Stock photos are not set up here.";
  byId("stock-hint").hidden = capabilities.stock_available;
  if (models.length) setModel(models[0], models);
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
  begin.allow(model.initial_images);
}

function idea(text) {
  const use = () => {
    prompt.value = text;
    prompt.focus();
  };
  return el("li", {}, el("button", { type: "button", onclick: use }, text));
}

/** The form as the interface wants it. A seed that is no number is sent as it is, and refused with a reason. */
async function request() {
  const data = new FormData(form);
  const text = (name) => String(data.get(name) ?? "").replace(/\s+/g, " ").trim().normalize("NFC");
  const painted = data.get("use_generation") === "true";
  const initial = painted ? await begin.value() : null;
  const body = {
    prompt: text("prompt"),
    use_generation: painted,
    negative_prompt: text("negative_prompt"),
    ...values(form, { withSize: initial === null }),
  };
  if (initial) body.initial_image = initial;
  const seed = text("seed");
  if (seed) body.seed = /^\d+$/.test(seed) ? Number(seed) : seed;
  return body;
}
