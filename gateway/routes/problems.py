"""The errors of each kind of route, as OpenAPI shows them, and the parameters that several routes share."""

import uuid
from typing import Annotated, Any

from fastapi import Depends, Header, Path
from fastapi.security import HTTPBearer

from gateway.auth import require_editor
from gateway.errors import PROBLEM_TYPE, FieldError, Problem
from gateway.schemas.capabilities import ProblemDocument
from gateway.schemas.text import is_uuid

_DESCRIPTIONS = {
    400: "The body is not JSON.",
    401: "The token is missing or wrong.",
    404: "There is no such thing.",
    408: "The body came too slowly.",
    409: "The state of things does not allow it, or somebody was first.",
    411: "The size of the body is not announced.",
    412: "The etag is not the current one.",
    413: "The body is too large.",
    415: "The body is not declared as what it must be: JSON, or an image where one is uploaded.",
    422: "A field is wrong; `errors` names it.",
    429: "Too much at once; see Retry-After.",
    500: "A bug; the detail holds a reference to the log.",
    502: "The task failed.",
    503: "A service does not answer; see Retry-After.",
    504: "A service did not answer in time.",
    507: "The disk of storage is full.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI descriptions of the problems with these statuses, besides those that any route may have."""
    return {
        status: {
            "description": _DESCRIPTIONS[status],
            "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status in sorted({*statuses, 500, 503, 504})
    }


READ = problems(422)
EDITOR_READ = problems(401, 422)
WRITE = problems(400, 401, 413, 415, 422)
SCHEMA = ProblemDocument

bearer = HTTPBearer(auto_error=False, scheme_name="token", description="The admin token.")


def _editor(_credentials: Annotated[Any, Depends(bearer)]) -> None:
    """Shows the token in OpenAPI and asks for it; gateway.edge has compared it."""
    require_editor()


EDITOR = [Depends(_editor)]


def _request_id(
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Makes the call safe to repeat: the same key and body give the same result.",
            min_length=1,
            max_length=255,
        ),
    ] = None,
) -> str:
    """The key given, or a fresh one, so that gRPC's own retries never do a thing twice."""
    if idempotency_key is None:
        return str(uuid.uuid4())
    if not all("\x21" <= character <= "\x7e" for character in idempotency_key):
        message = "must be visible ASCII characters"
        raise Problem(
            422,
            "INVALID_ARGUMENT",
            f"Idempotency-Key: {message}",
            [FieldError("Idempotency-Key", message)],
        )
    return idempotency_key


RequestId = Annotated[str, Depends(_request_id)]


def _task_id(task_id: Annotated[str, Path(description="The task's id.")]) -> str:
    return known_uuid(task_id, "task")


def known_uuid(value: str, thing: str) -> str:
    """`value` in lower case; what is no UUID names nothing: 404."""
    if not is_uuid(value):
        raise Problem(404, f"{thing.upper()}_NOT_FOUND", f"there is no such {thing}")
    return value.lower()


TaskId = Annotated[str, Depends(_task_id)]
