// The editors' decision: the form that makes a post of a task, and the one that refuses it.

import { call, repeatable } from "./api.js";
import { el } from "./dom.js";
import { field, submitting } from "./forms.js";

const NEW = "new";

/** The forms for a task that awaits approval. `chosen()` is the index of the picture; `onDone(result)` comes after. */
export async function forms(task, chosen, onDone) {
  const [{ authors }, { categories }] = await Promise.all([call("GET", "/api/authors"), call("GET", "/api/categories")]);
  return [approve(task, authors, categories, chosen, onDone), refuse(task, onDone)];
}

/** The form that makes a post of an uploaded picture; `onDone(post)` comes after. */
export async function postForm(image, onDone) {
  const [{ authors }, { categories }] = await Promise.all([call("GET", "/api/authors"), call("GET", "/api/categories")]);
  const keyed = repeatable();
  const send = (body) => {
    const whole = { ...body, featured_image_key: image.key };
    return call("POST", "/api/posts", whole, keyed(whole));
  };
  return words({ authors, categories, alt: "", verb: "Make the post", send, onDone });
}

function approve(task, authors, categories, chosen, onDone) {
  const keyed = repeatable();
  const send = (body) => {
    const whole = { ...body, image_index: chosen() };
    return call("POST", `/api/tasks/${task.id}/approve`, whole, keyed(whole));
  };
  return words({ authors, categories, alt: task.parameters.prompt.slice(0, 500), verb: "Approve", send, onDone });
}

/** The form with the words of a post; `send(body)` makes it. */
function words({ authors, categories, alt: description, verb, send, onDone }) {
  const title = el("input", { id: "title", name: "title", maxlength: 200, required: true, autocomplete: "off" });
  const content = el("textarea", { id: "content", name: "content", rows: 7, maxlength: 100000 });
  const tags = el("input", { id: "tags", name: "tags", placeholder: "sea, dusk", autocomplete: "off" });
  const alt = el("input", { id: "alt_text", name: "alt_text", maxlength: 500, autocomplete: "off" });
  alt.value = description;
  const publish = el("input", { type: "checkbox", id: "publish", name: "publish", checked: true });
  const form = el(
    "form",
    { class: "approve", id: "approve", novalidate: true },
    el("h3", {}, "Make it a post"),
    el("p", { class: "wrong general", "data-error": "", role: "alert", hidden: true }),
    field("Title", title),
    field("Text", content, { hint: "Markdown." }),
    el("div", { class: "pair" }, shelf("Author", "author_id", authors), shelf("Category", "category_id", categories)),
    field("Tags", tags, { hint: "Up to eight, separated by commas." }),
    field("What the picture shows", alt, { hint: "For people who do not see it." }),
    el("label", { class: "check" }, publish, "Publish at once"),
    el("div", { class: "row" }, el("button", { class: "primary" }, verb)),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const result = await submitting(form, async () => {
      const body = {
        title: title.value.trim().normalize("NFC"),
        content: content.value.normalize("NFC"),
        tags: tags.value.split(",").map((tag) => tag.trim().normalize("NFC")).filter(Boolean),
        alt_text: alt.value.trim().normalize("NFC"),
        publish: publish.checked,
        author_id: await shelved(form, "author_id", "/api/authors"),
        category_id: await shelved(form, "category_id", "/api/categories"),
      };
      return send(body);
    });
    if (result) onDone(result);
  });
  return form;
}

/** A choice of authors or categories, with a way to add one. */
function shelf(label, name, choices) {
  const options = choices.map((choice) => el("option", { value: choice.id }, choice.name));
  const added = el("input", { id: `${name}-name`, name: `${name}-name`, maxlength: 100, hidden: true, placeholder: "Name", "aria-label": `Name of the new ${label.toLowerCase()}` });
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

async function shelved(form, name, path) {
  const control = form.elements.namedItem(name);
  if (control.value !== NEW) return control.value;
  const added = form.elements.namedItem(`${name}-name`);
  try {
    const made = await call("POST", path, { name: added.value.trim().normalize("NFC") });
    control.prepend(el("option", { value: made.id }, made.name));
    control.value = made.id;
    added.hidden = true;
    return made.id;
  } catch (error) {
    error.fields = error.fields?.map((one) => ({ field: name, message: `${one.field} ${one.message}` }));
    throw error;
  }
}

function refuse(task, onDone) {
  const comment = el("textarea", { id: "comment", name: "comment", rows: 2, maxlength: 1000 });
  const form = el(
    "form",
    { id: "reject", novalidate: true },
    el("p", { class: "wrong general", "data-error": "", role: "alert", hidden: true }),
    field("Why?", comment, { hint: "May be left empty." }),
    el("div", { class: "row" }, el("button", {}, "Reject")),
  );
  const keyed = repeatable();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const body = { comment: comment.value.normalize("NFC") };
    const result = await submitting(form, () => call("POST", `/api/tasks/${task.id}/reject`, body, keyed(body)));
    if (result) onDone({ task: result, post: null });
  });
  return el("details", { class: "refuse" }, el("summary", {}, "Reject instead"), form);
}
