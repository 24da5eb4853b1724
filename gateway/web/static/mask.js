// A dialog to mark the part of an image that may change, by drawing or by areas.

import { byId, el } from "./dom.js";
import { limit } from "./limits.js";
import { slider } from "./settings.js";
import { picture } from "./task_parts.js";

const MAX_SIDE = 1024;
const STRIPES = ["#d8431f", "#fff"]; // at least one is visible on any image

// Left, top, width and height, as fractions of the image.
const AREAS = {
  top: [0, 0, 1, 0.5],
  bottom: [0, 0.5, 1, 0.5],
  left: [0, 0, 0.5, 1],
  right: [0.5, 0, 0.5, 1],
  middle: [0.25, 0.25, 0.5, 0.5],
};

const dialog = byId("mask");
const board = byId("mask-board");
const brush = byId("mask-brush");

/** The slider of the border, in pixels of the new image. It is made when the limits are known. */
function border() {
  if (!byId("mask-feather")) {
    const range = { ...limit("initial_image", "mask_feather"), step: 1 };
    const made = slider("Soft border", "mask-feather", range, { words: (value) => (value ? `${value} px` : "none") });
    dialog.querySelector(".mask-tools").append(made);
  }
  return byId("mask-feather");
}

/**
 * Let the user mark a part of `image`, starting with `before` (an earlier result, or null). The result has the `marks`, a
 * canvas that is transparent where the image is kept, and the `feather` of their border in pixels. It is null when nothing
 * is marked, and undefined when the user cancels.
 */
export function choose(image, before) {
  const canvas = sheet(image);
  const context = canvas.getContext("2d");
  if (before) context.drawImage(before.marks, 0, 0);
  const feather = border();
  feather.value = before ? before.feather : limit("initial_image", "mask_feather").default;
  feather.dispatchEvent(new Event("input"));
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "The image; the marked part may change");
  board.style.setProperty("--ratio", String(image.width / image.height));
  board.replaceChildren(picture(image, ""), canvas);
  draws(canvas, context);
  const listening = new AbortController();
  const on = (id, act) => byId(id).addEventListener("click", act, { signal: listening.signal });
  on("mask-clear", () => context.clearRect(0, 0, canvas.width, canvas.height));
  on("mask-cancel", () => dialog.close("cancel"));
  on("mask-done", () => dialog.close("done"));
  for (const button of dialog.querySelectorAll("[data-area]")) {
    button.addEventListener("click", () => area(canvas, context, AREAS[button.dataset.area]), { signal: listening.signal });
  }
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        listening.abort();
        board.replaceChildren();
        if (dialog.returnValue !== "done") resolve(undefined);
        else resolve(isEmpty(canvas, context) ? null : { marks: canvas, feather: Number(feather.value) });
      },
      { once: true },
    );
  });
}

/** The mask for a request: base64 of a PNG that is white where the image may change, and small enough. */
export async function encode(marks) {
  for (let scale = 1; ; scale /= 2) {
    const blob = await png(marks, scale);
    if (blob.size <= (limit("initial_image", "mask").max_bytes ?? Infinity)) return base64(blob);
  }
}

/** A copy of the marks. */
export function copy(marks) {
  const made = el("canvas", { width: marks.width, height: marks.height, "aria-hidden": "true" });
  made.getContext("2d").drawImage(marks, 0, 0);
  return made;
}

/** The marks of `image` from a data URL of them. */
export async function restored(image, url) {
  const marks = sheet(image);
  const before = el("img", { src: url });
  await before.decode();
  marks.getContext("2d").drawImage(before, 0, 0);
  return marks;
}

/** An empty canvas with the aspect ratio of the image. */
function sheet(image) {
  const scale = Math.min(1, MAX_SIDE / Math.max(image.width, image.height));
  return el("canvas", { width: Math.max(1, Math.round(image.width * scale)), height: Math.max(1, Math.round(image.height * scale)) });
}

/** Draw with a mouse, a pen or a finger. */
function draws(canvas, context) {
  let last = null;
  const at = (event) => [
    (event.offsetX / canvas.clientWidth) * canvas.width,
    (event.offsetY / canvas.clientHeight) * canvas.height,
  ];
  const line = (to) => {
    context.lineWidth = (Number(brush.value) / 100) * Math.max(canvas.width, canvas.height);
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...last);
    context.lineTo(...to);
    context.stroke();
    last = to;
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || last) return;
    canvas.setPointerCapture(event.pointerId);
    tool(context);
    last = at(event);
    line(last);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last || !canvas.hasPointerCapture(event.pointerId)) return;
    const passed = event.getCoalescedEvents?.() ?? [];
    for (const step of passed.length ? passed : [event]) line(at(step));
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => {
      last = null;
    });
  }
}

/** Set the context to mark or to erase. */
function tool(context) {
  const erases = dialog.querySelector('[name="mask-tool"]:checked').value === "erase";
  context.globalCompositeOperation = erases ? "destination-out" : "source-over";
  context.strokeStyle = context.fillStyle = striped(context);
}

/** A pattern of diagonal stripes. Their width is proportional to the canvas, which is shown in many sizes. */
function striped(context) {
  const side = Math.max(6, Math.round(Math.max(context.canvas.width, context.canvas.height) / 40));
  const tile = el("canvas", { width: side, height: side });
  const brushwork = tile.getContext("2d");
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      brushwork.fillStyle = STRIPES[Math.floor((2 * ((x + y) % side)) / side)];
      brushwork.fillRect(x, y, 1, 1);
    }
  }
  return context.createPattern(tile, "repeat");
}

function area(canvas, context, [left, top, width, height]) {
  tool(context);
  context.fillRect(left * canvas.width, top * canvas.height, width * canvas.width, height * canvas.height);
}

function isEmpty(canvas, context) {
  return !context.getImageData(0, 0, canvas.width, canvas.height).data.some((value, place) => place % 4 === 3 && value);
}

function png(marks, scale) {
  const size = { width: Math.max(1, Math.round(marks.width * scale)), height: Math.max(1, Math.round(marks.height * scale)) };
  const white = el("canvas", size);
  const context = white.getContext("2d");
  context.drawImage(marks, 0, 0, size.width, size.height);
  context.globalCompositeOperation = "source-in";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, size.width, size.height);
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "#000";
  context.fillRect(0, 0, size.width, size.height);
  return new Promise((resolve) => white.toBlob(resolve, "image/png"));
}

function base64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result.slice(reader.result.indexOf(",") + 1)));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(blob);
  });
}
