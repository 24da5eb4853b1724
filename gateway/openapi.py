"""The OpenAPI document: that of FastAPI with our own error shape, and in the form that generators of clients need."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from gateway.codes import CODES
from gateway.schemas.events import EVENTS
from gateway.schemas.images import UPLOAD_FORM
from gateway.schemas.problems import ProblemDocument

DESCRIPTION = """\
Generates images for posts, and publishes the posts.

Writes need the admin token (`Authorization: Bearer …`). Published posts and images are public. Every error is an
RFC 9457 problem document: `code` is stable, `errors` names the invalid fields, `request_id` identifies the request in
the logs. Lists have pages (`page_size`, `page_token`). Times are RFC 3339.
"""

_TAGS = {
    "media": "Images: generate, upload, read.",
    "tasks": "The queue of images to generate, and the decisions of editors.",
    "posts": "Posts with an image.",
    "authors, categories, tags": "What posts are sorted by.",
    "operations": "The state of the system.",
}


def document(app: FastAPI, base_url: str) -> dict[str, Any]:
    """The OpenAPI document of `app`, which clients reach at `base_url`. It is created once."""
    if app.openapi_schema is None:
        created = get_openapi(
            title=app.title,
            version=app.version,
            description=DESCRIPTION,
            routes=app.routes,
            servers=[{"url": base_url}],
            tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
            license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        )
        _add_schemas(created["components"]["schemas"])
        order = list(_TAGS)
        paths = created["paths"]
        for path in paths.values():
            for operation in path.values():
                _tidy(operation)
        # The paths of a group stand together, in the order of the groups.
        created["paths"] = dict(sorted(paths.items(), key=lambda item: order.index(_tag(item[1]))))
        app.openapi_schema = created
    return app.openapi_schema


def _tag(path: dict[str, Any]) -> str:
    return str(next(iter(path.values()))["tags"][0])


def _add_schemas(schemas: dict[str, Any]) -> None:
    models: list[tuple[Any, JsonSchemaMode]] = [(one, "serialization") for one in (ProblemDocument, *EVENTS)]
    _, found = models_json_schema(models, ref_template="#/components/schemas/{model}")
    schemas |= found["$defs"]
    schemas["UploadForm"] = UPLOAD_FORM
    schemas["ProblemDocument"]["properties"]["code"]["x-extensible-enum"] = sorted(CODES)
    for name in ("HTTPValidationError", "ValidationError"):  # the error shapes of FastAPI, which are not used
        schemas.pop(name, None)


def _tidy(operation: dict[str, Any]) -> None:
    """Say of each operation who may call it; responses in order; no defaults, which generated clients would send."""
    security = operation.get("security", [])
    operation["security"] = [one for index, one in enumerate(security) if one not in security[:index]]
    operation["responses"] = dict(sorted(operation["responses"].items()))
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        schema.pop("default", None)
        schema.pop("description", None)  # the parameter has it
        for alternative in schema.pop("anyOf", []):
            if alternative != {"type": "null"}:  # a parameter is absent, never null
                schema |= alternative
