"""Parameters and dependencies that several routes share."""

import uuid
from typing import Annotated, Any

from fastapi import Depends, Header, Path, Request, Response
from fastapi.security import HTTPBearer
from frontispiece.posts.v1 import tasks_pb2
from pydantic import ValidationError

from gateway.context import AppContext, app_context
from gateway.errors import FieldError, Problem
from gateway.middleware.access import require_editor
from gateway.routes.reads import refuse_unknown
from gateway.schemas.base import checked
from gateway.schemas.limits import field_of, openapi_limits

Context = Annotated[AppContext, Depends(app_context)]

bearer = HTTPBearer(auto_error=False, scheme_name="token", description="The admin token.")


async def _editor(_credentials: Annotated[Any, Depends(bearer)]) -> None:
    """Require the token, and show that in OpenAPI. AccessMiddleware has compared it."""
    require_editor()


EDITOR = [Depends(_editor)]

TaskId = Annotated[str, Path(description="Id of the task.", json_schema_extra={"format": "uuid"})]

_KEY = "Idempotency-Key"
_KEY_FIELD = field_of(tasks_pb2.CreateTaskRequest, "request_id")


def _request_id(
    idempotency_key: Annotated[
        str | None,
        Header(
            alias=_KEY,
            description="Makes the call idempotent: the same key with the same body gives the same result.",
            json_schema_extra=openapi_limits(_KEY_FIELD, required=True),
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


async def only_known_query(request: Request) -> None:
    """Refuse a query parameter that the operation does not have, and one that is given twice."""
    if request.query_params:
        operations = request.app.openapi()["paths"][request.scope["route"].path_format]
        operation = operations.get(request.method.lower()) or operations["get"]  # HEAD is not in the document
        refuse_unknown(request, {one["name"] for one in operation.get("parameters", []) if one["in"] == "query"})


async def _if_match(
    if_match: Annotated[
        str,
        Header(
            alias="If-Match",
            description="The etag that you have, with its quotes. If it is not the current one, 412.",
            json_schema_extra={"pattern": "^[^,]*$"},
        ),
    ] = "",
) -> str:
    """The etag in If-Match; empty for none and for `*`. A weak one counts: a proxy that compresses weakens it."""
    etag = if_match.strip().removeprefix("W/")
    if "," in etag:
        message = "must be one etag"
        raise Problem(422, "INVALID_ARGUMENT", f"If-Match: {message}", [FieldError("If-Match", message)])
    return "" if etag == "*" else etag


IfMatch = Annotated[str, Depends(_if_match)]


def tell_etag(response: Response, etag: str) -> None:
    """Set the ETag of a response."""
    if etag:
        response.headers["etag"] = etag
