"""The desk before scripted services, and what a browser does there."""

import asyncio
from typing import Any

from frontispiece.generator.v1 import generator_pb2 as g
from frontispiece.posts.v1 import posts_pb2, tasks_pb2
from frontispiece.storage.v1 import images_pb2
from playwright.async_api import Page, expect

from tests.gateway.scripted import TOKEN, Scripted, task

STORED = images_pb2.Image(
    key="generated/1-x.png", url="http://127.0.0.1:8080/media/generated/1-x.png", width=800, height=400
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


def script_desk(front: Scripted) -> Scripted:
    """A desk before a generator with more abilities than the house model has, and a record that is empty."""
    large = model("large", loras=["ink", "watercolour"], refiner="large-refiner", initial_images=True)
    models = [large, model("plain")]
    answer = g.GetCapabilitiesResponse(models=models, slot_count=1, free_slot_count=1, device="cuda")
    front.scripts.on("GetCapabilities", lambda _: answer)
    front.scripts.on("ListTasks", lambda _: tasks_pb2.ListTasksResponse())
    cancelled = task(tasks_pb2.TASK_STATE_CANCELLED)
    front.scripts.on("CreateTask", lambda _: tasks_pb2.CreateTaskResponse(task=cancelled))
    front.scripts.on("ListAuthors", lambda _: posts_pb2.ListAuthorsResponse())

    async def store(parts: Any) -> images_pb2.StoreImageResponse:
        async for _ in parts:
            pass
        return images_pb2.StoreImageResponse(image=STORED)

    front.scripts.on("StoreImage", store)
    return front


async def open_desk(page: Page, desk: Scripted) -> None:
    await page.goto(f"{desk.base_url}/hub#token={TOKEN}")
    await expect(page.locator("#parameters #seed")).to_be_attached()
    await page.get_by_label("Prompt").fill("a boat")


async def sent(desk: Scripted, page: Page) -> tasks_pb2.GenerationParameters:
    """What the form asks for."""
    before = len(desk.scripts.sent("CreateTask"))
    await page.get_by_role("button", name="Generate", exact=True).click()
    while len(desk.scripts.sent("CreateTask")) == before:
        await asyncio.sleep(0.02)
    found: tasks_pb2.GenerationParameters = desk.scripts.sent("CreateTask")[-1].parameters
    return found


async def draw(page: Page) -> None:
    """A stroke through the upper half of the board."""
    box = await page.locator("#mask-board canvas").bounding_box()
    assert box is not None
    x, y, width, height = box["x"], box["y"], box["width"], box["height"]
    await page.mouse.move(x + width * 0.2, y + height * 0.25)
    await page.mouse.down()
    await page.mouse.move(x + width * 0.8, y + height * 0.25, steps=8)
    await page.mouse.up()
