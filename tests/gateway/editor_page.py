"""The editor page with scripted services behind it, and what a browser does there."""

import asyncio
from typing import Any

from frontispiece.generator.v1 import generator_pb2 as g
from frontispiece.posts.v1 import posts_pb2, tasks_pb2
from frontispiece.storage.v1 import images_pb2
from frontispiece.types.v1 import generation_pb2, image_pb2
from playwright.async_api import Page, expect

from tests.gateway.scripted import TOKEN, Scripted, stored_image, task

STORED = images_pb2.Image(
    image=stored_image(
        url="http://127.0.0.1:8080/media/generated/1-x.png", file=image_pb2.ImageFile(width=800, height=400)
    )
)


def model(name: str, **fields: Any) -> g.Model:
    side = g.IntegerRange(min=256, max=1536, step=8, default=1024)
    return g.Model(
        id=name,
        description=f"The model {name}.",
        schedulers=["euler", "ddim"],
        width=side,
        height=side,
        max_pixels=1_600_000,
        num_inference_steps=g.IntegerRange(min=1, max=80, step=1, default=30),
        guidance_scale=g.FloatRange(min=0, max=30, step=0.5, default=5),
        **fields,
    )


def script_editor(front: Scripted) -> Scripted:
    """Script a generator that supports more than the default model does, and an empty database."""
    large = model("large", loras=["ink", "watercolour"], refiner="large-refiner", initial_images=True)
    models = [large, model("plain")]
    response = g.GetCapabilitiesResponse(models=models, slot_count=1, free_slot_count=1, device="cuda")
    front.scripts.on("GetCapabilities", lambda _: response)
    front.scripts.on("ListTasks", lambda _: tasks_pb2.ListTasksResponse())
    cancelled = task(tasks_pb2.TASK_STATE_CANCELLED)
    front.scripts.on("CreateTask", lambda _: tasks_pb2.CreateTaskResponse(task=cancelled))
    front.scripts.on("GetTask", lambda _: tasks_pb2.GetTaskResponse(task=cancelled))
    front.scripts.on("ListAuthors", lambda _: posts_pb2.ListAuthorsResponse())
    front.scripts.on("ListCategories", lambda _: posts_pb2.ListCategoriesResponse())

    async def store(parts: Any) -> images_pb2.StoreImageResponse:
        async for _ in parts:
            pass
        return images_pb2.StoreImageResponse(image=STORED)

    front.scripts.on("StoreImage", store)
    return front


async def open_editor(page: Page, scripted: Scripted) -> None:
    await page.goto(f"{scripted.base_url}/hub#token={TOKEN}")
    await expect(page.locator("#parameters #seed")).to_be_attached()
    await page.get_by_label("Prompt", exact=True).fill("a boat")


async def sent(scripted: Scripted, page: Page) -> generation_pb2.GenerationParameters:
    """The parameters that the form sends."""
    before = len(scripted.scripts.sent("CreateTask"))
    await page.get_by_role("button", name="Generate", exact=True).click()
    while len(scripted.scripts.sent("CreateTask")) == before:
        await asyncio.sleep(0.02)
    found: generation_pb2.GenerationParameters = scripted.scripts.sent("CreateTask")[-1].parameters
    return found


async def draw(page: Page) -> None:
    """Draw a stroke through the upper half of the image."""
    box = await page.locator("#mask-board canvas").bounding_box()
    assert box is not None
    x, y, width, height = box["x"], box["y"], box["width"], box["height"]
    await page.mouse.move(x + width * 0.2, y + height * 0.25)
    await page.mouse.down()
    await page.mouse.move(x + width * 0.8, y + height * 0.25, steps=8)
    await page.mouse.up()
