"""The pages: the public site, which needs no JavaScript, the editor page, and the documentation of the API."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, get_args
from urllib.parse import urlencode

import grpc
from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from frontispiece.posts.v1 import posts_pb2
from starlette.responses import PlainTextResponse, Response

from gateway.errors import Problem, from_exception
from gateway.pages.rendering import Pages
from gateway.routes.dependencies import Context
from gateway.routes.posts import find_post
from gateway.routes.taxonomy import all_pages
from gateway.schemas import posts as schemas
from gateway.schemas.tasks import TaskState
from rpc.limits import limits

_FILTERS = {"q": "query", "tag": "tag", "category": "category", "author": "author"}
_LENGTHS = {name: limits(posts_pb2.ListPostsRequest, field).max_length for name, field in _FILTERS.items()}
_PAGE_SIZE = 13  # one large post, and four rows of three
_MORE = 3
_TAGS = 24
_CACHE = {"cache-control": "public, max-age=0, must-revalidate"}


class PageRoute(APIRoute):
    """A route that shows every error as a page."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of FastAPI, with a page for each exception."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception as error:
                return pages(request).problem(from_exception(error))

        return handle


router = APIRouter(include_in_schema=False, route_class=PageRoute, default_response_class=Response)


def pages(request: Request) -> Pages:
    """The templates of the application that serves `request`."""
    found: Pages = request.app.state.pages
    return found


@router.get("/")
@router.head("/")
async def front(app: Context, request: Request) -> Response:
    """The published posts, newest first, with filters."""
    stub = app.clients.posts
    chosen = {name: request.query_params.get(name, "").strip()[:length] for name, length in _LENGTHS.items()}
    query = posts_pb2.ListPostsRequest(
        page_size=_PAGE_SIZE,
        page_token=request.query_params.get("page_token", ""),
        state=posts_pb2.POST_STATE_PUBLISHED,
        **{field: chosen[name] for name, field in _FILTERS.items()},
    )
    listed, tags, categories, authors = await asyncio.gather(
        _list(stub.ListPosts(query)),
        stub.ListTags(posts_pb2.ListTagsRequest(page_size=_TAGS)),
        all_pages(stub.ListCategories, posts_pb2.ListCategoriesRequest(), "categories"),
        all_pages(stub.ListAuthors, posts_pb2.ListAuthorsRequest(), "authors"),
    )
    kept = {name: value for name, value in chosen.items() if value}
    older = urlencode({**kept, "page_token": listed.next_page_token}) if listed.next_page_token else ""
    return pages(request).render(
        "front.html",
        {
            "posts": [schemas.post(one, editor=False) for one in listed.posts],
            "tags": tags.tags,
            "categories": categories,
            "authors": authors,
            "chosen": chosen,
            "lengths": _LENGTHS,
            "filtered": bool(kept),
            "first_page": not query.page_token,
            "older": older,
        },
        _CACHE,
    )


async def _list(call: Awaitable[posts_pb2.ListPostsResponse]) -> posts_pb2.ListPostsResponse:
    """A page of posts. An invalid page token or filter is a page that does not exist."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            raise Problem(404, "NOT_FOUND", "this page of posts does not exist") from None
        raise


@router.get("/posts/{slug}")
@router.head("/posts/{slug}")
async def post(app: Context, request: Request, slug: str) -> Response:
    """A published post, and a few others."""
    found = await find_post(app, slug, include_drafts=False)
    listed = await app.clients.posts.ListPosts(
        posts_pb2.ListPostsRequest(page_size=_MORE + 1, state=posts_pb2.POST_STATE_PUBLISHED)
    )
    others = [schemas.post(one, editor=False) for one in listed.posts if one.id != found.id]
    return pages(request).render(
        "post.html", {"post": schemas.post(found, editor=False), "more": others[:_MORE]}, _CACHE
    )


@router.get("/hub")
@router.head("/hub")
async def editor(request: Request) -> Response:
    """The editor page. It fetches everything that it shows with the token."""
    return pages(request).render(
        "editor.html", {"states": get_args(TaskState)}, {"cache-control": "no-cache", "x-robots-tag": "noindex"}
    )


@router.get("/docs")
@router.head("/docs")
async def docs(request: Request) -> Response:
    """The documentation of the REST interface, from its OpenAPI document."""
    return pages(request).render("docs.html", {"document": request.app.openapi()}, {"cache-control": "no-cache"})


@router.get("/robots.txt")
@router.head("/robots.txt")
async def robots() -> Response:
    """What search engines must not index."""
    return PlainTextResponse("User-agent: *\nDisallow: /hub\nDisallow: /api/\n", headers={"cache-control": "no-cache"})
