"""The pages: the public site, rendered here so that it needs no JavaScript, and the editors' desk."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

import grpc
from frontispiece.posts.v1 import posts_pb2
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from gateway.errors import Problem, from_exception
from gateway.messages import posts as messages
from gateway.rendering import Pages
from gateway.routes.plain import PlainRoute
from gateway.routes.posts import find_post
from gateway.state import gateway

_FILTERS = ("q", "tag", "category", "author")
_PAGE_SIZE = 13  # one large, and four rows of three
_MORE = 3
_CACHE = {"cache-control": "public, max-age=0, must-revalidate"}

Handler = Callable[[Request], Awaitable[Response]]


def pages(request: Request) -> Pages:
    """The templates of the gateway that serves a request."""
    found: Pages = request.app.state.pages
    return found


def page(handler: Handler) -> Handler:
    """`handler`, with a page for every error too."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as error:
            return pages(request).problem(from_exception(error))

    return answer


@page
async def front(request: Request) -> Response:
    """The public posts, newest first, with what narrows them down."""
    stub = gateway(request).clients.posts
    chosen = {name: request.query_params.get(name, "").strip()[:200] for name in _FILTERS}
    query = posts_pb2.ListPostsRequest(
        page_size=_PAGE_SIZE,
        page_token=request.query_params.get("page_token", "")[:1000],
        state=posts_pb2.POST_STATE_PUBLISHED,
        tag=chosen["tag"],
        category=chosen["category"],
        author=chosen["author"],
        query=chosen["q"],
    )
    listed, tags, categories, authors = await asyncio.gather(
        _list(stub.ListPosts(query)),
        stub.ListTags(posts_pb2.ListTagsRequest()),
        stub.ListCategories(posts_pb2.ListCategoriesRequest()),
        stub.ListAuthors(posts_pb2.ListAuthorsRequest()),
    )
    kept = {name: value for name, value in chosen.items() if value}
    older = urlencode({**kept, "page_token": listed.next_page_token}) if listed.next_page_token else ""
    return pages(request).render(
        "front.html",
        {
            "posts": [messages.post(one, editor=False) for one in listed.posts],
            "tags": tags.tags[:24],
            "categories": categories.categories,
            "authors": authors.authors,
            "chosen": chosen,
            "filtered": bool(kept),
            "first_page": not query.page_token,
            "older": older,
        },
        _CACHE,
    )


async def _list(call: Awaitable[posts_pb2.ListPostsResponse]) -> posts_pb2.ListPostsResponse:
    """A page of posts; a page token or filter that makes no sense is a page that is not there."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            raise Problem(404, "NOT_FOUND", "there is no such page of posts") from None
        raise


@page
async def post(request: Request) -> Response:
    """One public post, and a few others."""
    here = gateway(request)
    found = await find_post(here, request.path_params["slug"], include_drafts=False)
    listed = await here.clients.posts.ListPosts(
        posts_pb2.ListPostsRequest(page_size=_MORE + 1, state=posts_pb2.POST_STATE_PUBLISHED)
    )
    others = [messages.post(one, editor=False) for one in listed.posts if one.id != found.id]
    return pages(request).render(
        "post.html", {"post": messages.post(found, editor=False), "more": others[:_MORE]}, _CACHE
    )


@page
async def hub(request: Request) -> Response:
    """The editors' desk; all it shows it fetches with the token."""
    return pages(request).render("hub.html", {}, {"cache-control": "no-cache", "x-robots-tag": "noindex"})


@page
async def docs(request: Request) -> Response:
    """The REST interface, described from its OpenAPI document."""
    return pages(request).render("docs.html", {"document": request.app.openapi()}, {"cache-control": "no-cache"})


async def robots(request: Request) -> Response:
    """What search engines need not read."""
    return PlainTextResponse("User-agent: *\nDisallow: /hub\nDisallow: /api/\n", headers={"cache-control": "no-cache"})


routes = [
    PlainRoute("/", front, methods=["GET"]),
    PlainRoute("/posts/{slug}", post, methods=["GET"]),
    PlainRoute("/hub", hub, methods=["GET"]),
    PlainRoute("/docs", docs, methods=["GET"]),
    PlainRoute("/robots.txt", robots, methods=["GET"]),
]
