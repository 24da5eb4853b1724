"""Approving on the editor page: what is typed survives until it is sent, and the chosen image is the approved one."""

import uuid
from typing import Any

import httpx2
from playwright.async_api import Browser, Page, expect

from tests.gateway.approvals import FIRST, OTHER, drafts, open_card, open_hub
from tests.gateway.browsing import link, visit
from tests.gateway.conftest import paint
from tests.gateway.scripted import Scripted
from tests.stack import Stack

TEXT = "Fog comes in.\n\nThe light stays on."


async def typed(page: Page) -> list[str]:
    """What the form of an approval holds."""
    names = ("Title", "Text", "Tags", "Alternative text")
    return [await page.get_by_label(name, exact=True).input_value() for name in names]


class TestApproval:
    async def type_all(self, page: Page) -> list[str]:
        values = ["Fog", TEXT, "sea, fog", "a lamp in the fog"]
        for name, value in zip(("Title", "Text", "Tags", "Alternative text"), values, strict=True):
            await page.get_by_label(name, exact=True).fill(value)
        await page.get_by_label("Publish at once").uncheck()
        await page.get_by_label("Author", exact=True).select_option("Ana")
        await page.get_by_role("radio", name="Image 2").check()
        return values

    async def test_text_survives_another_card_a_reload_and_a_closed_tab(
        self, waiting: Scripted, browser: Browser
    ) -> None:
        async with visit(await browser.new_context()) as here:
            page = here.page
            await open_hub(page, waiting)
            await open_card(page, 1)
            values = await self.type_all(page)
            await open_card(page, 2)
            assert await typed(page) == ["", "", "", "a door, number 2"]
            await open_card(page, 1)
            assert await typed(page) == values
            await page.reload()
            await expect(page.get_by_label("Title")).to_have_value("Fog")  # the same task is shown
            assert await typed(page) == values
            other = await page.context.new_page()
            await page.close()
            await open_hub(other, waiting)
            await open_card(other, 1)
            assert await typed(other) == values
            await expect(other.get_by_label("Publish at once")).not_to_be_checked()
            await expect(other.get_by_label("Author", exact=True)).to_have_value(OTHER)
            await expect(other.get_by_role("radio", name="Image 2")).to_be_checked()
            await expect(other.get_by_text("seed 2")).to_be_visible()
            await other.get_by_role("button", name="Approve", exact=True).click()
            await expect(other.locator("#task-view .state")).to_have_text("approved")
            assert waiting.scripts.sent("ApproveTask")[-1].content == TEXT
            assert await drafts(other) == []

    async def test_text_survives_a_gateway_that_is_away(self, waiting: Scripted, browser: Browser) -> None:
        async with visit(await browser.new_context()) as here:
            page = here.page
            await open_hub(page, waiting)
            await open_card(page, 1)
            values = await self.type_all(page)
            await page.route("**/api/**", lambda route: route.abort())
            await page.get_by_role("button", name="Approve", exact=True).click()
            await expect(page.locator("#approve").get_by_text("cannot be reached")).to_be_visible()
            assert await typed(page) == values
            await page.unroute("**/api/**")
            await page.reload()
            await expect(page.get_by_label("Title")).to_have_value("Fog")
            assert await typed(page) == values
            here.complaints.clear()

    async def test_text_for_a_task_that_somebody_else_decided_is_shown(
        self, waiting: Scripted, browser: Browser
    ) -> None:
        async with visit(await browser.new_context()) as here:
            page = here.page
            await open_hub(page, waiting)
            await open_card(page, 1)
            await self.type_all(page)
            body = {"title": "Another", "image_index": 0}
            task_id = "11111111-2222-4333-8444-555555555555"
            await waiting.client.post(f"/api/tasks/{task_id}/approve", json=body)
            await page.reload()
            await page.get_by_text("Your text, which was not used").click()
            await expect(page.get_by_text("The light stays on.")).to_be_visible()
            await page.get_by_role("button", name="Remove this text").click()
            assert await drafts(page) == []

    async def test_enter_in_a_line_moves_on_and_does_not_publish(self, waiting: Scripted, browser: Browser) -> None:
        async with visit(await browser.new_context()) as here:
            page = here.page
            await open_hub(page, waiting)
            await open_card(page, 1)
            await page.get_by_label("Title").fill("Fog")
            await page.keyboard.press("Enter")
            await expect(page.get_by_label("Text", exact=True)).to_be_focused()
            for name, follower in (("Tags", "Alternative text"), ("Alternative text", "Publish at once")):
                await page.get_by_label(name, exact=True).press("Enter")
                await expect(page.get_by_label(follower, exact=True)).to_be_focused()
            await page.keyboard.press("Enter")  # in the check box
            assert waiting.scripts.sent("ApproveTask") == []
            await page.get_by_label("Title").press("Control+Enter")
            await expect(page.locator("#task-view .state")).to_have_text("approved")
            assert len(waiting.scripts.sent("ApproveTask")) == 1

    async def test_the_default_author_and_category_are_chosen(self, waiting: Scripted, browser: Browser) -> None:
        async with visit(await browser.new_context()) as here:
            await open_hub(here.page, waiting)
            await open_card(here.page, 1)
            for name in ("Author", "Category"):
                await expect(here.page.get_by_label(name, exact=True)).to_have_value(FIRST)


async def test_the_approved_image_is_the_one_that_is_shown_and_varied(
    stack: Stack, browser: Browser, editor: httpx2.AsyncClient
) -> None:
    painted = await paint(editor, candidate_count=2, prompt=f"a kite {uuid.uuid4().hex[:6]}")
    second: dict[str, Any] = painted["images"][1]
    async with visit(await browser.new_context()) as here:
        page = here.page
        await page.goto(link(stack))
        card = page.locator("#cards li").first
        await card.get_by_role("button").click()
        await expect(page.get_by_text(f"seed {painted['images'][0]['seed']}")).to_be_visible()
        await page.get_by_role("radio", name="Image 2").check()
        await expect(page.get_by_text(f"seed {second['seed']}")).to_be_visible()
        await page.get_by_label("Title").fill("A kite")
        await page.get_by_role("button", name="Approve", exact=True).click()
        address = f"/media/{second['key']}"
        await expect(page.locator("#task-view .canvas img")).to_have_attribute("src", address)
        await expect(card.locator("img")).to_have_attribute("src", address)
        await expect(page.get_by_text(f"seed {second['seed']}")).to_be_visible()
        await page.get_by_role("button", name="Vary").click()
        await expect(page.locator("#init-image img")).to_have_attribute("src", address)
