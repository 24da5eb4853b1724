"""A site with one post, whose scripted posts service can say how often it was asked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
from frontispiece.posts.v1 import posts_pb2

from rpc import errors
from tests.gateway.scripted import TASK_ID, Scripted, scripted, stored_image


def post(**fields: Any) -> posts_pb2.Post:
    values = {
        "id": TASK_ID,
        "slug": "a-door",
        "title": "A door",
        "state": posts_pb2.POST_STATE_PUBLISHED,
        "etag": '"7-ab"',
        "html": '<p>It <em>opens</em>. <img src="/media/a.png" alt="x"></p>',
        "excerpt": "It opens.",
        "featured_image": posts_pb2.FeaturedImage(image=stored_image(), alt_text="a door"),
        **fields,
    }
    return posts_pb2.Post(**values)


class Site:
    """A gateway without a token in its client, whose posts say how often they were read."""

    def __init__(self, front: Scripted) -> None:
        self.scripts = front.scripts
        self.context = front.context
        self.changes: asyncio.Queue[None] = asyncio.Queue()
        self.title = "A door"
        self.announced = False
        on = front.scripts.on
        on("ListPosts", lambda _: posts_pb2.ListPostsResponse(posts=[post(title=self.title)], next_page_token="next"))
        on("GetPost", self._get)
        on("ListTags", lambda _: posts_pb2.ListTagsResponse(tags=[posts_pb2.Tag(name="sea", post_count=2)]))
        on("ListAuthors", lambda _: posts_pb2.ListAuthorsResponse(authors=[posts_pb2.Author(id="1", name=self.title)]))
        on("ListCategories", lambda _: posts_pb2.ListCategoriesResponse(categories=[posts_pb2.Category(id="2")]))
        on("PublishPost", lambda _: posts_pb2.PublishPostResponse(post=post()))
        on("WatchChanges", self._watch)
        self.client = httpx2.AsyncClient(base_url=front.base_url, headers={"accept-encoding": "identity"}, timeout=30)

    def _get(self, request: posts_pb2.GetPostRequest) -> posts_pb2.GetPostResponse:
        if request.slug not in ("a-door", "a-gate"):
            raise errors.NotFound("no such post")
        return posts_pb2.GetPostResponse(post=post(title=self.title))

    async def _watch(self, _: Any) -> AsyncIterator[posts_pb2.WatchChangesResponse]:
        while True:
            yield posts_pb2.WatchChangesResponse()
            self.announced = True
            await self.changes.get()

    async def calls(self, path: str, times: int = 2, **headers: str) -> int:
        """How many calls of the posts service some equal requests in turn make."""
        before = len(self.scripts.calls)
        for _ in range(times):
            assert (await self.client.get(path, headers=headers)).status_code == 200
        return len(self.scripts.calls) - before


@contextlib.asynccontextmanager
async def public_site(**settings: Any) -> AsyncIterator[Site]:
    """A site that has heard the first announcement, which drops the cache."""
    async with scripted(**settings) as front:
        made = Site(front)
        async with made.client:
            while not made.announced:
                await asyncio.sleep(0.01)
            await made.client.get("/healthz")  # the announcement is read before this response
            yield made
