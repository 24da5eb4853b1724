"""The editor page, the documentation of the API, and what browsers and search engines ask every site for."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, get_args

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import PlainTextResponse, Response

from gateway.cache.answers import Answer
from gateway.codes import CODES
from gateway.context import app_context
from gateway.errors import from_exception
from gateway.pages.rendering import Pages
from gateway.schemas.tasks import TaskState

_ICON = Path(__file__).parents[1] / "web" / "static" / "favicon.png"


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
    """The documentation of the REST interface, from its OpenAPI document. It is rendered once, in a thread."""
    state = request.app.state
    if getattr(state, "docs", None) is None:
        state.docs = await asyncio.to_thread(_docs, request)
    return AnswerResponse(state.docs)


def _docs(request: Request) -> Answer:
    return pages(request).answer(
        "docs.html", {"document": request.app.openapi(), "codes": CODES}, {"cache-control": "no-cache"}
    )


class AnswerResponse(Response):
    """An Answer as a response of a FastAPI route."""

    def __init__(self, answer: Answer) -> None:
        """Respond with `answer`."""
        super().__init__()
        self._answer = answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Send the response."""
        await self._answer.respond(scope, send)


@router.get("/robots.txt")
@router.head("/robots.txt")
async def robots(request: Request) -> Response:
    """What search engines must not index."""
    root = app_context(request).settings.base_path
    text = f"User-agent: *\nDisallow: {root}/hub\nDisallow: {root}/api/\n"
    return PlainTextResponse(text, headers={"cache-control": "no-cache"})


@router.get("/favicon.ico")
@router.head("/favicon.ico")
async def favicon() -> Response:
    """The icon, for programs that look for it without reading the page."""
    return Response(_ICON.read_bytes(), media_type="image/png", headers={"cache-control": "public, max-age=86400"})
