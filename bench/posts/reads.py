"""The reads that are measured: each as a call of the service, and as a path of the gateway where it is a page."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc
from frontispiece.posts.v1 import posts_pb2 as p
from frontispiece.posts.v1 import posts_pb2_grpc

PUBLISHED = p.POST_STATE_PUBLISHED
TIMEOUT_SECONDS = 10.0

FILTERS: Mapping[str, Mapping[str, Any]] = {
    "all": {},
    "any state": {"state": p.POST_STATE_UNSPECIFIED},
    "drafts": {"state": p.POST_STATE_DRAFT},
    **{f"tag {name}": {"tag": name} for name in ("common", "share", "rare", "empty", "unknown")},
    **{f"category {name}": {"category": name} for name in ("full", "share", "rare", "empty", "unknown")},
    **{f"author {name}": {"author": name} for name in ("full", "share", "rare", "empty", "unknown")},
    "tag common, category full": {"tag": "common", "category": "full"},
    "tag share, category share": {"tag": "share", "category": "share"},
    "tag common, category rare": {"tag": "common", "category": "rare"},
    "tag common, author full": {"tag": "common", "author": "full"},
    "tag share, author rare": {"tag": "share", "author": "rare"},
    "category full, author full": {"category": "full", "author": "full"},
    "category share, author share": {"category": "share", "author": "share"},
    "category full, author empty": {"category": "full", "author": "empty"},
    "tag, category, author full": {"tag": "common", "category": "full", "author": "full"},
    "tag common, category share, author share": {"tag": "common", "category": "share", "author": "share"},
    "tag common, category full, author unknown": {"tag": "common", "category": "full", "author": "unknown"},
}
"""Lists without words. The state is PUBLISHED where none is given."""

_SYLLABLES = [a + b for a in "bcdfghjklmnprstvwyz" for b in "aeiou"]

SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "60 % of posts": {"query": "quality"},
    "0.4 % of posts": {"query": "quarter"},
    "5 posts": {"query": "quokka"},
    "no post": {"query": "nowhere"},
    "beginning of a word, 2 letters": {"query": "ba"},
    "two words, 60 % and 10 %": {"query": "quality quick"},
    "two words, 60 % and 5 posts": {"query": "quality quokka"},
    "two words, 10 % each, never together": {"query": "quick quiet"},
    "60 % of posts, tag share": {"query": "quality", "tag": "share"},
    "5 posts, tag common": {"query": "quokka", "tag": "common"},
    "hostile: 100 times b": {"query": " ".join(["b"] * 100)},
    "hostile: 26 letters": {"query": " ".join("abcdefghijklmnopqrstuvwxyz")},
    "hostile: 66 beginnings of two letters": {"query": " ".join(_SYLLABLES[:66])[:200]},
}
"""Lists with words."""


@dataclass(frozen=True)
class Read:
    """One row of the table. `filters`: those of the list that it reads, for EXPLAIN."""

    name: str
    call: Callable[[Any], Awaitable[Any]]
    filters: Mapping[str, Any] | None = None


def listing(filters: Mapping[str, Any], **more: Any) -> p.ListPostsRequest:
    """The request of a list of 20 summaries."""
    return p.ListPostsRequest(**{"state": PUBLISHED, "page_size": 20, "view": p.POST_VIEW_SUMMARY, **filters, **more})


def reads(token: str, slug: str) -> list[Read]:
    """All reads by gRPC. `token`: of a page in the middle of all published posts. `slug`: of a post."""

    def posts(request: p.ListPostsRequest) -> Callable[[Any], Awaitable[Any]]:
        return lambda stub: stub.ListPosts(request, timeout=TIMEOUT_SECONDS)

    return [
        *(Read(f"list: {name}", posts(listing(filters)), filters) for name, filters in FILTERS.items()),
        Read("list: all, page in the middle", posts(listing({}, page_token=token))),
        Read("list: all, with content", posts(listing({}, view=p.POST_VIEW_CONTENT))),
        Read("tags, 100", lambda stub: stub.ListTags(p.ListTagsRequest(page_size=100))),
        Read("categories, 100", lambda stub: stub.ListCategories(p.ListCategoriesRequest(page_size=100))),
        Read("authors, 100", lambda stub: stub.ListAuthors(p.ListAuthorsRequest(page_size=100))),
        Read("a post by slug", lambda stub: stub.GetPost(p.GetPostRequest(slug=slug), timeout=TIMEOUT_SECONDS)),
        *(Read(f"search: {name}", posts(listing(filters)), filters) for name, filters in SEARCHES.items()),
    ]


def stub(target: str) -> Any:
    """The calls of posts at `target`."""
    return posts_pb2_grpc.PostServiceStub(grpc.aio.insecure_channel(target))


async def middle(posts: Any, connection: Any) -> tuple[str, str]:
    """The page token of the middle of all published posts, made by the service, and the slug of the post there.

    The service binds a token to its list, so the sort key of its first page is replaced by that of the post there.
    """
    import base64
    import json

    row = await connection.fetchrow(
        "SELECT id, slug, (extract(epoch FROM sort_time) * 1000000)::bigint AS time FROM posts"
        " WHERE state = 'published' ORDER BY sort_time DESC OFFSET (SELECT count(*) / 2 FROM posts) LIMIT 1"
    )
    first = (await posts.ListPosts(listing({}), timeout=TIMEOUT_SECONDS)).next_page_token
    version, filter_hash, _, _ = json.loads(base64.urlsafe_b64decode(first))
    token = base64.urlsafe_b64encode(json.dumps([version, filter_hash, row["time"], str(row["id"])]).encode())
    return token.decode(), row["slug"]
