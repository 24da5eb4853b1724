"""What the editor page keeps of typed text: within bounds, and asking where it cannot keep it."""

from pathlib import Path

from playwright.async_api import Browser, BrowserContext, Dialog, Page, expect

from tests.gateway.approvals import drafts, open_card, open_hub
from tests.gateway.browsing import MILLISECONDS, visit
from tests.gateway.editor_page import draw, open_editor, sent
from tests.gateway.scripted import Scripted


class TestFullBrowser:
    """A browser that keeps nothing: text stays in the page, and leaving the page asks."""

    FULL = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };"

    async def leave(self, page: Page) -> list[str]:
        """Close the page as a user does; returns the kinds of dialogs that were shown."""
        seen: list[str] = []

        async def accept(dialog: Dialog) -> None:
            seen.append(dialog.type)
            await dialog.accept()

        page.on("dialog", accept)
        async with page.expect_event("close", timeout=MILLISECONDS):
            await page.close(run_before_unload=True)
        return seen

    async def open_page(self, context: BrowserContext, waiting: Scripted) -> Page:
        page = await context.new_page()
        await open_hub(page, waiting)
        await open_card(page, 1)
        return page

    async def test_leaving_asks_while_text_is_not_kept(self, waiting: Scripted, browser: Browser) -> None:
        context = await browser.new_context()
        await context.add_init_script(self.FULL)
        page = await self.open_page(context, waiting)
        await page.get_by_label("Title").press_sequentially("Fog")
        await expect(page.locator("#approve").get_by_text("The browser cannot keep this text")).to_be_visible()
        await open_card(page, 2)
        await open_card(page, 1)
        await expect(page.get_by_label("Title")).to_have_value("Fog")
        assert await self.leave(page) == ["beforeunload"]
        page = await self.open_page(context, waiting)
        await page.get_by_label("Title").press_sequentially("Fog")
        await page.get_by_role("button", name="Approve", exact=True).click()
        await expect(page.locator("#task-view .state")).to_have_text("approved")
        assert await self.leave(page) == []
        await context.close()

    async def test_leaving_does_not_ask_when_text_is_kept(self, waiting: Scripted, browser: Browser) -> None:
        context = await browser.new_context()
        page = await self.open_page(context, waiting)
        await page.get_by_label("Title").press_sequentially("Fog")
        assert await self.leave(page) == []
        await context.close()

    async def test_drafts_are_bounded(self, waiting: Scripted, browser: Browser) -> None:
        """Old ones are removed after a month; beyond 2,000,000 characters in all, leaving asks instead."""
        context = await browser.new_context()
        page = await self.open_page(context, waiting)
        old, big = {"time": 0, "value": {}}, {"time": 4e12, "value": "x" * 1_999_900}
        await page.evaluate(
            """(records) => { for (const [name, record] of Object.entries(records))
                 localStorage.setItem(`frontispiece-draft:${name}`, JSON.stringify(record)); }""",
            {"old": old, "big": big},
        )
        await page.reload()
        await open_card(page, 1)
        assert await drafts(page) == ["frontispiece-draft:big"]
        await page.get_by_label("Text", exact=True).fill("y" * 200)
        await expect(page.locator("#approve").get_by_text("The browser cannot keep this text")).to_be_visible()
        await page.get_by_label("Text", exact=True).fill("")
        await context.close()


class TestPrompt:
    async def test_the_form_survives_a_reload(self, editor_page: Scripted, browser: Browser, photo: Path) -> None:
        """Prompt, settings of another model, the initial image and the marked part."""
        async with visit(await browser.new_context(viewport={"width": 1280, "height": 900})) as here:
            page = here.page
            await page.route("**/media/generated/**", lambda route: route.fulfill(path=photo))
            await open_editor(page, editor_page)
            await page.get_by_text("Settings", exact=True).click()
            await page.get_by_text("Advanced", exact=True).click()
            await page.get_by_label("Seed").fill("77")
            await page.get_by_label("Negative prompt").fill("people")
            await page.get_by_label("Steps").fill("44")
            await page.get_by_role("checkbox", name="ink").check()
            await page.get_by_label("Weight of ink").fill("0.4")
            await page.get_by_label("Upload an image").set_input_files(photo)
            await page.get_by_role("radio", name="Part of it").check()
            await page.get_by_role("button", name="Mark the part").click()
            await draw(page)
            await page.get_by_role("button", name="Use this part").click()
            await page.get_by_label("Strength").fill("0.8")
            before = await sent(editor_page, page)
            await page.reload()
            await expect(page.get_by_text("The marked part changes.")).to_be_visible()
            await expect(page.get_by_label("Prompt", exact=True)).to_have_value("a boat")
            after = await sent(editor_page, page)
            assert after == before
            assert (after.seed, after.negative_prompt, after.num_inference_steps) == (77, "people", 44)
            assert after.initial_image.mask

    async def test_the_chosen_model_survives_a_reload(self, editor_page: Scripted, browser: Browser) -> None:
        async with visit(await browser.new_context()) as here:
            page = here.page
            await open_editor(page, editor_page)
            await page.get_by_text("Settings", exact=True).click()
            await page.get_by_text("Advanced", exact=True).click()
            await page.get_by_label("Model").select_option("plain")
            await page.reload()
            await expect(page.get_by_text("The model plain.")).to_be_visible()
            assert (await sent(editor_page, page)).model == "plain"

    async def test_each_tab_keeps_its_own_prompt(self, editor_page: Scripted, browser: Browser) -> None:
        async with visit(await browser.new_context()) as here:
            page = here.page
            await open_editor(page, editor_page)
            other = await page.context.new_page()
            await open_editor(other, editor_page)
            await other.get_by_label("Prompt", exact=True).fill("a lamp")
            await page.reload()
            await expect(page.get_by_label("Prompt", exact=True)).to_have_value("a boat")
