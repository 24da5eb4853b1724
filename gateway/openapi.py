"""The OpenAPI document: that of FastAPI with our own error shape."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.schemas.problems import ProblemDocument

DESCRIPTION = """\
Generates images for posts, and publishes the posts.

Writes need the admin token (`Authorization: Bearer …`). Published posts and images are public. Every error is an
RFC 9457 problem document: `code` is stable, `errors` names the invalid fields, `request_id` identifies the request in
the logs. Lists have pages (`page_size`, `page_token`). Times are RFC 3339.
"""


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of `app`. It is created once."""
    if app.openapi_schema is None:
        created = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        schemas = created["components"]["schemas"]
        schemas["ProblemDocument"] = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schemas["ProblemDocument"].pop("$defs", {})
        schemas.pop("HTTPValidationError", None)  # the error shapes of FastAPI, which are not used
        schemas.pop("ValidationError", None)
        app.openapi_schema = created
    return app.openapi_schema
