"""The error responses of routes, as OpenAPI describes them."""

from typing import Any

from gateway.errors import PROBLEM_TYPE
from gateway.schemas.problems import ProblemDocument

_DESCRIPTIONS = {
    400: "The body cannot be read.",
    401: "The token is missing or wrong.",
    404: "Not found.",
    408: "The body arrived too slowly.",
    409: "The current state does not allow it, or another call was first; `code` says which.",
    412: "It was changed: If-Match is not the current etag, which the response has.",
    413: "The body is too large.",
    415: "The content type is not accepted.",
    416: "The range starts after the end of the image.",
    422: "A field is invalid; `errors` names each one.",
    429: "Too many requests; see Retry-After.",
    500: "Internal error; the detail has a reference to the log.",
    502: "A service failed; of generate-image: the task failed.",
    503: "A service is not available; see Retry-After.",
    504: "A service did not respond in time.",
    507: "A disk of the system is full.",
}

Responses = dict[int | str, dict[str, Any]]


def problems(*statuses: int) -> Responses:
    """OpenAPI responses for problems with these statuses, and for those that every route can have."""
    return {status: problem(status) for status in sorted({*statuses, 429, 500, 502, 503, 504})}


def problem(status: int) -> dict[str, Any]:
    """The OpenAPI response for problems with this status."""
    schema = {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}
    return {"description": _DESCRIPTIONS[status], "content": {PROBLEM_TYPE: {"schema": schema}}}


def created(what: str) -> Responses:
    """The OpenAPI response 201 with the address of what was created."""
    return {201: {"description": "Created.", "headers": {"Location": _header(f"The path of {what}.")}}}


def with_etag(status: int, description: str = "Done.") -> Responses:
    """The OpenAPI response of something that has an etag."""
    return {status: {"description": description, "headers": {"ETag": _header("Its etag, for If-Match.")}}}


def _header(description: str) -> dict[str, Any]:
    return {"description": description, "required": True, "schema": {"type": "string"}}


READ = problems(401, 422)
EDITOR_READ = READ
CHANGE = problems(401, 408, 413, 415, 422)
"""A write without a body, and what happens if it has one."""
WRITE = problems(400, 401, 408, 413, 415, 422)
