"""The address of the gateway or of the CDN changes, and no picture breaks: on pages, in the API, in the CSP."""

import contextlib
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import httpx2
import pytest
from botocore.exceptions import ClientError

from tests.e2e.test_publishing import approval, paint
from tests.s3_server import SeaweedFS
from tests.stack import Stack, running

pytestmark = pytest.mark.slow

POSTS = 20


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[SeaweedFS]:
    with SeaweedFS(tmp_path / "s3") as server:
        yield server


@contextlib.contextmanager
def cdn(s3: SeaweedFS) -> Iterator[str]:
    """A CDN in front of the bucket; its address."""

    class Edge(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                held = s3.client().get_object(Bucket=s3.bucket, Key=unquote(self.path.removeprefix("/")))
            except ClientError:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("content-type", held["ContentType"])
            self.end_headers()
            self.wfile.write(held["Body"].read())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Edge)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Pictures(HTMLParser):
    """The addresses of the pictures of a page, and the pages that it links to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.images: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        if tag == "img":
            self.images.append(values["src"])
        if tag == "meta" and values.get("property") == "og:image":
            self.images.append(values["content"])
        if tag == "a":
            self.links.append(values.get("href", ""))


class Visit:
    """Looks at every picture of a site."""

    def __init__(self, stack: Stack) -> None:
        self._base = stack.base_url
        self._client = httpx2.AsyncClient(follow_redirects=True, timeout=60, headers=stack.authorization)
        self.seen: dict[str, str] = {}
        self.bases: set[str] = set()

    async def picture(self, url: str) -> None:
        if url in self.seen:
            return
        response = await self._client.get(urljoin(self._base, url))
        assert response.status_code == 200, url
        assert response.headers["content-type"].startswith("image/"), url
        self.seen[url] = response.headers["content-type"]

    async def page(self, path: str) -> Pictures:
        response = await self._client.get(self._base + path)
        assert response.status_code == 200, path
        found = Pictures(response.text)
        policy = response.headers["content-security-policy"]
        sources = next(part for part in policy.split("; ") if part.startswith("img-src")).split()[1:]
        assert found.images
        for url in found.images:
            parts = urlsplit(url)
            origin = f"{parts.scheme}://{parts.netloc}"
            assert not parts.netloc or origin in sources or (parts.scheme == "https" and "https:" in sources), url
            await self.picture(url)
        return found

    async def everything(self) -> None:
        """All pages of the site, all posts and all tasks of the API."""
        async with self._client:
            path, posts = "/", set()
            while path:
                page = await self.page(path)
                posts |= {link for link in page.links if link.startswith("/posts/")}
                path = next((link for link in page.links if "page_token=" in link), "")
            assert len(posts) == POSTS
            for link in posts:
                assert len((await self.page(link)).images) > 2
            listed = (await self._client.get(f"{self._base}/api/posts?page_size=100")).json()["posts"]
            assert len(listed) == POSTS
            for post in listed:
                assert post["featured_image_url"] == post["featured_image"]["url"]
                self.bases.add(post["featured_image_url"].removesuffix("/" + post["featured_image"]["key"]))
                await self.picture(post["featured_image_url"])
                one = (await self._client.get(f"{self._base}/api/posts/{post['slug']}")).json()
                for url in Pictures(one["html"]).images:
                    await self.picture(url)
            tasks = (await self._client.get(f"{self._base}/api/tasks?page_size=100")).json()["tasks"]
            images = [image for task in tasks for image in task["images"]]
            assert images
            for image in images:
                await self.picture(image["url"])


async def fill(stack: Stack) -> None:
    """Posts whose texts show pictures by path and by the absolute address of now."""
    async with httpx2.AsyncClient(base_url=stack.base_url, headers=stack.authorization, timeout=120) as editor:
        painted = [await paint(editor, num_inference_steps=1) for _ in range(2)]
        keys = [one["images"][0]["key"] for one in painted]
        for number in range(POSTS):
            key, other = keys[number % 2], keys[1 - number % 2]
            text = f"![a](/media/{other})\n\n![b]({stack.base_url}/media/{key})"
            body = await approval(editor, title=f"Post {number}", content=text, featured_image_key=key, publish=True)
            response = await editor.post("/api/posts", json=body)
            assert response.status_code == 201, response.text


@pytest.mark.timeout(1800)
async def test_no_picture_breaks_when_the_address_changes(s3: SeaweedFS, tmp_path: Path) -> None:
    data = tmp_path / "var"
    with running(data, s3.environment) as stack:
        await fill(stack)
        await Visit(stack).everything()
        first = stack.base_url
    with running(data, s3.environment) as stack:  # on another free port
        assert stack.base_url != first
        visit = Visit(stack)
        await visit.everything()
        assert visit.bases == {f"{stack.base_url}/media"}
    with cdn(s3) as address, running(data, {**s3.environment, "STORAGE_CDN_BASE_URL": address}) as stack:
        visit = Visit(stack)
        await visit.everything()
        assert visit.bases == {address}
    with running(data, s3.environment) as stack:
        visit = Visit(stack)
        await visit.everything()
        assert visit.bases == {f"{stack.base_url}/media"}
