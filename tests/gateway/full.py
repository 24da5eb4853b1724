"""A gateway whose scripted services have all that a reader can ask for, each as long as it may be."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from frontispiece.posts.v1 import posts_pb2, tasks_pb2
from frontispiece.storage.v1 import images_pb2

from tests.gateway.scripted import TASK_ID, Scripted, capabilities, stored_image, task
from tests.gateway.streams import PATH as EVENTS
from tests.gateway.streams import replay

MEBIBYTE = 1024 * 1024
LONGEST = 100_000
"""The longest text of a post, in characters."""


def long_post(number: int = 0) -> posts_pb2.Post:
    """A published post with the longest text, which is the worst for a parser of Markdown."""
    name = f"post-{number}"
    made = posts_pb2.Post(
        id=TASK_ID,
        etag="1-x",
        slug=name,
        title=name,
        content="[" * LONGEST,
        html="<p>" + "[" * LONGEST + "</p>",
        excerpt="[" * 220,
    )
    made.state = posts_pb2.POST_STATE_PUBLISHED
    made.featured_image.image.CopyFrom(stored_image())
    made.author.name = made.category.name = "x"
    for time in (made.create_time, made.update_time, made.publish_time):
        time.GetCurrentTime()
    return made


async def image(_: Any) -> AsyncIterator[images_pb2.GetImageResponse]:
    """An image of 8 MiB."""
    stored = stored_image()
    stored.file.size_bytes = 8 * MEBIBYTE
    header = images_pb2.GetImageHeader(range_size=8 * MEBIBYTE)
    header.image.image.CopyFrom(stored)
    yield images_pb2.GetImageResponse(header=header)
    for _ in range(32):
        yield images_pb2.GetImageResponse(chunk=b"x" * (MEBIBYTE // 4))


@pytest.fixture
def full(front: Scripted) -> Scripted:
    """A gateway with all that a reader can ask for, each as long as it may be."""
    listed = posts_pb2.ListPostsResponse(posts=[long_post(n) for n in range(13)])
    on = front.scripts.on
    on("ListPosts", lambda _: listed)
    on("GetPost", lambda _: posts_pb2.GetPostResponse(post=long_post()))
    on("ListTags", lambda _: posts_pb2.ListTagsResponse(tags=[posts_pb2.Tag(name=f"tag {n}") for n in range(100)]))
    on("ListAuthors", lambda _: posts_pb2.ListAuthorsResponse(authors=[posts_pb2.Author(name="x")] * 100))
    on("ListCategories", lambda _: posts_pb2.ListCategoriesResponse(categories=[posts_pb2.Category(name="x")] * 100))
    on("GetCapabilities", lambda _: capabilities())
    on("ListTasks", lambda _: tasks_pb2.ListTasksResponse(tasks=[task()] * 100))
    on("CreateTask", lambda _: tasks_pb2.CreateTaskResponse(task=task()))
    on("GetImage", image)
    replay(front)
    return front


READS = [
    "/",
    "/?q=b+b+b",
    "/posts/post-0",
    "/hub",
    "/docs",
    "/robots.txt",
    "/static/editor.js",
    "/openapi.json",
    "/healthz",
    "/readyz",
    "/metrics",
    "/api/posts",
    "/api/posts/post-0",
    "/api/tags",
    "/api/authors",
    "/api/categories",
    "/api/tasks",
    f"/api/tasks/{TASK_ID}",
    EVENTS,
    "/api/capabilities",
    "/media/generated/1-x.png",
]
