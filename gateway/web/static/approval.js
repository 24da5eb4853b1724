// The decision of an editor: the form that creates a post from a task, and the form that rejects it.

import { call, repeatable } from "./api.js";
import { el } from "./dom.js";
import { field, submitting } from "./forms.js";
import { limit } from "./limits.js";

const NEW = "new";

/** The forms for a task that awaits approval. `chosen()` returns the index of the image; `onDone(result)` is called after. */
export async function forms(task, chosen, onDone) {
  const [{ authors }, { categories }] = await Promise.all([call("GET", "/api/authors"), call("GET", "/api/categories")]);
  return [approve(task, authors, categories, chosen, onDone), reject(task, onDone)];
}

/** The form that creates a post with an uploaded image. `onDone(post)` is called after. */
export async function postForm(image, onDone) {
  const [{ authors }, { categories }] = await Promise.all([call("GET", "/api/authors"), call("GET", "/api/categories")]);
  const keyed = repeatable();
  const send = (body) => {
    const whole = { ...body, featured_image_key: image.key };
    return call("POST", "/api/posts", whole, keyed(whole));
  };
  return postFields({ authors, categories, alt: "", verb: "Create the post", send, onDone });
}

function approve(task, authors, categories, chosen, onDone) {
  const keyed = repeatable();
  const send = (body) => {
    const whole = { ...body, image_index: chosen() };
    return call("POST", `/api/tasks/${task.id}/approve`, whole, keyed(whole));
  };
  const alt = task.parameters.prompt.slice(0, limit("approval", "alt_text").max_length);
  return postFields({ authors, categories, alt, verb: "Approve", send, onDone });
}

/** The form with the fields of a post. `send(body)` creates it. */
function postFields({ authors, categories, alt: description, verb, send, onDone }) {
  const length = (name) => limit("approval", name).max_length;
  const title = el("input", { id: "title", name: "title", maxlength: length("title"), required: true, autocomplete: "off" });
  const content = el("textarea", { id: "content", name: "content", rows: 7, maxlength: length("content") });
  const tags = el("input", { id: "tags", name: "tags", placeholder: "sea, dusk", autocomplete: "off" });
  const alt = el("input", { id: "alt_text", name: "alt_text", maxlength: length("alt_text"), autocomplete: "off" });
  alt.value = description;
  const publish = el("input", { type: "checkbox", id: "publish", name: "publish", checked: true });
  const form = el(
    "form",
    { class: "approve", id: "approve", novalidate: true },
    el("h3", {}, "Create a post"),
    el("p", { class: "wrong general", "data-error": "", role: "alert", hidden: true }),
    field("Title", title),
    field("Text", content, { hint: "Markdown." }),
    el("div", { class: "pair" }, choice("Author", "author_id", authors), choice("Category", "category_id", categories)),
    field("Tags", tags, { hint: `At most ${limit("approval", "tags").max_items ?? "a few"}, separated by commas.` }),
    field("Alternative text", alt, { hint: "What the image shows, for people who do not see it." }),
    el("label", { class: "check" }, publish, "Publish at once"),
    el("div", { class: "row" }, el("button", { class: "primary" }, verb)),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const result = await submitting(form, async () => {
      const body = {
        title: title.value,
        content: content.value,
        tags: tags.value.split(",").map((tag) => tag.trim()).filter(Boolean),
        alt_text: alt.value,
        publish: publish.checked,
        author_id: await chosenId(form, "author_id", "/api/authors"),
        category_id: await chosenId(form, "category_id", "/api/categories"),
      };
      return send(body);
    });
    if (result) onDone(result);
  });
  return form;
}

/** A choice of authors or categories, and a field to add one. */
function choice(label, name, choices) {
  const options = choices.map((choice) => el("option", { value: choice.id }, choice.name));
  const added = el("input", { id: `${name}-name`, name: `${name}-name`, maxlength: limit("author", "name").max_length, hidden: true, placeholder: "Name", "aria-label": `Name of the new ${label.toLowerCase()}` });
  const control = el("select", { id: name, name }, options, el("option", { value: NEW }, "New…"));
  control.addEventListener("change", () => {
    added.hidden = control.value !== NEW;
    if (!added.hidden) added.focus();
  });
  if (!choices.length) added.hidden = false;
  const whole = field(label, control);
  control.after(added);
  return whole;
}

/** The id of the chosen author or category; a new one is created first. */
async function chosenId(form, name, path) {
  const control = form.elements.namedItem(name);
  if (control.value !== NEW) return control.value;
  const added = form.elements.namedItem(`${name}-name`);
  try {
    const made = await call("POST", path, { name: added.value });
    control.prepend(el("option", { value: made.id }, made.name));
    control.value = made.id;
    added.hidden = true;
    return made.id;
  } catch (error) {
    error.fields = error.fields?.map((one) => ({ field: name, message: `${one.field} ${one.message}` }));
    throw error;
  }
}

function reject(task, onDone) {
  const comment = el("textarea", { id: "comment", name: "comment", rows: 2, maxlength: limit("rejection", "comment").max_length });
  const form = el(
    "form",
    { id: "reject", novalidate: true },
    el("p", { class: "wrong general", "data-error": "", role: "alert", hidden: true }),
    field("Reason", comment, { hint: "Optional." }),
    el("div", { class: "row" }, el("button", {}, "Reject")),
  );
  const keyed = repeatable();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = { comment: comment.value };
    const result = await submitting(form, () => call("POST", `/api/tasks/${task.id}/reject`, body, keyed(body)));
    if (result) onDone({ task: result, post: null });
  });
  return el("details", { class: "refuse" }, el("summary", {}, "Reject instead"), form);
}
