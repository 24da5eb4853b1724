"""Texts of users on the editor page: their direction, long words, and names for people who do not see the page."""

import re

import pytest
from frontispiece.posts.v1 import tasks_pb2
from playwright.async_api import Browser, Page, expect

from tests.gateway.browsing import visit
from tests.gateway.scripted import TOKEN, Scripted, task, task_image

ARABIC = "نافذة على البحر"


async def open_task(page: Page, scripted: Scripted, prompt: str) -> None:
    """Open the page with one task in the list, and show it."""
    image = task_image()
    image.image.url = "http://127.0.0.1:8080/media/generated/1-x.png"
    made = task(tasks_pb2.TASK_STATE_AWAITING_APPROVAL, images=[image])
    made.parameters.prompt = prompt
    made.create_time.GetCurrentTime()
    scripted.scripts.on("ListTasks", lambda _: tasks_pb2.ListTasksResponse(tasks=[made]))
    scripted.scripts.on("GetTask", lambda _: tasks_pb2.GetTaskResponse(task=made))
    await page.route("**/media/**", lambda route: route.fulfill(status=204))
    await page.goto(f"{scripted.base_url}/hub#token={TOKEN}")
    await page.locator("#cards button").click()
    await expect(page.get_by_label("Title")).to_be_visible()


async def test_texts_of_users_have_their_own_direction(editor_page: Scripted, browser: Browser) -> None:
    async with visit(await browser.new_context()) as here:
        page = here.page
        await open_task(page, editor_page, ARABIC)
        for name in ("Prompt", "Title", "Text", "Tags"):
            await page.get_by_label(name, exact=True).fill(ARABIC)
        await page.get_by_text("Reject instead").click()
        await page.get_by_label("Reason").fill(ARABIC)
        await page.get_by_role("button", name="Vary").click()
        fields = ("#prompt", "#title", "#content", "#tags", "#alt_text", "#comment")
        for place in ("#task-title", ".words", "#init-title q", *fields):
            direction = await page.locator(place).evaluate("element => getComputedStyle(element).direction")
            assert direction == "rtl", place
        assert await page.evaluate("getComputedStyle(document.body).direction") == "ltr"


@pytest.mark.parametrize("width", [360, 1280])
async def test_long_words_do_not_widen_the_page(editor_page: Scripted, browser: Browser, width: int) -> None:
    async with visit(await browser.new_context(viewport={"width": width, "height": 800})) as here:
        await open_task(here.page, editor_page, "W" * 500)
        await here.page.get_by_role("button", name="Vary").click()
        await expect(here.page.locator("#init-title")).to_be_visible()
        assert await here.page.evaluate("document.documentElement.scrollWidth") <= width


async def test_the_name_of_a_card_is_what_it_shows(editor_page: Scripted, browser: Browser) -> None:
    """WCAG 2.5.3: who says or hears the name of a control says or hears the words on it."""
    async with visit(await browser.new_context()) as here:
        page = here.page
        await open_task(page, editor_page, "a door")
        await expect(page.locator("#cards button")).to_have_accessible_name(
            re.compile(r"^a door awaiting approval (just now|\d+ minutes? ago)$")
        )


async def test_images_of_cards_load_when_they_are_seen(editor_page: Scripted, browser: Browser) -> None:
    async with visit(await browser.new_context()) as here:
        await open_task(here.page, editor_page, "a door")
        image = here.page.locator("#cards img")
        for name, value in {"loading": "lazy", "decoding": "async", "width": "8", "height": "8"}.items():
            await expect(image).to_have_attribute(name, value)
