"""Errors with a gRPC code, and their conversion to google.rpc.Status and back.

RpcError
├── InvalidArgument      a field is invalid; the error names it
├── OutOfRange           a position is past the end
├── NotFound
├── AlreadyExists
├── FailedPrecondition   the request is valid, but not in the current state
├── Aborted              another call was faster; read the state again
├── ResourceExhausted    a quota or queue is full; may say when to retry
├── Unavailable          retry; may say when
├── DeadlineExceeded
├── Cancelled
├── Unauthenticated
├── PermissionDenied
├── Unimplemented
├── DataLoss
├── Internal             a fault of the server; has a reference id, never the cause
└── Unknown              the peer sent no usable status
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "frontispiece"


@dataclass(frozen=True)
class FieldViolation:
    """An invalid field: its path in the request, and what is wrong with it, with the limit and the unit."""

    field: str
    description: str


class RpcError(Exception):
    """An error that a server sends to its caller.

    `message` is public: the caller receives it unchanged. `reason` is a stable name in UPPER_SNAKE_CASE for programs.
    `retry_after_seconds` is the time after which a retry is useful.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        violations: Sequence[FieldViolation] = (),
        retry_after_seconds: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """`metadata` are public details for programs (google.rpc.ErrorInfo.metadata)."""
        super().__init__(message)
        self.message = message
        self.reason = reason or self.code.name
        self.violations = tuple(violations)
        self.retry_after_seconds = retry_after_seconds
        self.metadata = dict(metadata or {})


class InvalidArgument(RpcError):
    """A field of the request is invalid, whatever the state of the system is."""

    code = grpc.StatusCode.INVALID_ARGUMENT

    @classmethod
    def field(cls, field: str, description: str, *, reason: str = "") -> "InvalidArgument":
        """An error about one field."""
        return cls.fields([FieldViolation(field, description)], reason=reason)

    @classmethod
    def fields(cls, violations: Sequence[FieldViolation], *, reason: str = "") -> "InvalidArgument":
        """An error about several fields. The message names them all."""
        message = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
        return cls(message, reason=reason, violations=violations)


class OutOfRange(RpcError):
    """A position is past the end."""

    code = grpc.StatusCode.OUT_OF_RANGE


class NotFound(RpcError):
    """The requested resource does not exist."""

    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(RpcError):
    """The resource exists already, or its name is in use."""

    code = grpc.StatusCode.ALREADY_EXISTS


class FailedPrecondition(RpcError):
    """The request is valid, but the state of the system does not allow it."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(RpcError):
    """Another call changed the state first. Read the state again before a retry."""

    code = grpc.StatusCode.ABORTED


class ResourceExhausted(RpcError):
    """A quota, queue or disk is full."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(RpcError):
    """The service cannot handle the request now. The same request may succeed later."""

    code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(RpcError):
    """The deadline of the call has passed. Whether the call had an effect is unknown."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Cancelled(RpcError):
    """The caller cancelled the call."""

    code = grpc.StatusCode.CANCELLED


class Unauthenticated(RpcError):
    """The caller has no valid credentials."""

    code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(RpcError):
    """The caller lacks the permission."""

    code = grpc.StatusCode.PERMISSION_DENIED


class Unimplemented(RpcError):
    """The server does not have this method."""

    code = grpc.StatusCode.UNIMPLEMENTED


class DataLoss(RpcError):
    """Data was lost or corrupted and cannot be recovered."""

    code = grpc.StatusCode.DATA_LOSS


class Internal(RpcError):
    """A fault of the server."""

    code = grpc.StatusCode.INTERNAL


class Unknown(RpcError):
    """The peer ended the call without a usable status."""

    code = grpc.StatusCode.UNKNOWN


_CLASSES: dict[grpc.StatusCode, type[RpcError]] = {cls.code: cls for cls in RpcError.__subclasses__()}


def to_status(error: RpcError) -> grpc.Status:
    """The rich status of an error: with ErrorInfo, and with BadRequest and RetryInfo where they apply."""
    details: list[Any] = []

    def attach(
        message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
    ) -> None:
        packed = Any()
        packed.Pack(message)
        details.append(packed)

    attach(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata))
    if error.violations:
        attach(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description)
                    for v in error.violations
                ]
            )
        )
    if error.retry_after_seconds is not None:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after_seconds * 1e9))
        attach(error_details_pb2.RetryInfo(retry_delay=delay))
    code: int = error.code.value[0]
    return rpc_status.to_status(status_pb2.Status(code=code, message=error.message, details=details))


def from_call(call: grpc.aio.AioRpcError) -> RpcError:
    """The RpcError that a failed call carries."""
    cls = _CLASSES.get(call.code(), Unknown)
    message = call.details() or call.code().name
    try:
        status = rpc_status.from_call(call)  # type: ignore[arg-type]  # the stub knows only the sync Call
    except ValueError:  # the code or message of the rich status differs from the plain one
        status = None
    if status is None:
        return cls(message)
    return _decode(cls, message, status)


def _decode(cls: type[RpcError], message: str, status: status_pb2.Status) -> RpcError:
    reason = ""
    metadata: dict[str, str] = {}
    violations: list[FieldViolation] = []
    retry_after: float | None = None
    info, bad_request, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for detail in status.details:
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad_request):
            violations = [FieldViolation(v.field, v.description) for v in bad_request.field_violations]
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    return cls(message, reason=reason, violations=violations, retry_after_seconds=retry_after, metadata=metadata)
