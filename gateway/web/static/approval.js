// The decision of an editor: the form that creates a post from a task, and the form that rejects it.

import { call, repeatable } from "./api.js";
import { el } from "./dom.js";
import { draft } from "./drafts.js";
import { field, remember, submitting } from "./forms.js";
import { limit } from "./limits.js";

const NEW = "new";

/** The forms for a task that awaits approval. `chosen()` returns the index of the image; `onDone(result)` is called after. */
export async function forms(task, chosen, onDone) {
  const choices = await authorsAndCategories();
  return [approve(task, choices, chosen, onDone), reject(task, onDone)];
}

/** The form that creates a post with an uploaded image. `onDone(post)` is called after. */
export async function postForm(image, onDone) {
  const choices = await authorsAndCategories();
  const keyed = repeatable();
  const send = (body) => {
    const whole = { ...body, featured_image_key: image.key };
    return call("POST", "api/posts", whole, keyed(whole));
  };
  return postFields({ ...choices, alt: "", verb: "Create the post", send, onDone, text: draft(`image:${image.key}`) });
}

/** The text that was typed for a task which somebody decided meanwhile, as an element; null if there is none. */
export function leftover(task) {
  const text = taskDraft(task);
  const { title = "", content = "" } = text.kept() ?? {};
  if (!(title + content).trim()) {
    text.drop();
    return null;
  }
  const remove = el("button", { type: "button" }, "Remove this text");
  const whole = el(
    "details",
    { class: "leftover" },
    el("summary", {}, "Your text, which was not used"),
    el("p", { dir: "auto" }, title),
    el("pre", { dir: "auto" }, content),
    remove,
  );
  remove.addEventListener("click", () => {
    text.drop();
    whole.remove();
  });
  return whole;
}

function taskDraft(task) {
  return draft(`task:${task.id}`);
}

async function authorsAndCategories() {
  const [{ authors }, { categories }] = await Promise.all([call("GET", "api/authors"), call("GET", "api/categories")]);
  return { authors, categories };
}

function approve(task, choices, chosen, onDone) {
  const keyed = repeatable();
  const send = (body) => {
    const whole = { ...body, image_index: chosen() };
    return call("POST", `api/tasks/${task.id}/approve`, whole, keyed(whole));
  };
  const alt = task.parameters.prompt.slice(0, limit("approval", "alt_text").max_length);
  return postFields({ ...choices, alt, verb: "Approve", send, onDone, text: taskDraft(task) });
}

/** The form with the fields of a post. `send(body)` creates it; `text` is the draft of what is typed. */
function postFields({ authors, categories, alt: description, verb, send, onDone, text }) {
  const length = (name) => limit("approval", name).max_length;
  const line = (name, more) => el("input", { id: name, name, dir: "auto", autocomplete: "off", enterkeyhint: "next", ...more });
  const title = line("title", { maxlength: length("title"), required: true });
  const content = el("textarea", { id: "content", name: "content", rows: 7, maxlength: length("content"), dir: "auto" });
  const tags = line("tags", { placeholder: "sea, dusk" });
  const alt = line("alt_text", { maxlength: length("alt_text") });
  alt.value = description;
  const publish = el("input", { type: "checkbox", id: "publish", name: "publish", checked: true });
  // No submit button: Enter in a field must not publish. The button and Ctrl + Enter do.
  const button = el("button", { type: "button", class: "primary", onclick: () => form.requestSubmit() }, verb);
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
    el("div", { class: "row" }, button, el("span", { class: "hint keys" }, "Ctrl + Enter does the same.")),
  );
  form.addEventListener("keydown", (event) => onEnter(form, event));
  remember(form, text);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const result = await submitting(form, async () => {
      const body = {
        title: title.value,
        content: content.value,
        tags: tags.value.split(",").map((tag) => tag.trim()).filter(Boolean),
        alt_text: alt.value,
        publish: publish.checked,
        author_id: await chosenId(form, "author_id", "api/authors"),
        category_id: await chosenId(form, "category_id", "api/categories"),
      };
      return send(body);
    });
    if (!result) return;
    text.drop();
    onDone(result);
  });
  return form;
}

/** Enter in a line moves on to the next field. Ctrl + Enter sends the form. */
function onEnter(form, event) {
  if (event.key !== "Enter" || event.isComposing) return;
  if (event.ctrlKey || event.metaKey) {
    event.preventDefault();
    if (!form.hasAttribute("aria-busy")) form.requestSubmit();
  } else if (event.target.matches("input:not([type=checkbox])")) {
    event.preventDefault();
    const fields = [...form.elements].filter((control) => !control.hidden);
    fields[fields.indexOf(event.target) + 1]?.focus();
  }
}

/** A choice of authors or categories, which begins with the default, and a field to add one. */
function choice(label, name, choices) {
  const options = choices.map((one) => el("option", { value: one.id, selected: one.is_default, dir: "auto" }, one.name));
  const added = el("input", {
    id: `${name}-name`, name: `${name}-name`, maxlength: limit("author", "name").max_length, hidden: true, dir: "auto",
    placeholder: "Name", autocomplete: "off", "aria-label": `Name of the new ${label.toLowerCase()}`,
  });
  const control = el("select", { id: name, name }, options, el("option", { value: NEW }, "New…"));
  control.addEventListener("change", (event) => {
    added.hidden = control.value !== NEW;
    if (!added.hidden && event.isTrusted) added.focus();
  });
  if (!choices.length) added.hidden = false;
  const whole = field(label, control);
  control.after(added);
  return whole;
}

/** The id of the chosen author or category; a new one is created first. */
async function chosenId(form, name, address) {
  const control = form.elements.namedItem(name);
  if (control.value !== NEW) return control.value;
  const added = form.elements.namedItem(`${name}-name`);
  try {
    const made = await call("POST", address, { name: added.value });
    control.prepend(el("option", { value: made.id, dir: "auto" }, made.name));
    control.value = made.id;
    control.dispatchEvent(new Event("change", { bubbles: true })); // it hides the field, and is kept
    return made.id;
  } catch (error) {
    error.fields = error.fields?.map((one) => ({ field: name, message: `${one.field} ${one.message}` }));
    throw error;
  }
}

function reject(task, onDone) {
  const text = draft(`reject:${task.id}`);
  const comment = el("textarea", {
    id: "comment", name: "comment", rows: 2, maxlength: limit("rejection", "comment").max_length, dir: "auto",
  });
  const form = el(
    "form",
    { id: "reject", novalidate: true },
    el("p", { class: "wrong general", "data-error": "", role: "alert", hidden: true }),
    field("Reason", comment, { hint: "Optional." }),
    el("div", { class: "row" }, el("button", {}, "Reject")),
  );
  remember(form, text);
  const keyed = repeatable();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = { comment: comment.value };
    const result = await submitting(form, () => call("POST", `api/tasks/${task.id}/reject`, body, keyed(body)));
    if (!result) return;
    text.drop();
    onDone({ task: result, post: null });
  });
  return el("details", { class: "refuse", open: Boolean(comment.value) }, el("summary", {}, "Reject instead"), form);
}
