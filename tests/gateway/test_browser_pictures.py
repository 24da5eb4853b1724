"""The desk begins from pictures: a painted one, an uploaded one, all of it, or a part that is marked."""

import asyncio
import io
import uuid
from pathlib import Path
from typing import Any

import httpx2
import pytest
from frontispiece.generator.v1 import generator_pb2 as g
from frontispiece.posts.v1 import posts_pb2, tasks_pb2
from frontispiece.storage.v1 import images_pb2
from PIL import Image
from playwright.async_api import Browser, Page, expect

from tests.gateway.browsing import link, visit
from tests.gateway.conftest import paint
from tests.gateway.scripted import TOKEN, Scripted, task
from tests.stack import Stack

STORED = images_pb2.Image(
    key="generated/1-x.png", url="http://127.0.0.1:8080/media/generated/1-x.png", width=800, height=400
)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A photograph as a file."""
    path = tmp_path / "holiday.jpg"
    Image.linear_gradient("L").resize((640, 400)).convert("RGB").save(path)
    return path


async def show_newest(page: Page, stack: Stack) -> None:
    await page.goto(link(stack))
    await expect(page.locator("#parameters #seed")).to_be_attached()
    await page.locator("#cards button").first.click()
    await expect(page.get_by_role("button", name="Vary")).to_be_visible()


async def newest(editor: httpx2.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await editor.get("/api/tasks?page_size=1")).json()["tasks"][0]
    return found


class TestVary:
    async def test_a_painted_picture_is_varied(
        self, stack: Stack, browser: Browser, editor: httpx2.AsyncClient
    ) -> None:
        painted = await paint(editor, prompt="a red apple on a blue background", candidate_count=2)
        async with visit(await browser.new_context(viewport={"width": 1280, "height": 900})) as here:
            page = here.page
            await show_newest(page, stack)
            await page.get_by_role("radio", name="Picture 2").check()
            await page.get_by_role("button", name="Vary").click()
            strength = page.get_by_label("Strength")
            await expect(strength).to_have_value("0.6")
            await expect(page.get_by_label("Prompt")).to_have_value("a red apple on a blue background")
            await page.get_by_text("Settings", exact=True).click()
            await expect(page.get_by_label("Width")).to_be_hidden()  # the size follows the picture
            await strength.fill("0.3")
            await page.get_by_role("button", name="Generate", exact=True).click()
            await expect(page.get_by_text("strength 0.30")).to_be_visible()
            begun = (await newest(editor))["parameters"]
            image = painted["images"][1]
            kept = {"key": image["key"], "url": image["url"], "strength": 0.3, "has_mask": False}
            assert begun["initial_image"] == kept
            assert (begun["width"], begun["height"]) == (None, None)
            await page.get_by_role("button", name="Remove").click()
            await expect(page.get_by_label("Width")).to_be_visible()
            await expect(page.locator("#upload")).to_be_focused()

    async def test_a_part_is_marked_with_the_mouse_and_by_area(
        self, stack: Stack, browser: Browser, editor: httpx2.AsyncClient
    ) -> None:
        await paint(editor)
        async with visit(await browser.new_context(viewport={"width": 1280, "height": 900})) as here:
            page = here.page
            await show_newest(page, stack)
            await page.get_by_role("button", name="Vary").click()
            await page.get_by_role("radio", name="A part").check()
            await expect(page.get_by_label("Strength")).to_have_value("1")
            await page.get_by_role("button", name="Generate", exact=True).click()
            await expect(page.get_by_text("Choose the part first")).to_be_visible()
            await page.get_by_role("button", name="Mark the part").click()
            dialog = page.get_by_role("dialog", name="Which part is painted anew?")
            await expect(dialog).to_be_visible()
            await draw(page)
            await dialog.get_by_role("button", name="Use this part").click()
            await expect(page.get_by_text("What is marked is painted.")).to_be_visible()
            await page.get_by_role("button", name="Generate", exact=True).click()
            await expect(page.get_by_text("only a part")).to_be_visible()
            assert (await newest(editor))["parameters"]["initial_image"]["has_mask"]

    async def test_by_keyboard_alone(self, stack: Stack, browser: Browser, editor: httpx2.AsyncClient) -> None:
        await paint(editor)
        async with visit(await browser.new_context()) as here:
            page = here.page
            await show_newest(page, stack)
            await page.get_by_role("button", name="Vary").focus()
            await page.keyboard.press("Enter")
            await expect(page.get_by_label("Strength")).to_be_focused()
            await page.keyboard.press("Tab")
            await page.keyboard.press("ArrowRight")
            await expect(page.get_by_role("radio", name="A part")).to_be_checked()
            await page.keyboard.press("Tab")
            await page.keyboard.press("Enter")
            dialog = page.get_by_role("dialog")
            await expect(dialog).to_be_visible()
            await page.keyboard.press("Escape")
            await expect(dialog).to_be_hidden()
            choose = page.get_by_role("button", name="Mark the part")
            await expect(choose).to_be_focused()
            await page.keyboard.press("Enter")
            await dialog.get_by_role("button", name="Middle").focus()
            await page.keyboard.press("Space")
            await dialog.get_by_role("button", name="Use this part").focus()
            await page.keyboard.press("Enter")
            await expect(page.get_by_text("What is marked is painted.")).to_be_visible()


async def draw(page: Page) -> None:
    """A stroke through the upper half of the board."""
    box = await page.locator("#mask-board canvas").bounding_box()
    assert box is not None
    x, y, width, height = box["x"], box["y"], box["width"], box["height"]
    await page.mouse.move(x + width * 0.2, y + height * 0.25)
    await page.mouse.down()
    await page.mouse.move(x + width * 0.8, y + height * 0.25, steps=8)
    await page.mouse.up()


class TestUpload:
    async def test_a_photo_begins_a_picture(
        self, stack: Stack, browser: Browser, editor: httpx2.AsyncClient, photo: Path
    ) -> None:
        async with visit(await browser.new_context(viewport={"width": 390, "height": 844})) as here:
            page = here.page
            await page.goto(link(stack))
            await expect(page.locator("#parameters #seed")).to_be_attached()
            await page.get_by_label("Bring a picture of yours").set_input_files(photo)
            await expect(page.get_by_text("640 × 400")).to_be_visible()
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390
            await page.get_by_label("Prompt").fill("a castle on a green hill")
            await page.get_by_role("button", name="Generate", exact=True).click()
            await expect(page.get_by_text("begun from")).to_be_visible()
            key = (await newest(editor))["parameters"]["initial_image"]["key"]
            assert (await editor.get(f"/media/{key}")).content == photo.read_bytes()

    async def test_a_photo_becomes_a_post_as_it_is(
        self, stack: Stack, browser: Browser, photo: Path, editor: httpx2.AsyncClient
    ) -> None:
        title = f"A holiday {uuid.uuid4().hex[:8]}"
        async with visit(await browser.new_context()) as here:
            page = here.page
            await page.goto(link(stack))
            await expect(page.locator("#parameters #seed")).to_be_attached()
            await page.get_by_label("Bring a picture of yours").set_input_files(photo)
            await page.get_by_role("button", name="Use it in a post as it is").click()
            await page.get_by_label("Title").fill(title)
            await page.get_by_label("What the picture shows").fill("a beach at noon")
            await page.get_by_role("button", name="Make the post").click()
            await page.get_by_role("link", name="Read the post").click()
            await expect(page.get_by_role("heading", level=1)).to_have_text(title)
            await expect(page.get_by_role("img", name="a beach at noon")).to_be_visible()

    async def test_what_is_no_picture_is_refused_in_words(self, stack: Stack, browser: Browser, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("no picture")
        (tmp_path / "broken.png").write_bytes(b"no picture")
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(link(stack))
        await expect(page.locator("#parameters #seed")).to_be_attached()
        bring = page.get_by_label("Bring a picture of yours")
        await bring.set_input_files(tmp_path / "notes.txt")
        await expect(page.get_by_text("Only PNG, JPEG and WebP")).to_be_visible()
        await bring.set_input_files(tmp_path / "broken.png")
        await expect(page.get_by_text("this is no PNG, JPEG or WebP image")).to_be_visible()
        await expect(bring).to_be_enabled()
        await context.close()


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


@pytest.fixture
def desk(front: Scripted) -> Scripted:
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


class TestAbilities:
    async def test_what_is_not_touched_is_not_sent(self, desk: Scripted, browser: Browser) -> None:
        async with visit(await browser.new_context()) as here:
            await open_desk(here.page, desk)
            wanted = await sent(desk, here.page)
            for name in ("guidance_end", "denoising_end", "initial_image"):
                assert not wanted.HasField(name)
            assert (list(wanted.loras), wanted.width, wanted.model) == ([], 1024, "large")

    async def test_loras_guidance_and_refiner(self, desk: Scripted, browser: Browser) -> None:
        async with visit(await browser.new_context()) as here:
            page = here.page
            await open_desk(page, desk)
            await page.get_by_text("Settings", exact=True).click()
            await page.get_by_text("Advanced", exact=True).click()
            weight = page.get_by_label("Weight of watercolour")
            await expect(weight).to_be_disabled()
            await page.get_by_role("checkbox", name="watercolour").check()
            await weight.fill("0.5")
            await page.get_by_label("Guidance until").fill("0.4")
            await page.get_by_label("Refiner’s share").fill("0.2")
            await page.get_by_label("Scheduler").select_option("ddim")
            wanted = await sent(desk, page)
            assert [(lora.name, lora.weight) for lora in wanted.loras] == [("watercolour", 0.5)]
            assert (wanted.guidance_end, wanted.denoising_end, wanted.scheduler) == (0.4, 0.8, "ddim")

    async def test_another_model_has_other_abilities(self, desk: Scripted, browser: Browser, photo: Path) -> None:
        async with visit(await browser.new_context()) as here:
            page = here.page
            await page.route("**/media/generated/**", lambda route: route.fulfill(path=photo))
            await open_desk(page, desk)
            await page.get_by_text("Settings", exact=True).click()
            await page.get_by_text("Advanced", exact=True).click()
            await page.get_by_label("Seed").fill("7")
            await page.get_by_label("Bring a picture of yours").set_input_files(photo)
            await expect(page.get_by_label("Strength")).to_be_visible()
            await page.get_by_label("Model").select_option("plain")
            await expect(page.get_by_label("Model")).to_be_focused()
            await expect(page.get_by_text("The model plain.")).to_be_visible()
            await expect(page.get_by_text("LoRAs")).to_have_count(0)
            await expect(page.get_by_label("Refiner’s share")).to_have_count(0)
            await expect(page.get_by_label("Strength")).to_be_hidden()
            await expect(page.get_by_role("button", name="Use it in a post as it is")).to_be_visible()
            wanted = await sent(desk, page)
            assert (wanted.model, wanted.seed, wanted.width) == ("plain", 7, 1024)
            assert not wanted.HasField("initial_image")

    async def test_an_error_of_a_folded_field_is_shown(self, desk: Scripted, browser: Browser) -> None:
        context = await browser.new_context()
        page = await context.new_page()
        await open_desk(page, desk)
        await page.get_by_text("Settings", exact=True).click()
        await page.get_by_text("Advanced", exact=True).click()
        await page.get_by_role("checkbox", name="ink").check()
        await page.get_by_label("Weight of ink").fill("9")
        await page.get_by_text("Settings", exact=True).click()
        await page.get_by_role("button", name="Generate", exact=True).click()
        await expect(page.locator('[data-error="loras"]')).to_be_visible()
        await context.close()


class TestMask:
    async def begun(self, page: Page, desk: Scripted, photo: Path) -> None:
        await page.route("**/media/generated/**", lambda route: route.fulfill(path=photo))
        await open_desk(page, desk)
        await page.get_by_label("Bring a picture of yours").set_input_files(photo)
        await page.get_by_role("radio", name="A part").check()
        await page.get_by_role("button", name="Mark the part").click()

    @staticmethod
    def read(wanted: tasks_pb2.GenerationParameters) -> Image.Image:
        return Image.open(io.BytesIO(wanted.initial_image.mask)).convert("L")

    async def test_white_is_what_was_drawn_less_what_was_erased(
        self, desk: Scripted, browser: Browser, photo: Path
    ) -> None:
        async with visit(await browser.new_context(viewport={"width": 1280, "height": 900})) as here:
            page = here.page
            await self.begun(page, desk, photo)
            dialog = page.get_by_role("dialog")
            await draw(page)
            await dialog.get_by_role("button", name="Bottom").click()
            await dialog.get_by_role("radio", name="Erase").check()
            await dialog.get_by_role("button", name="Left").click()
            await dialog.get_by_role("button", name="Use this part").click()
            mask = self.read(await sent(desk, page))
            assert mask.size == (800, 400)  # the shape of the picture
            places = {"drawn": (600, 100), "area": (600, 300), "erased": (200, 300), "untouched": (600, 20)}
            assert {name: mask.getpixel(place) for name, place in places.items()} == {
                "drawn": 255,
                "area": 255,
                "erased": 0,
                "untouched": 0,
            }
            await page.get_by_role("radio", name="All of it").check()
            assert not (await sent(desk, page)).initial_image.mask
            await page.get_by_role("radio", name="A part").check()
            await page.get_by_role("button", name="Change the part").click()  # what was marked is there still
            await dialog.get_by_role("button", name="Clear").click()
            await dialog.get_by_role("button", name="Use this part").click()
            await expect(page.get_by_text("Nothing is marked yet.")).to_be_visible()

    async def test_with_a_finger(self, desk: Scripted, browser: Browser, photo: Path) -> None:
        context = await browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
        async with visit(context) as here:
            page = here.page
            await self.begun(page, desk, photo)
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390
            board = page.locator("#mask-board canvas")
            box = await board.bounding_box()
            assert box is not None
            touch = await context.new_cdp_session(page)
            y = box["y"] + box["height"] * 0.5
            points = [{"x": box["x"] + box["width"] * share, "y": y} for share in (0.3, 0.5, 0.7)]
            await touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points[:1]})
            for point in points[1:]:
                await touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
            await touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
            await page.get_by_role("button", name="Use this part").click()
            mask = self.read(await sent(desk, page))
            assert [mask.getpixel((x, 200)) for x in (40, 260, 400, 540, 760)] == [0, 255, 255, 255, 0]

    async def test_a_mask_that_would_be_too_large_is_made_smaller(
        self, desk: Scripted, browser: Browser, photo: Path
    ) -> None:
        async with visit(await browser.new_context()) as here:
            page = here.page
            await self.begun(page, desk, photo)
            noise = """canvas => {
              const context = canvas.getContext("2d");
              const noise = context.createImageData(canvas.width, canvas.height);
              const { data } = noise;
              for (let i = 0; i < data.length; i += 65536) crypto.getRandomValues(data.subarray(i, i + 65536));
              context.putImageData(noise, 0, 0);
            }"""
            await page.locator("#mask-board canvas").evaluate(noise)
            await page.get_by_role("button", name="Use this part").click()
            wanted = await sent(desk, page)
            assert len(wanted.initial_image.mask) <= 262_144
            assert self.read(wanted).size in {(400, 200), (200, 100)}
