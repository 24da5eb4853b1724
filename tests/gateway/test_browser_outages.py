"""The editor page during an outage and after it: it finds out by itself what happened meanwhile."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
from frontispiece.posts.v1 import posts_pb2, tasks_pb2
from playwright.async_api import Browser, Page, Route, expect

from rpc import errors
from tests.gateway.browsing import link
from tests.gateway.editor_page import open_editor
from tests.gateway.scripted import Scripted, event, task, task_image
from tests.stack import Stack

AWAY = "The gateway cannot be reached"


async def generate(page: Page) -> None:
    await page.get_by_role("button", name="Generate", exact=True).click()


async def result_is_shown(page: Page) -> None:
    await expect(page.locator("#task-view .state")).to_have_text("awaiting approval")
    await expect(page.get_by_role("heading", name="Create a post")).to_be_visible()
    await expect(page.locator("#task-trouble")).to_be_hidden()
    await expect(page.get_by_role("button", name="Cancel", exact=True)).to_have_count(0)


async def test_the_result_is_shown_after_calls_failed_while_the_last_event_came(stack: Stack, browser: Browser) -> None:
    """Three times of three. The open stream still brings the last event; every new call fails, then works again."""

    async def refuse(route: Route) -> None:
        await (route.continue_() if route.request.url.endswith("/events") else route.abort())

    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(link(stack))
    await expect(page.locator("#parameters #seed")).to_be_attached()
    await page.get_by_label("Prompt", exact=True).fill("a lighthouse")
    for _ in range(3):
        async with page.expect_request("**/events"):
            await generate(page)
        await page.route("**/api/**", refuse)
        await expect(page.locator("#task-trouble")).to_contain_text(AWAY)
        await page.unroute("**/api/**")
        await result_is_shown(page)
    await context.close()


@pytest.mark.slow
async def test_the_result_is_shown_after_the_gateway_was_killed(
    stack: Stack, browser: Browser, editor: httpx2.AsyncClient
) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(link(stack))
    await expect(page.locator("#parameters #seed")).to_be_attached()
    await page.get_by_label("Prompt", exact=True).fill("a lighthouse")
    async with page.expect_request("**/events"):
        await generate(page)
    stack.kill("gateway")
    await result_is_shown(page)
    await expect(page.locator("#history-error")).to_be_hidden()
    await context.close()


def script_task(scripted: Scripted, *, failures: int) -> None:
    """A task whose last event has come; the task itself cannot be read `failures` times."""
    done = task(tasks_pb2.TASK_STATE_AWAITING_APPROVAL, images=[task_image()])
    done.images[0].image.url = "http://127.0.0.1:8080/media/generated/1-x.png"
    left = failures

    def get(_: tasks_pb2.GetTaskRequest) -> tasks_pb2.GetTaskResponse:
        nonlocal left
        # The event stream reads the task too, before its first event.
        if scripted.scripts.sent("WatchTask") and left:
            left -= 1
            raise errors.Unavailable("posts restarts")
        return tasks_pb2.GetTaskResponse(task=done if scripted.scripts.sent("WatchTask") else task())

    async def watch(_: tasks_pb2.WatchTaskRequest) -> AsyncIterator[tasks_pb2.WatchTaskResponse]:
        yield event(2, tasks_pb2.TASK_STATE_AWAITING_APPROVAL, terminal=True)

    scripted.scripts.on("CreateTask", lambda _: tasks_pb2.CreateTaskResponse(task=task()))
    scripted.scripts.on("GetTask", get)
    scripted.scripts.on("WatchTask", watch)


async def test_a_service_that_is_away_when_the_last_event_came_is_asked_again(
    editor_page: Scripted, browser: Browser
) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    await page.route("**/media/**", lambda route: route.fulfill(status=204))
    script_task(editor_page, failures=12)  # the gateway itself asks several times for each call
    await open_editor(page, editor_page)
    editor_page.scripts.on("ListCategories", categories_after(5))
    await generate(page)
    await expect(page.locator("#task-trouble")).to_be_visible()
    await result_is_shown(page)
    await context.close()


def categories_after(failures: int) -> Callable[[object], posts_pb2.ListCategoriesResponse]:
    """A script of ListCategories that fails first. The form of the approval needs the categories."""
    left = failures

    def script(_: object) -> posts_pb2.ListCategoriesResponse:
        nonlocal left
        left -= 1
        if left >= 0:
            raise errors.Unavailable("posts restarts")
        return posts_pb2.ListCategoriesResponse()

    return script


async def test_it_is_asked_at_once_when_the_network_is_back(editor_page: Scripted, browser: Browser) -> None:
    """With a stopped clock no pause ever ends; only the event `online` continues."""
    context = await browser.new_context()
    page = await context.new_page()
    await page.route("**/media/**", lambda route: route.fulfill(status=204))
    script_task(editor_page, failures=0)
    await open_editor(page, editor_page)

    async def refuse(route: Route) -> None:
        await (route.continue_() if route.request.url.endswith("/events") else route.abort())

    await page.clock.install()
    await page.clock.pause_at(datetime.now(UTC) + timedelta(minutes=1))
    await page.route("**/api/tasks/*", refuse)
    await generate(page)
    await expect(page.locator("#task-trouble")).to_contain_text(AWAY)
    await page.unroute("**/api/tasks/*")
    await page.evaluate("dispatchEvent(new Event('online'))")
    await expect(page.locator("#task-view .state")).to_have_text("awaiting approval")
    await context.close()
