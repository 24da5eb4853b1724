// What a user of openapi-fetch writes: upload a picture, make a post of it, change its title, delete it.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

declare const process: { argv: string[]; exit(code: number): never };

const [, , baseUrl = "", token = "", pixels = ""] = process.argv;
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });

function present<T>(data: T | undefined, error: unknown): T {
  if (data === undefined) throw new Error(JSON.stringify(error));
  return data;
}

const bytes = Uint8Array.from(atob(pixels), (character) => character.charCodeAt(0));
const file = new Blob([bytes], { type: "image/png" });

const uploaded = await client.POST("/api/media/images", {
  body: { file: file as unknown as string },
  bodySerializer: (body) => {
    const form = new FormData();
    for (const [name, value] of Object.entries(body as object)) form.append(name, value);
    return form;
  },
});
const image = present(uploaded.data, uploaded.error);

const created = await client.POST("/api/posts", {
  body: { title: "From TypeScript", content: "It stays.", tags: ["client"], featured_image_key: image.key },
});
const post = present(created.data, created.error);

const at = { path: { post: post.id }, header: { "If-Match": post.etag } };
const patched = await client.PATCH("/api/posts/{post}", { params: at, body: { title: "Renamed" } });
const changed = present(patched.data, patched.error);

const stale = await client.DELETE("/api/posts/{post}", { params: at });
const refused: string | undefined = stale.error?.code;

const listed = await client.GET("/api/posts", { params: { query: { state: "any", tag: "client" } } });
const titles = present(listed.data, listed.error).posts.map((one) => one.title);

const task = await client.POST("/api/tasks", { body: { prompt: "a door in a wall" } });
const created_task = present(task.data, task.error);

await client.DELETE("/api/posts/{post}", { params: { path: { post: post.id } } });
const gone = await client.GET("/api/posts/{post}", { params: { path: { post: post.id } } });

console.log(JSON.stringify({ image, post, changed, refused, titles, task: created_task, gone: gone.error?.code }));
