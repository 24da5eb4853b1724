"""The application: middleware, routes, and what they share."""

import os
from importlib.metadata import version

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from gateway import errors, openapi
from gateway.auth import Authenticator
from gateway.clients import Clients
from gateway.cors import CorsPolicy
from gateway.edge import Bodies, Edge
from gateway.metrics import GatewayMetrics
from gateway.rendering import WEB, Pages
from gateway.routes import events, generate, media, operations, pages, posts, shelves, tasks, uploads
from gateway.routes.plain import PlainRoute
from gateway.settings import GatewaySettings
from gateway.state import Gateway
from gateway.watching import TaskWatcher


def create_app(settings: GatewaySettings, clients: Clients, token: str) -> FastAPI:
    """The gateway as an ASGI application. `app.state.gateway` is what its routes share."""
    app = FastAPI(
        title=settings.site_title, version=version("frontispiece"), docs_url=None, redoc_url=None, openapi_url=None
    )
    metrics = GatewayMetrics()
    app.state.gateway = Gateway(settings, clients, metrics, TaskWatcher(clients, metrics))
    app.state.pages = Pages(settings)
    app.add_middleware(
        Edge,
        authenticator=Authenticator(token),
        cors=CorsPolicy(settings.origins(settings.cors_origins)),
        metrics=metrics,
        bodies=Bodies(settings.max_body_bytes),
        uploads={uploads.PATH: Bodies(settings.max_upload_bytes, uploads.CONTENT_TYPES)},
        request_seconds=settings.request_seconds,
        client_seconds=settings.client_seconds,
    )
    errors.install(app)
    app.add_exception_handler(HTTPException, _http_error)
    # Bytes and events are plain routes, before the others: /api/tasks/{task_id}/events has no business in FastAPI.
    app.router.routes.extend([events.route, media.route, *pages.routes])
    app.router.routes.append(PlainRoute("/openapi.json", _openapi, methods=["GET"]))
    app.router.routes.append(PlainRoute("/static/{path:path}", Assets(directory=WEB / "static")))
    for module in (generate, uploads, tasks, posts, shelves, operations):
        app.include_router(module.router)
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]  # as FastAPI's manual says
    return app


async def _openapi(request: Request) -> Response:
    return JSONResponse(request.app.openapi(), headers={"cache-control": "no-cache"})


async def _http_error(request: Request, error: Exception) -> Response:
    """A problem; as a page where a person in a browser asked for one."""
    problem = errors.from_exception(error)
    is_page = not request.url.path.startswith(("/api/", "/media/", "/v1/"))
    if is_page and "text/html" in request.headers.get("accept", ""):
        shown: Pages = request.app.state.pages
        return shown.problem(problem)
    return problem.response()


class Assets(StaticFiles):
    """Styles and scripts; browsers ask each time whether they changed, so that a new version shows at once."""

    def file_response(self, *arguments: object, **keywords: object) -> Response:
        """The file, to be revalidated."""
        response = super().file_response(*arguments, **keywords)  # type: ignore[arg-type]
        response.headers["cache-control"] = "no-cache"
        return response

    def get_path(self, scope: Scope) -> str:
        """The file's path below the folder."""
        path: str = scope["path_params"]["path"]
        return os.path.normpath(os.path.join(*path.split("/")))
