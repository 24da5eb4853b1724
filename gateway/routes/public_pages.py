"""The public site: pages of posts, which need no JavaScript."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlencode

import grpc
from fastapi import APIRouter, Request, Response
from frontispiece.posts.v1 import posts_pb2
from starlette.types import Receive, Scope, Send

from gateway.cache.answers import Answer
from gateway.cache.keys import FRONT_FILTERS, front_query
from gateway.cache.store import Memo
from gateway.context import AppContext, app_context
from gateway.errors import Problem, from_exception
from gateway.pages.rendering import Pages
from gateway.routes.post_reads import find_post, is_former_slug, moved
from gateway.routes.reads import OpenRead
from rpc.limits import limits

_LENGTHS = {
    name: limits(posts_pb2.ListPostsRequest, field).max_length
    for name, field in FRONT_FILTERS.items()
    if name != "page_token"
}
_PAGE_SIZE = 13  # one large post, and four rows of three
_MORE = 3
_TAGS = 24
_CHOICES = int(limits(posts_pb2.ListAuthorsRequest, "page_size").max)
"""How many authors and categories the front page offers. With more, the search and the links of posts find the rest."""
_CACHE = {"cache-control": "public, max-age=0, must-revalidate"}


class PageRead(OpenRead):
    """A read that shows every error as a page."""

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        started = False

        async def send_and_note(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await super().serve(scope, receive, send_and_note)
        except Exception as error:
            if started:
                raise
            await pages(scope).problem(from_exception(error))(scope, receive, send)


router = APIRouter(include_in_schema=False, route_class=PageRead)


def pages(scope: Scope) -> Pages:
    """The templates of the application that serves a request."""
    found: Pages = scope["app"].state.pages
    return found


@router.get("/", response_model=None)
async def front(request: Request) -> Answer:
    """The published posts, newest first, with filters."""
    app = app_context(request)
    given = front_query(request.scope["query_string"])
    chosen = {name: given.get(name, "")[:length] for name, length in _LENGTHS.items()}
    query = posts_pb2.ListPostsRequest(
        page_size=_PAGE_SIZE,
        page_token=given.get("page_token", ""),
        state=posts_pb2.POST_STATE_PUBLISHED,
        view=posts_pb2.POST_VIEW_SUMMARY,
        **{FRONT_FILTERS[name]: value for name, value in chosen.items()},
    )
    listed, shelves = await asyncio.gather(
        _list(app.clients.posts.ListPosts(query)), app.cache.get("shelves", lambda: _shelves(app))
    )
    kept = {name: value for name, value in chosen.items() if value}
    older = urlencode({**kept, "page_token": listed.next_page_token}) if listed.next_page_token else ""
    values = {
        **shelves.value,
        "posts": listed.posts,
        "chosen": chosen,
        "lengths": _LENGTHS,
        "filtered": bool(kept),
        "first_page": not query.page_token,
        "older": older,
    }
    return pages(request.scope).answer("front.html", values, _CACHE)


async def _shelves(app: AppContext) -> Memo:
    """The tags, categories and authors that every front page offers."""
    stub = app.clients.posts
    tags, categories, authors = await asyncio.gather(
        stub.ListTags(posts_pb2.ListTagsRequest(page_size=_TAGS)),
        stub.ListCategories(posts_pb2.ListCategoriesRequest(page_size=_CHOICES)),
        stub.ListAuthors(posts_pb2.ListAuthorsRequest(page_size=_CHOICES)),
    )
    value = {"tags": tags.tags, "categories": categories.categories, "authors": authors.authors}
    return Memo(value, size=4 * (tags.ByteSize() + categories.ByteSize() + authors.ByteSize()))


async def _list(call: Awaitable[posts_pb2.ListPostsResponse]) -> posts_pb2.ListPostsResponse:
    """A page of posts. An invalid page token or filter is a page that does not exist."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            raise Problem(404, "NOT_FOUND", "this page of posts does not exist") from None
        raise


@router.get("/posts/{slug}", response_model=None)
async def post(request: Request, slug: str) -> Answer | Response:
    """A published post, and a few others."""
    app = app_context(request)
    newest: Callable[[], Awaitable[Memo]] = lambda: _newest(app)  # noqa: E731
    found, others = await asyncio.gather(find_post(app, slug, include_drafts=False), app.cache.get("newest", newest))
    if is_former_slug(slug, found):
        return moved(found.slug, request)
    more = [one for one in others.value if one.id != found.id][:_MORE]
    return pages(request.scope).answer("post.html", {"post": found, "more": more}, _CACHE)


async def _newest(app: AppContext) -> Memo:
    """The newest posts, one more than the page of a post shows."""
    request = posts_pb2.ListPostsRequest(
        page_size=_MORE + 1, state=posts_pb2.POST_STATE_PUBLISHED, view=posts_pb2.POST_VIEW_SUMMARY
    )
    listed = await app.clients.posts.ListPosts(request)
    return Memo(listed.posts, size=4 * listed.ByteSize())
