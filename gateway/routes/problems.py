"""The error responses of routes, as OpenAPI describes them."""

from typing import Any

from gateway.errors import PROBLEM_TYPE
from gateway.schemas.problems import ProblemDocument

_DESCRIPTIONS = {
    400: "The body is not JSON.",
    401: "The token is missing or wrong.",
    404: "Not found.",
    408: "The body arrived too slowly.",
    409: "The current state does not allow it, or another call was first; `code` says which.",
    411: "Content-Length is missing.",
    412: "The post was changed: the etag is not the current one.",
    413: "The body is too large.",
    415: "The content type is not accepted.",
    416: "The range starts after the end of the image.",
    422: "A field is invalid; `errors` names each one.",
    429: "Too many requests; see Retry-After.",
    500: "Internal error; the detail has a reference to the log.",
    502: "The task failed.",
    503: "A service is not available; see Retry-After.",
    504: "A service did not respond in time.",
    507: "The disk of the storage service is full.",
}

Responses = dict[int | str, dict[str, Any]]


def problems(*statuses: int) -> Responses:
    """OpenAPI responses for problems with these statuses, and for those that every route can have."""
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    return {
        status: {"description": _DESCRIPTIONS[status], "content": {PROBLEM_TYPE: {"schema": schema}}}
        for status in sorted({*statuses, 500, 503, 504})
    }


READ = problems(422)
EDITOR_READ = problems(401, 422)
WRITE = problems(400, 401, 413, 415, 422)
