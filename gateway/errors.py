"""Errors as RFC 9457 problem documents, and the table from gRPC codes to HTTP status codes."""

import json
import logging
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import grpc
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from rpc import context, errors
from rpc.validation import MAX_VIOLATIONS

log = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"

HTTP_STATUS: dict[grpc.StatusCode, int] = {
    grpc.StatusCode.INVALID_ARGUMENT: 422,
    grpc.StatusCode.OUT_OF_RANGE: 416,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 503,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.DATA_LOSS: 500,
    grpc.StatusCode.UNKNOWN: 502,
}
"""Every gRPC code has an entry; a test checks it."""

STATUS_BY_REASON: dict[str, int] = {
    "IDEMPOTENCY_MISMATCH": 422,  # as draft-ietf-httpapi-idempotency-key-header says
    "STOCK_NOT_CONFIGURED": 422,  # the caller can generate the image instead
    "ETAG_MISMATCH": 412,
    "TRANSACTION_CONFLICT": 503,
    "DISK_FULL": 507,
}
"""Reasons with a more exact HTTP status than that of their gRPC code."""

# Fields of gRPC requests that have another name in REST.
_RENAMED = {"query": "q", "request_id": "Idempotency-Key", "id": "post", "source": "use_generation"}

MAX_NAME = 200
"""The longest name of a field in an error. A longer one was made up by the caller."""

_RETRY_AFTER_SECONDS = {429: 5, 503: 2}


@dataclass(frozen=True)
class FieldError:
    """A wrong field: its name in REST ("" is the whole body), and what is wrong with it."""

    field: str
    message: str


@dataclass
class Problem(Exception):
    """An error as an HTTP response."""

    status: int
    code: str
    detail: str
    errors: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """The problem document."""
        document: dict[str, Any] = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            "errors": [{"field": error.field, "message": error.message} for error in self.errors],
            "request_id": context.request_id.get(),
        }
        return document | dict(self.extra)

    def response(self) -> Response:
        """The response. It is never cached."""
        headers = {"cache-control": "no-store", **self.headers}
        if self.status in _RETRY_AFTER_SECONDS and "retry-after" not in headers:
            headers["retry-after"] = str(_RETRY_AFTER_SECONDS[self.status])
        if self.status == 401:
            headers["www-authenticate"] = 'Bearer realm="frontispiece"'
        # ASCII with escapes, because text of a caller may contain a lone surrogate, which UTF-8 cannot encode.
        body = json.dumps(self.document()).encode("ascii")
        return Response(body, self.status, headers, PROBLEM_TYPE)


def from_rpc(error: errors.RpcError) -> Problem:
    """The problem for an error of the gateway or of a service."""
    status = STATUS_BY_REASON.get(error.reason, HTTP_STATUS.get(error.code, 500))
    if error.code is grpc.StatusCode.FAILED_PRECONDITION and error.violations:
        status = 422  # it names a field that the caller can correct
    headers, extra = {}, {}
    if error.reason == "ETAG_MISMATCH" and (etag := error.metadata.get("etag")):
        headers["etag"] = extra["etag"] = etag
    if error.retry_after_seconds is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_seconds)))
    fields = [FieldError(rest_name(violation.field), violation.description) for violation in error.violations]
    detail = _PUBLIC_DETAIL.get(error.code, _sentence_of(fields) or error.message)
    if error.reason == "IDEMPOTENCY_MISMATCH":
        name, message = rest_name(error.metadata.get("field", "request_id")), "was used before with another body"
        fields, detail = [FieldError(name, message)], f"{name} {message}"
    return Problem(status, error.reason or error.code.name, detail, fields, headers, extra)


# The messages of gRPC itself contain addresses and sockets.
_PUBLIC_DETAIL = {
    grpc.StatusCode.UNAVAILABLE: "a service behind the gateway is not available; try again",
    grpc.StatusCode.DEADLINE_EXCEEDED: "a service behind the gateway did not respond in time",
    grpc.StatusCode.UNKNOWN: "a service behind the gateway failed",
}


def rest_name(path: str) -> str:
    """The name in REST of a field of a gRPC request."""
    path = path.removeprefix("parameters.")
    return _RENAMED.get(path, path)


def _sentence_of(fields: Sequence[FieldError]) -> str:
    return "; ".join(f"{one.field}: {one.message}" if one.field else f"the body {one.message}" for one in fields)


def from_validation(error: RequestValidationError) -> Problem:
    """The problem for a request that does not match its schema. It names the wrong fields, at most MAX_VIOLATIONS."""
    found = error.errors()[:MAX_VIOLATIONS]  # as the services do; a body of 1 MiB can have 50,000 unknown fields
    for item in found:
        if item["type"] == "json_invalid":
            reason = str(item.get("ctx", {}).get("error", "invalid"))
            detail = f"the body is not JSON: {reason} at character {item['loc'][-1]}"
            return Problem(400, "MALFORMED_JSON", detail)
    fields = [FieldError(_field_name(item["loc"]), _message(item)) for item in found]
    return Problem(422, "INVALID_ARGUMENT", _sentence_of(fields), fields)


def _field_name(location: Sequence[int | str]) -> str:
    """`tags[3]` for `("body", "tags", 3)`. A name that the caller made up is shortened."""
    name = ""
    for part in location[1:]:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…"


def _message(item: Mapping[str, Any]) -> str:
    if item["type"] == "missing":
        return "is required"
    if item["type"] == "extra_forbidden":
        return "is not a field of this request"
    if item["type"] in {"model_attributes_type", "model_type", "dict_type"}:
        return "must be a JSON object"
    text = str(item["msg"]).removeprefix("Value error, ")
    for subject in ("Input should ", "String should ", "List should ", "Value should "):
        if text.startswith(subject):
            return "must " + text.removeprefix(subject)
    return text[:1].lower() + text[1:]


_CODES = {
    400: "BAD_REQUEST",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    408: "BODY_TOO_SLOW",
    413: "BODY_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
}
_DETAILS = {404: "this address does not exist", 405: "this address does not support the method"}


def _unreadable(cause: BaseException | None) -> str:
    """Why a body is not JSON that can be read."""
    if isinstance(cause, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(cause, RecursionError):
        return "it is nested too deeply"
    if isinstance(cause, ValueError):
        return "a number has too many digits"
    return "it cannot be parsed"


def from_http(error: HTTPException) -> Problem:
    """The problem for an error of the framework."""
    if error.status_code == 400:  # FastAPI: any error of json.loads but JSONDecodeError
        return Problem(400, "MALFORMED_JSON", f"the body is not JSON: {_unreadable(error.__cause__)}")
    detail = _DETAILS.get(error.status_code, str(error.detail))
    headers = {key.lower(): value for key, value in (error.headers or {}).items()}
    return Problem(error.status_code, _CODES.get(error.status_code, "ERROR"), detail, headers=headers)


def from_exception(error: Exception) -> Problem:
    """The problem for any exception. An unexpected one is logged, and the problem shows only a reference to the log."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, errors.RpcError):
        return from_rpc(error)
    if isinstance(error, grpc.aio.AioRpcError):
        return from_rpc(errors.from_call(error))
    if isinstance(error, RequestValidationError):
        return from_validation(error)
    if isinstance(error, HTTPException):
        return from_http(error)
    reference = uuid.uuid4().hex[:12]
    log.error("unexpected error", extra={"reference": reference}, exc_info=error)
    return Problem(500, "INTERNAL", f"internal error, reference {reference}", extra={"reference": reference})
