"""The OpenAPI document: FastAPI's, with the routes that are not FastAPI's."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.errors import PROBLEM_TYPE
from gateway.schemas.capabilities import ProblemDocument

DESCRIPTION = """\
A prompt becomes the picture of a published post.

Writes need the admin token (`Authorization: Bearer …`); published posts and images do not. Every error is an RFC 9457
problem document: `code` is stable, `errors` names the fields, `request_id` finds the log lines. Lists are paged with
`page_size` and `page_token`; times are RFC 3339.
"""


def _problem(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {"description": description, "content": {PROBLEM_TYPE: {"schema": schema}}}


def _parameter(name: str, place: str, description: str, kind: str = "string") -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description,
        "schema": {"type": kind},
    }


def _events() -> dict[str, Any]:
    return {
        "tags": ["tasks"],
        "summary": "Follow a task",
        "operationId": "task_events",
        "description": (
            "Server-sent events. Stored events (`queued`, `generating`, `awaiting_approval`, `failed`, `cancelled`, "
            "`approved`, `rejected`, `image`) have an `id`, their sequence; `progress` and `preview` have none. `data` "
            "is JSON with `task_id`, `sequence`, `time`, `terminal` and what belongs to the event. The stream ends "
            "after the event with `terminal: true`; a comment every 15 seconds shows that it is alive."
        ),
        "security": [{"token": []}],
        "parameters": [
            _parameter("task_id", "path", "The task's id."),
            _parameter("Last-Event-ID", "header", "Only stored events after this sequence.", "integer"),
            _parameter("after", "query", "The same, where headers cannot be sent.", "integer"),
        ],
        "responses": {
            "200": {"description": "The events.", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
            "401": _problem("The token is missing or wrong."),
            "404": _problem("There is no such task."),
            "422": _problem("`Last-Event-ID` or `after` is no sequence."),
            "429": _problem("Too many event streams are open."),
        },
    }


def _media() -> dict[str, Any]:
    image = {
        kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/png", "image/jpeg", "image/webp")
    }
    return {
        "tags": ["media"],
        "summary": "Read an image",
        "operationId": "media",
        "description": "The bytes of an image, with ETag (its SHA-256), conditional requests and ranges; also HEAD.",
        "parameters": [
            _parameter("key", "path", "The image's key; it may hold slashes."),
            _parameter("Range", "header", "One range of bytes."),
            _parameter("If-None-Match", "header", "The ETag you have."),
        ],
        "responses": {
            "200": {"description": "The image.", "content": image},
            "206": {"description": "A part of it.", "content": image},
            "302": {"description": "The image is elsewhere."},
            "304": {"description": "You have it."},
            "404": _problem("There is no such image."),
            "416": _problem("The range starts past the end."),
        },
    }


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `app`, made once."""
    if app.openapi_schema is None:
        made = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        made["paths"]["/api/tasks/{task_id}/events"] = {"get": _events()}
        made["paths"]["/media/{key}"] = {"get": _media()}
        for path in ("/api/posts", "/api/posts/{post}"):
            made["paths"][path]["get"]["security"] = [{}, {"token": []}]  # drafts need the token
        schemas = made["components"]["schemas"]
        schemas["ProblemDocument"] = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schemas["ProblemDocument"].pop("$defs", {})
        schemas.pop("HTTPValidationError", None)  # FastAPI's own shape, which nothing here answers
        schemas.pop("ValidationError", None)
        app.openapi_schema = made
    return app.openapi_schema
