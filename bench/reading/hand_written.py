"""`python -m bench.reading.hand_written PORT`: what a developer writes who has only this database and these pages.

Starlette, asyncpg and uvicorn in one process, without middleware, log lines, metrics, validation or errors. It sends
the same JSON and the same pages as the gateway, from the statements of services.posts. DATABASE_URL names the database,
BASE_URL the address of its pages.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import asyncpg
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.pages.rendering import Pages
from gateway.settings import GatewaySettings
from services.posts.content import lists, repository
from services.posts.models import PostFilter

_PUBLISHED = PostFilter(state="published", tag="", category="", author="", query="")


def listing(limit: int, *, with_content: bool = True) -> tuple[str, list[object]]:
    """The statement of the newest posts and its values."""
    return lists.statement(_PUBLISHED, limit, None, with_content=with_content)


ONE = repository.GET_BY_SLUG
TAGS = """
SELECT g.name, count(*) AS post_count FROM tags g JOIN post_tags pt ON pt.tag_id = g.id
JOIN posts p ON p.id = pt.post_id WHERE p.state = 'published' GROUP BY g.name ORDER BY 2 DESC, 1 LIMIT 24
"""


class Site:
    """The routes and what they share."""

    def __init__(self, base_url: str) -> None:
        """Pages at `base_url`."""
        self._pages = Pages(GatewaySettings(public_base_url=base_url))
        self._pool: Any = None

    async def pool(self) -> Any:
        """The connections, opened when the first request comes."""
        if self._pool is None:
            self._pool = asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=8, max_size=8)
            await self._pool
        return self._pool

    async def posts(self, _: Request) -> Response:
        """A page of posts as JSON."""
        statement, values = listing(21)
        rows = await (await self.pool()).fetch(statement, *values)
        return _json({"posts": [post(row) for row in rows[:20]], "next_page_token": token(rows[20]["id"])})

    async def post(self, request: Request) -> Response:
        """A post as JSON."""
        row = await (await self.pool()).fetchrow(ONE, request.path_params["slug"])
        return _json({**post(row), "html": row["html"]})

    async def front(self, _: Request) -> Response:
        """The front page."""
        pool = await self.pool()
        statement, arguments = listing(14, with_content=False)
        rows = await pool.fetch(statement, *arguments)
        values = {
            "posts": [shown(row) for row in rows[:13]],
            "tags": await pool.fetch(TAGS),
            "categories": await pool.fetch("SELECT slug, name FROM categories ORDER BY name LIMIT 100"),
            "authors": await pool.fetch("SELECT slug, name FROM authors ORDER BY name LIMIT 100"),
            "chosen": dict.fromkeys(("q", "tag", "category", "author"), ""),
            "lengths": {"q": 200},
            "filtered": False,
            "first_page": True,
            "older": token(rows[13]["id"]),
        }
        return self._pages.render("front.html", values, {})

    async def page(self, request: Request) -> Response:
        """The page of a post."""
        pool = await self.pool()
        row = await pool.fetchrow(ONE, request.path_params["slug"])
        statement, arguments = listing(4, with_content=False)
        more = [shown(one) for one in await pool.fetch(statement, *arguments) if one["id"] != row["id"]]
        return self._pages.render("post.html", {"post": shown(row), "more": more[:3]}, {})

    def app(self) -> Starlette:
        """The application."""
        routes = {"/api/posts": self.posts, "/api/posts/{slug}": self.post, "/": self.front, "/posts/{slug}": self.page}
        return Starlette(routes=[Route(path, endpoint) for path, endpoint in routes.items()])


def post(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON."""
    featured = orjson.loads(row["featured_image"])
    image = featured["image"]
    return {
        "id": str(row["id"]),
        "slug": row["slug"],
        "state": row["state"],
        "title": row["title"],
        "content": row["content"],
        "excerpt": row["excerpt"],
        "featured_image_url": image["url"],
        "featured_image": {
            "url": image["url"],
            "key": image["key"],
            "alt_text": featured["alt_text"],
            "width": image["file"]["width"],
            "height": image["file"]["height"],
            "thumbhash": image.get("thumbhash", ""),
            "image_source": featured["image_source"],
        },
        "author": {"id": str(row["author_id"]), "slug": row["author_slug"], "name": row["author_name"]},
        "category": {"id": str(row["category_id"]), "slug": row["category_slug"], "name": row["category_name"]},
        "tags": row["tags"],
        "task_id": None,
        "created_by": None,
        "updated_by": None,
        "create_time": time(row["create_time"]),
        "update_time": time(row["update_time"]),
        "publish_time": time(row["publish_time"]),
        "etag": f'"{row["version"]}"',
    }


def shown(row: Mapping[str, Any]) -> SimpleNamespace:
    """A row as the templates read it."""
    featured = orjson.loads(row["featured_image"])
    return SimpleNamespace(
        slug=row["slug"],
        title=row["title"],
        excerpt=row["excerpt"],
        html=row["html"],
        featured_image=featured,
        author={"slug": row["author_slug"], "name": row["author_name"]},
        category={"slug": row["category_slug"], "name": row["category_name"]},
        tags=row["tags"],
        publish_time=Moment(int(row["publish_time"].timestamp())),
        update_time=Moment(int(row["update_time"].timestamp())),
    )


@dataclass(frozen=True)
class Moment:
    """A time as the templates read it."""

    seconds: int
    nanos: int = 0


def time(value: Any) -> str:
    """RFC 3339 in UTC."""
    return f"{value:%Y-%m-%dT%H:%M:%S.%fZ}"


def token(post_id: Any) -> str:
    """A page token of the usual length."""
    return f"{post_id.hex}{post_id.hex}{post_id.hex}"


def _json(value: Any) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")


if __name__ == "__main__":
    site = Site(os.environ["BASE_URL"])
    uvicorn.run(site.app(), port=int(sys.argv[1]), log_level="error", access_log=False, lifespan="off")
