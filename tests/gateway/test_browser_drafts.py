"""What is typed in the editor page survives another card, a reload and a closed tab, until it is sent."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from frontispiece.posts.v1 import posts_pb2, tasks_pb2
from playwright.async_api import Browser, BrowserContext, Dialog, Page, expect

from tests.gateway.browsing import MILLISECONDS, link, visit
from tests.gateway.conftest import POST, paint
from tests.gateway.editor_page import draw, open_editor, sent
from tests.gateway.scripted import TOKEN, Scripted, task, task_image
from tests.stack import Stack

TEXT = "Fog comes in.\n\nThe light stays on."


@pytest.fixture
async def waiting(editor_page: Scripted) -> AsyncIterator[Scripted]:
    """A gateway with two tasks that await approval, with two images each; approvals succeed."""
    tasks = {}
    for number in "12":
        images = [task_image(index=0), task_image(index=1)]
        for image in images:
            image.image.url = "http://127.0.0.1:8080/media/generated/1-x.png"
        images[1].generation.parameters.seed = 2
        made = task(tasks_pb2.TASK_STATE_AWAITING_APPROVAL, images=images)
        made.id = number * 8 + made.id[8:]
        made.parameters.prompt = f"a door, number {number}"
        tasks[made.id] = made

    def approve(request: tasks_pb2.ApproveTaskRequest) -> tasks_pb2.ApproveTaskResponse:
        after = tasks[request.task_id]
        after.state = tasks_pb2.TASK_STATE_APPROVED
        after.approved_image_index = request.image_index
        return tasks_pb2.ApproveTaskResponse(task=after, post=POST)

    on = editor_page.scripts.on
    on("ListTasks", lambda _: tasks_pb2.ListTasksResponse(tasks=list(tasks.values())))
    on("GetTask", lambda request: tasks_pb2.GetTaskResponse(task=tasks[request.task_id]))
    on("ApproveTask", approve)
    on("GetPost", lambda _: posts_pb2.GetPostResponse(post=POST))
    authors = [
        posts_pb2.Author(id=POST.id, name="Ana"),
        posts_pb2.Author(id=FIRST, name="The editors", is_default=True),
    ]
    on("ListAuthors", lambda _: posts_pb2.ListAuthorsResponse(authors=authors))
    categories = [
        posts_pb2.Category(id=POST.id, name="Art"),
        posts_pb2.Category(id=FIRST, name="News", is_default=True),
    ]
    on("ListCategories", lambda _: posts_pb2.ListCategoriesResponse(categories=categories))
    yield editor_page


FIRST = "99999999-2222-4333-8444-555555555555"


async def open_card(page: Page, number: int) -> None:
    await page.locator("#cards button").nth(number - 1).click()
    await expect(page.locator("#task-title")).to_have_text(f"a door, number {number}")
    await expect(page.get_by_label("Title")).to_be_visible()


async def open_hub(page: Page, scripted: Scripted) -> None:
    await page.route("**/media/generated/**", lambda route: route.fulfill(status=204))
    await page.goto(f"{scripted.base_url}/hub#token={TOKEN}")


async def drafts(page: Page) -> list[str]:
    """The names of what the browser keeps."""
    names: list[str] = await page.evaluate("Object.keys(localStorage)")
    return [name for name in names if "draft" in name and "prompt" not in name]


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
            await expect(other.get_by_label("Author", exact=True)).to_have_value(POST.id)
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
