"""The mask dialog: drawing, feather, and the mask that is sent."""

import io
from pathlib import Path

from frontispiece.types.v1 import generation_pb2
from PIL import Image
from playwright.async_api import Browser, Page, expect

from tests.gateway.browsing import visit
from tests.gateway.editor_page import draw, open_editor, sent
from tests.gateway.scripted import Scripted


class TestMask:
    async def start_mask(self, page: Page, editor_page: Scripted, photo: Path) -> None:
        await page.route("**/media/generated/**", lambda route: route.fulfill(path=photo))
        await open_editor(page, editor_page)
        await page.get_by_label("Upload an image").set_input_files(photo)
        await page.get_by_role("radio", name="Part of it").check()
        await page.get_by_role("button", name="Mark the part").click()

    @staticmethod
    def read(parameters: generation_pb2.GenerationParameters) -> Image.Image:
        return Image.open(io.BytesIO(parameters.initial_image.mask)).convert("L")

    async def test_the_mask_is_white_where_it_was_drawn_and_not_erased(
        self, editor_page: Scripted, browser: Browser, photo: Path
    ) -> None:
        async with visit(await browser.new_context(viewport={"width": 1280, "height": 900})) as here:
            page = here.page
            await self.start_mask(page, editor_page, photo)
            dialog = page.get_by_role("dialog")
            await draw(page)
            await dialog.get_by_role("button", name="Bottom").click()
            await dialog.get_by_role("radio", name="Erase").check()
            await dialog.get_by_role("button", name="Left").click()
            await dialog.get_by_role("button", name="Use this part").click()
            mask = self.read(await sent(editor_page, page))
            assert mask.size == (800, 400)  # the shape of the picture
            places = {"drawn": (600, 100), "area": (600, 300), "erased": (200, 300), "untouched": (600, 20)}
            assert {name: mask.getpixel(place) for name, place in places.items()} == {
                "drawn": 255,
                "area": 255,
                "erased": 0,
                "untouched": 0,
            }
            await page.get_by_role("radio", name="Whole image").check()
            assert not (await sent(editor_page, page)).initial_image.mask
            await page.get_by_role("radio", name="Part of it").check()
            await page.get_by_role("button", name="Change the part").click()  # what was marked is there still
            await dialog.get_by_role("button", name="Clear").click()
            await dialog.get_by_role("button", name="Use this part").click()
            await expect(page.get_by_text("Nothing is marked yet.")).to_be_visible()

    async def test_the_chosen_feather_is_sent_and_remembered(
        self, editor_page: Scripted, browser: Browser, photo: Path
    ) -> None:
        """It is changed together with the part, is there again when that is, and goes back when nothing is marked."""
        async with visit(await browser.new_context(viewport={"width": 1280, "height": 900})) as here:
            page = here.page
            await self.start_mask(page, editor_page, photo)
            dialog = page.get_by_role("dialog")
            border = dialog.get_by_label("Soft border")
            use, change = dialog.get_by_role("button", name="Use this part"), "Change the part"
            await expect(border).to_have_value("8")
            await expect(border).to_have_attribute("aria-valuetext", "8 px")
            await dialog.get_by_role("button", name="Top").click()
            await use.click()
            assert (await sent(editor_page, page)).initial_image.mask_feather == 8
            await page.get_by_role("button", name=change).click()
            await border.focus()
            await page.keyboard.press("Home")
            await expect(border).to_have_attribute("aria-valuetext", "none")
            await page.keyboard.press("Escape")
            assert (await sent(editor_page, page)).initial_image.mask_feather == 8
            await page.get_by_role("button", name=change).click()
            await expect(border).to_have_value("8")
            await border.fill("0")
            await use.click()
            initial = (await sent(editor_page, page)).initial_image
            assert initial.HasField("mask_feather")
            assert initial.mask_feather == 0
            await page.get_by_role("button", name=change).click()
            await expect(border).to_have_value("0")
            await dialog.get_by_role("button", name="Clear").click()
            await use.click()
            await page.get_by_role("button", name="Mark the part").click()
            await expect(border).to_have_value("8")
            await dialog.get_by_role("button", name="Cancel").click()
            await page.get_by_role("radio", name="Whole image").check()
            assert not (await sent(editor_page, page)).initial_image.HasField("mask_feather")

    async def test_a_mask_is_drawn_by_touch(self, editor_page: Scripted, browser: Browser, photo: Path) -> None:
        context = await browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
        async with visit(context) as here:
            page = here.page
            await self.start_mask(page, editor_page, photo)
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
            mask = self.read(await sent(editor_page, page))
            assert [mask.getpixel((x, 200)) for x in (40, 260, 400, 540, 760)] == [0, 255, 255, 255, 0]

    async def test_a_mask_above_the_size_limit_is_scaled_down(
        self, editor_page: Scripted, browser: Browser, photo: Path
    ) -> None:
        async with visit(await browser.new_context()) as here:
            page = here.page
            await self.start_mask(page, editor_page, photo)
            noise = """canvas => {
              const context = canvas.getContext("2d");
              const noise = context.createImageData(canvas.width, canvas.height);
              const { data } = noise;
              for (let i = 0; i < data.length; i += 65536) crypto.getRandomValues(data.subarray(i, i + 65536));
              context.putImageData(noise, 0, 0);
            }"""
            await page.locator("#mask-board canvas").evaluate(noise)
            await page.get_by_role("button", name="Use this part").click()
            parameters = await sent(editor_page, page)
            assert len(parameters.initial_image.mask) <= 262_144
            assert self.read(parameters).size in {(400, 200), (200, 100)}
