"""Initial images on the editor page: generated and uploaded ones, the whole image or a marked part."""

import io
import uuid
from pathlib import Path
from typing import Any

import httpx2
from PIL import Image
from playwright.async_api import Browser, Page, expect

from tests.gateway.browsing import link, visit
from tests.gateway.conftest import paint
from tests.gateway.editor_page import draw, open_editor, sent
from tests.gateway.scripted import Scripted
from tests.stack import Stack


async def show_newest(page: Page, stack: Stack) -> None:
    await page.goto(link(stack))
    await expect(page.locator("#parameters #seed")).to_be_attached()
    await page.locator("#cards button").first.click()
    await expect(page.get_by_role("button", name="Vary")).to_be_visible()


async def newest(editor: httpx2.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await editor.get("/api/tasks?page_size=1")).json()["tasks"][0]
    return found


class TestVary:
    async def test_a_generated_image_is_varied(
        self, stack: Stack, browser: Browser, editor: httpx2.AsyncClient
    ) -> None:
        painted = await paint(editor, prompt="a red apple on a blue background", candidate_count=2)
        async with visit(await browser.new_context(viewport={"width": 1280, "height": 900})) as here:
            page = here.page
            await show_newest(page, stack)
            await page.get_by_role("radio", name="Image 2").check()
            await page.get_by_role("button", name="Vary").click()
            strength = page.get_by_label("Strength")
            await expect(strength).to_have_value("0.6")
            await expect(page.get_by_label("Prompt", exact=True)).to_have_value("a red apple on a blue background")
            await page.get_by_text("Settings", exact=True).click()
            await expect(page.get_by_label("Width")).to_be_hidden()  # the size follows the picture
            await strength.fill("0.3")
            await page.get_by_role("button", name="Generate", exact=True).click()
            await expect(page.get_by_text("strength 0.30")).to_be_visible()
            used = (await newest(editor))["parameters"]
            image = painted["images"][1]
            kept = {"key": image["key"], "url": image["url"], "strength": 0.3, "has_mask": False, "mask_feather": None}
            assert used["initial_image"] == kept
            assert (used["width"], used["height"]) == (None, None)
            await page.get_by_role("button", name="Remove").click()
            await expect(page.get_by_label("Width")).to_be_visible()
            await expect(page.locator("#upload")).to_be_focused()

    async def test_a_part_of_an_image_is_marked_by_mouse(
        self, stack: Stack, browser: Browser, editor: httpx2.AsyncClient
    ) -> None:
        await paint(editor)
        async with visit(await browser.new_context(viewport={"width": 1280, "height": 900})) as here:
            page = here.page
            await show_newest(page, stack)
            await page.get_by_role("button", name="Vary").click()
            await page.get_by_role("radio", name="Part of it").check()
            await expect(page.get_by_label("Strength")).to_have_value("1")
            await page.get_by_role("button", name="Generate", exact=True).click()
            await expect(page.get_by_text("Mark the part first")).to_be_visible()
            await page.get_by_role("button", name="Mark the part").click()
            dialog = page.get_by_role("dialog", name="Which part may change?")
            await expect(dialog).to_be_visible()
            await draw(page)
            await dialog.get_by_label("Soft border").fill("12")
            await dialog.get_by_role("button", name="Use this part").click()
            await expect(page.get_by_text("The marked part changes.")).to_be_visible()
            await page.get_by_role("button", name="Generate", exact=True).click()
            await expect(page.get_by_text("only a part")).to_be_visible()
            await expect(page.get_by_text("soft border 12 px")).to_be_visible()
            used = (await newest(editor))["parameters"]["initial_image"]
            assert (used["has_mask"], used["mask_feather"]) == (True, 12)

    async def test_a_part_of_an_image_is_marked_by_keyboard(
        self, stack: Stack, browser: Browser, editor: httpx2.AsyncClient
    ) -> None:
        await paint(editor)
        async with visit(await browser.new_context()) as here:
            page = here.page
            await show_newest(page, stack)
            await page.get_by_role("button", name="Vary").focus()
            await page.keyboard.press("Enter")
            await expect(page.get_by_label("Strength")).to_be_focused()
            await page.keyboard.press("Tab")
            await page.keyboard.press("ArrowRight")
            await expect(page.get_by_role("radio", name="Part of it")).to_be_checked()
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
            await expect(page.get_by_text("The marked part changes.")).to_be_visible()


class TestUpload:
    async def test_an_uploaded_photo_is_an_initial_image(
        self, stack: Stack, browser: Browser, editor: httpx2.AsyncClient, photo: Path
    ) -> None:
        async with visit(await browser.new_context(viewport={"width": 390, "height": 844})) as here:
            page = here.page
            await page.goto(link(stack))
            await expect(page.locator("#parameters #seed")).to_be_attached()
            await page.get_by_label("Upload an image").set_input_files(photo)
            await expect(page.get_by_text("640 × 400")).to_be_visible()
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390
            await page.get_by_label("Prompt", exact=True).fill("a castle on a green hill")
            await page.get_by_role("button", name="Generate", exact=True).click()
            await expect(page.get_by_text("started from")).to_be_visible()
            key = (await newest(editor))["parameters"]["initial_image"]["key"]
            stored = Image.open(io.BytesIO((await editor.get(f"/media/{key}")).content))
            assert (stored.format, stored.size) == ("JPEG", (640, 400))

    async def test_an_uploaded_photo_becomes_a_post(
        self, stack: Stack, browser: Browser, photo: Path, editor: httpx2.AsyncClient
    ) -> None:
        title = f"A holiday {uuid.uuid4().hex[:8]}"
        async with visit(await browser.new_context()) as here:
            page = here.page
            await page.goto(link(stack))
            await expect(page.locator("#parameters #seed")).to_be_attached()
            await page.get_by_label("Upload an image").set_input_files(photo)
            await page.get_by_role("button", name="Use it in a post unchanged").click()
            await page.get_by_label("Title").fill(title)
            await page.get_by_label("Alternative text").fill("a beach at noon")
            await page.get_by_role("button", name="Create the post").click()
            await page.get_by_role("link", name="Read the post").click()
            await expect(page.get_by_role("heading", level=1)).to_have_text(title)
            await expect(page.get_by_role("img", name="a beach at noon")).to_be_visible()

    async def test_a_file_that_is_not_an_image_shows_a_message(
        self, stack: Stack, browser: Browser, tmp_path: Path
    ) -> None:
        (tmp_path / "notes.txt").write_text("no picture")
        (tmp_path / "broken.png").write_bytes(b"no picture")
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(link(stack))
        await expect(page.locator("#parameters #seed")).to_be_attached()
        upload = page.get_by_label("Upload an image")
        await upload.set_input_files(tmp_path / "notes.txt")
        await expect(page.get_by_text("must be a PNG, JPEG or WebP")).to_be_visible()
        await upload.set_input_files(tmp_path / "broken.png")
        await expect(page.get_by_text("not a PNG, JPEG or WebP image")).to_be_visible()
        await expect(upload).to_be_enabled()
        await context.close()


class TestAbilities:
    async def test_parameters_at_their_default_are_not_sent(self, editor_page: Scripted, browser: Browser) -> None:
        async with visit(await browser.new_context()) as here:
            await open_editor(here.page, editor_page)
            parameters = await sent(editor_page, here.page)
            for name in ("guidance_end", "denoising_end", "initial_image"):
                assert not parameters.HasField(name)
            assert (list(parameters.loras), parameters.width, parameters.model) == ([], 1024, "large")

    async def test_loras_guidance_end_and_refiner_are_sent(self, editor_page: Scripted, browser: Browser) -> None:
        async with visit(await browser.new_context()) as here:
            page = here.page
            await open_editor(page, editor_page)
            await page.get_by_text("Settings", exact=True).click()
            await page.get_by_text("Advanced", exact=True).click()
            weight = page.get_by_label("Weight of watercolour")
            await expect(weight).to_be_disabled()
            await page.get_by_role("checkbox", name="watercolour").check()
            await weight.fill("0.5")
            await page.get_by_label("Guidance until").fill("0.4")
            await page.get_by_label("Refiner’s share").fill("0.2")
            await page.get_by_label("Scheduler").select_option("ddim")
            parameters = await sent(editor_page, page)
            assert [(lora.name, lora.weight) for lora in parameters.loras] == [("watercolour", 0.5)]
            assert (parameters.guidance_end, parameters.denoising_end, parameters.scheduler) == (0.4, 0.8, "ddim")

    async def test_the_form_follows_the_chosen_model(
        self, editor_page: Scripted, browser: Browser, photo: Path
    ) -> None:
        async with visit(await browser.new_context()) as here:
            page = here.page
            await page.route("**/media/generated/**", lambda route: route.fulfill(path=photo))
            await open_editor(page, editor_page)
            await page.get_by_text("Settings", exact=True).click()
            await page.get_by_text("Advanced", exact=True).click()
            await page.get_by_label("Seed").fill("7")
            await page.get_by_label("Upload an image").set_input_files(photo)
            await expect(page.get_by_label("Strength")).to_be_visible()
            await page.get_by_label("Model").select_option("plain")
            await expect(page.get_by_label("Model")).to_be_focused()
            await expect(page.get_by_text("The model plain.")).to_be_visible()
            await expect(page.get_by_text("LoRAs")).to_have_count(0)
            await expect(page.get_by_label("Refiner’s share")).to_have_count(0)
            await expect(page.get_by_label("Strength")).to_be_hidden()
            await expect(page.get_by_role("button", name="Use it in a post unchanged")).to_be_visible()
            parameters = await sent(editor_page, page)
            assert (parameters.model, parameters.seed, parameters.width) == ("plain", 7, 1024)
            assert not parameters.HasField("initial_image")

    async def test_a_closed_section_opens_to_show_the_error_of_a_field(
        self, editor_page: Scripted, browser: Browser
    ) -> None:
        context = await browser.new_context()
        page = await context.new_page()
        await open_editor(page, editor_page)
        await page.get_by_text("Settings", exact=True).click()
        await page.get_by_text("Advanced", exact=True).click()
        await page.get_by_role("checkbox", name="ink").check()
        await page.get_by_label("Weight of ink").fill("9")
        await page.get_by_text("Settings", exact=True).click()
        await page.get_by_role("button", name="Generate", exact=True).click()
        await expect(page.locator('[data-error="loras"]')).to_be_visible()
        await context.close()
