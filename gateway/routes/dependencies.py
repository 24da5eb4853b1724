"""Parameters and dependencies that several routes share."""

import uuid
from typing import Annotated, Any

from fastapi import Depends, Header, Path
from fastapi.security import HTTPBearer
from frontispiece.posts.v1 import tasks_pb2
from pydantic import ValidationError

from gateway.context import AppContext, app_context
from gateway.errors import FieldError, Problem
from gateway.middleware.access import require_editor
from gateway.schemas.base import checked
from gateway.schemas.limits import field_of, openapi_limits

Context = Annotated[AppContext, Depends(app_context)]

bearer = HTTPBearer(auto_error=False, scheme_name="token", description="The admin token.")


def _editor(_credentials: Annotated[Any, Depends(bearer)]) -> None:
    """Require the token, and show that in OpenAPI. AccessMiddleware has compared it."""
    require_editor()


EDITOR = [Depends(_editor)]

TaskId = Annotated[str, Path(description="Id of the task.")]

_KEY = "Idempotency-Key"
_KEY_FIELD = field_of(tasks_pb2.CreateTaskRequest, "request_id")


def _request_id(
    idempotency_key: Annotated[
        str | None,
        Header(
            description="Makes the call idempotent: the same key with the same body gives the same result.",
            json_schema_extra=openapi_limits(_KEY_FIELD),
        ),
    ] = None,
) -> str:
    """The key of the caller, else a new one, so that a retry by gRPC is idempotent as well."""
    if idempotency_key is None:
        return str(uuid.uuid4())
    try:
        checked(tasks_pb2.CreateTaskRequest, _KEY_FIELD.name, idempotency_key)
        problem = "" if idempotency_key else "must not be empty"
    except ValidationError as error:
        problem = error.errors()[0]["msg"]
    if problem:
        raise Problem(422, "INVALID_ARGUMENT", f"{_KEY}: {problem}", [FieldError(_KEY, problem)])
    return idempotency_key


RequestId = Annotated[str, Depends(_request_id)]
