"""The ASGI application: middleware, routes, and what they share."""

from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from gateway import errors, openapi
from gateway.cache.middleware import CacheMiddleware
from gateway.cache.store import Cache
from gateway.clients import Clients
from gateway.context import AppContext
from gateway.middleware.access import AccessMiddleware, Authenticator
from gateway.middleware.compression import CompressionMiddleware
from gateway.middleware.headers import HeadersMiddleware
from gateway.middleware.hosts import HostsMiddleware
from gateway.middleware.limits import BodyPolicy, LimitsMiddleware
from gateway.middleware.methods import MethodsMiddleware, allowed, method_not_allowed, without_slash
from gateway.middleware.metrics import GatewayMetrics, MetricsMiddleware
from gateway.middleware.prefix import PrefixMiddleware
from gateway.middleware.problems import ProblemsMiddleware
from gateway.pages.rendering import Pages
from gateway.routes import (
    generate,
    media,
    operations,
    pages,
    post_reads,
    posts,
    public_pages,
    task_events,
    tasks,
    taxonomy,
    uploads,
)
from gateway.routes.dependencies import only_known_query
from gateway.routes.reads import ReadsMiddleware
from gateway.settings import GatewaySettings

_STATIC = Path(__file__).parent / "web" / "static"

_CORS_METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE")
_CORS_REQUEST_HEADERS = (
    "authorization",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "last-event-id",
    "prefer",
    "range",
    "x-request-id",
)
_CORS_RESPONSE_HEADERS = ("etag", "location", "preference-applied", "retry-after", "x-request-id")


def create_app(settings: GatewaySettings, clients: Clients, token: str) -> FastAPI:
    """The routes as an ASGI application. `app.state.context` is the AppContext of its routes. `edge` wraps it."""
    app = FastAPI(
        title=settings.site_title,
        version=version("frontispiece"),
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        redirect_slashes=False,  # its redirects would be absolute; _problem makes relative ones
        exception_handlers={HTTPException: _problem, RequestValidationError: _problem},
    )
    metrics = GatewayMetrics()
    cache = Cache(settings.cache_bytes)
    app.state.context = AppContext(settings, clients, metrics, cache)
    app.state.pages = Pages(settings)
    reads = (post_reads.router, taxonomy.reads, public_pages.router, operations.reads)
    app.add_middleware(ReadsMiddleware, routers=reads)
    _add_middleware(app, settings, token)
    for router in reads:
        app.include_router(router)
    for api in (generate, uploads, tasks, task_events, posts, taxonomy):
        app.include_router(api.router, dependencies=[Depends(only_known_query)])
    for module in (media, operations, pages):
        app.include_router(module.router)
    app.mount("/static", Assets(directory=_STATIC))
    app.openapi = lambda: openapi.document(app, settings.public_base_url)  # type: ignore[method-assign]
    return app


def _add_middleware(app: FastAPI, settings: GatewaySettings, token: str) -> None:
    """Add the middleware inside the edge, from the innermost to the outermost."""
    app.add_middleware(
        LimitsMiddleware,
        bodies=BodyPolicy(settings.max_body_bytes),
        uploads={uploads.PATH: BodyPolicy(settings.max_upload_bytes + uploads.FORM_BYTES, uploads.CONTENT_TYPES)},
        request_seconds=settings.request_seconds,
        client_seconds=settings.client_seconds,
    )
    app.add_middleware(AccessMiddleware, authenticator=Authenticator(token))
    app.add_middleware(MethodsMiddleware, routes=app.routes)
    app.add_middleware(ProblemsMiddleware)
    app.add_middleware(CompressionMiddleware)


def edge(app: FastAPI) -> ASGIApp:
    """`app` with the middleware that every request passes, from the innermost to the outermost.

    They are outside of FastAPI, so that an answer from the cache does not pass its own middleware.
    """
    context: AppContext = app.state.context
    settings = context.settings
    wrapped: ASGIApp = CacheMiddleware(app, context.cache)
    if origins := settings.origins(settings.cors_origins):
        # Credentials are never allowed: a page sends the token itself, as a header.
        wrapped = CORSMiddleware(
            wrapped,
            allow_origins=origins,
            allow_methods=_CORS_METHODS,
            allow_headers=_CORS_REQUEST_HEADERS,
            expose_headers=_CORS_RESPONSE_HEADERS,
        )
    wrapped = HostsMiddleware(wrapped, settings.hosts)
    if settings.base_path:
        wrapped = PrefixMiddleware(wrapped, settings.base_path, app.routes)
    return MetricsMiddleware(HeadersMiddleware(wrapped), context.metrics)


async def _problem(request: Request, error: Exception) -> Response:
    """The problem for an error of the framework: a page for a browser outside of the API, else a document."""
    status = error.status_code if isinstance(error, HTTPException) else None
    if status == HTTPStatus.NOT_FOUND and (redirect := without_slash(request.app.routes, request.scope)):
        return redirect
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        # The framework names the methods of one route only.
        error = method_not_allowed(allowed(request.app.routes, request.scope))
    problem = errors.from_exception(error)
    is_page = not request.url.path.startswith(("/api/", "/media/", "/v1/"))
    if is_page and "text/html" in request.headers.get("accept", ""):
        shown: Pages = request.app.state.pages
        return shown.problem(problem)
    return problem.response()


class Assets(StaticFiles):
    """Styles and scripts. Browsers revalidate them, so that a new version is used at once."""

    def file_response(self, *arguments: object, **keywords: object) -> Response:
        """The file, which must be revalidated."""
        response = super().file_response(*arguments, **keywords)  # type: ignore[arg-type]
        response.headers["cache-control"] = "no-cache"
        return response
