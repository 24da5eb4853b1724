"""The editor page under other addresses: plain http from another machine, another port, a path, a CDN."""

import re
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from frontispiece.posts.v1 import tasks_pb2
from frontispiece.storage.v1 import images_pb2
from playwright.async_api import Browser, Page, expect

from local.ports import free_port
from tests.gateway.browsing import link, load_pictures, on_the_network, visit
from tests.gateway.conftest import paint
from tests.gateway.editor_page import draw, script_editor
from tests.gateway.reverse_proxy import reverse_proxy
from tests.gateway.scripted import TOKEN, Scripted, scripted, stored_image, task, task_image
from tests.stack import Stack

SCRIPTS = Path(__file__).parents[2] / "gateway" / "web" / "static"

# What browsers offer on https and localhost only (MDN, "Features restricted to secure contexts").
SECURE_ONLY = re.compile(
    r"randomUUID|\bsubtle\b|clipboard|serviceWorker|\bcaches\b|cookieStore|navigator\.(storage|locks|credentials|"
    r"mediaDevices|geolocation|share|wakeLock|permissions)|Notification|showSaveFilePicker|showOpenFilePicker"
)


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.js")), ids=lambda script: script.name)
def test_no_script_uses_what_only_secure_contexts_have(script: Path) -> None:
    code = "\n".join(
        line for line in script.read_text().splitlines() if not line.lstrip().startswith(("//", "*", "/**"))
    )
    assert SECURE_ONLY.search(code) is None


async def ready(page: Page, address: str) -> set[str]:
    """Open the editor page; returns a set to which the hosts of all requests are added."""
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    await page.goto(address)
    await expect(page.locator("#parameters #seed")).to_be_attached()
    return hosts


class TestAnotherMachine:
    async def test_everything_works_over_plain_http(
        self, stack: Stack, browser: Browser, editor: httpx2.AsyncClient, photo: Path
    ) -> None:
        """Generate, upload, mask, vary and approve, with every picture loaded from the host in the address."""
        title = f"A harbour {uuid.uuid4().hex[:8]}"
        async with visit(await browser.new_context(viewport={"width": 1280, "height": 900})) as here:
            page = here.page
            hosts = await ready(page, on_the_network(link(stack)))
            assert not await page.evaluate("isSecureContext")
            await page.get_by_label("Upload an image").set_input_files(photo)
            await page.get_by_role("radio", name="Part of it").check()
            await page.get_by_role("button", name="Mark the part").click()
            await draw(page)
            await page.get_by_role("button", name="Use this part").click()
            await page.get_by_label("Prompt", exact=True).fill("a harbour")
            await page.get_by_role("button", name="Generate", exact=True).click()
            await expect(page.get_by_text("only a part")).to_be_visible()
            await page.get_by_role("button", name="Vary").click()
            assert await load_pictures(page) == []
            await page.get_by_label("Title").fill(title)
            await page.get_by_role("button", name="Approve", exact=True).click()
            await page.get_by_role("link", name="Read the post").click()
            await expect(page.get_by_role("heading", level=1)).to_have_text(title)
            assert hosts == {urlsplit(on_the_network(stack.base_url)).netloc}

    async def test_a_task_is_cancelled_over_plain_http(self, stack: Stack, browser: Browser) -> None:
        async with visit(await browser.new_context()) as here:
            page = here.page
            await ready(page, on_the_network(link(stack)))
            await page.get_by_label("Prompt", exact=True).fill("a door that takes long")
            await page.get_by_text("Settings", exact=True).click()
            await page.locator("#num_inference_steps").fill("80")
            await page.locator("#candidate_count").fill("4")
            await page.get_by_role("button", name="Generate", exact=True).click()
            await page.get_by_role("button", name="Cancel", exact=True).click()
            await expect(page.locator("#task-view .state")).to_have_text("cancelled")


class TestProxy:
    async def test_the_page_works_below_a_path_and_at_another_port(
        self, stack: Stack, browser: Browser, editor: httpx2.AsyncClient
    ) -> None:
        """The gateway does not know of this proxy, and PUBLIC_BASE_URL names neither its host, port nor path."""
        painted = await paint(editor)
        async with reverse_proxy("/a/blog", stack.base_url) as port, visit(await browser.new_context()) as here:
            page = here.page
            hosts = await ready(page, f"http://painter.lan:{port}/a/blog/hub#token={stack.token}")
            await page.locator("#cards button").first.click()
            await page.get_by_label("Title").fill("Behind a proxy")
            assert await load_pictures(page) == []
            shown = await page.locator("#task-view img").get_attribute("src")
            assert shown == f"/a/blog/media/{painted['images'][0]['key']}"
            await page.get_by_label("Prompt", exact=True).fill("a fox")
            await page.get_by_role("button", name="Approve", exact=True).click()
            read = page.get_by_role("link", name="Read the post")
            await expect(read).to_have_attribute("href", re.compile("^/a/blog/posts/behind-a-proxy"))
            await page.get_by_role("button", name="Generate", exact=True).click()
            await expect(page.get_by_role("heading", name="Create a post")).to_be_visible()  # events came through
            assert hosts == {f"painter.lan:{port}"}
            name = page.locator("header a")
            assert await name.evaluate("link => link.href") == f"http://painter.lan:{port}/a/blog/"

    async def test_a_public_base_url_with_a_path(self, browser: Browser, photo: Path) -> None:
        port = free_port()
        base_url = f"http://painter.lan:{port}/blog"
        bytes_ = photo.read_bytes()
        async with scripted(public_base_url=base_url) as front:
            show_image(front, f"{base_url}/media/generated/1-x.png", bytes_)
            async with reverse_proxy("/blog", front.base_url, port), visit(await browser.new_context()) as here:
                hosts = await ready(here.page, f"{base_url}/hub#token={TOKEN}")
                await here.page.locator("#cards button").first.click()
                await expect(here.page.locator("#task-view img")).to_have_attribute(
                    "src", "/blog/media/generated/1-x.png"
                )
                assert await load_pictures(here.page) == []
                assert hosts == {f"painter.lan:{port}"}

    async def test_an_image_on_a_cdn_is_loaded_from_there(self, browser: Browser, photo: Path) -> None:
        cdn = "https://d111.cloudfront.net/generated/1-x.png"
        async with scripted() as front, visit(await browser.new_context()) as here:
            show_image(front, cdn, b"")
            await here.page.route("https://d111.cloudfront.net/**", lambda route: route.fulfill(path=photo))
            await ready(here.page, f"{front.base_url}/hub#token={TOKEN}")
            await here.page.locator("#cards button").first.click()
            await expect(here.page.locator("#task-view img")).to_have_attribute("src", cdn)
            assert await load_pictures(here.page) == []


def show_image(front: Scripted, url: str, content: bytes) -> None:
    """Script an approved task with an image at `url`, and the bytes of every image."""
    script_editor(front)
    image = task_image()
    image.image.url = url
    made = task(tasks_pb2.TASK_STATE_REJECTED, images=[image])
    front.scripts.on("ListTasks", lambda _: tasks_pb2.ListTasksResponse(tasks=[made]))
    described = images_pb2.Image(image=stored_image())
    described.image.file.content_type = "image/jpeg"
    described.image.file.size_bytes = len(content)

    async def read(request: images_pb2.GetImageRequest):  # type: ignore[no-untyped-def]
        yield images_pb2.GetImageResponse(header=images_pb2.GetImageHeader(image=described, range_size=len(content)))
        if not request.header_only:
            yield images_pb2.GetImageResponse(chunk=content)

    front.scripts.on("GetImage", read)
