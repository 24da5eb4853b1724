"""Why an attempt failed, and whether another one is useful."""

import logging

from frontispiece.posts.v1 import tasks_pb2 as t

from rpc import errors

log = logging.getLogger(__name__)

MAX_MESSAGE = 500

# The same request would get the same response again.
_PERMANENT = (
    errors.InvalidArgument,
    errors.FailedPrecondition,
    errors.NotFound,
    errors.OutOfRange,
    errors.PermissionDenied,
    errors.Unauthenticated,
    errors.Unimplemented,
)


class AttemptFailed(Exception):
    """An attempt failed for a known reason. `message` is public."""

    def __init__(self, reason: str, message: str, *, will_retry: bool) -> None:
        """`reason` is a stable name in UPPER_SNAKE_CASE."""
        super().__init__(message)
        self.error = t.TaskError(reason=reason, message=message[:MAX_MESSAGE], will_retry=will_retry)


class GeneratorBusy(Exception):
    """The queue of the generator is full. The attempt does not count."""

    def __init__(self, retry_after_seconds: float) -> None:
        """`retry_after_seconds` as the generator asked for."""
        super().__init__("the queue of the generator is full")
        self.retry_after_seconds = retry_after_seconds


def of_generator(error: errors.RpcError) -> AttemptFailed | GeneratorBusy:
    """What a failed call to the generator means for the task."""
    # Without a delay it is not the queue: the request itself may be larger than the generator accepts.
    if isinstance(error, errors.ResourceExhausted) and error.retry_after_seconds is not None:
        return GeneratorBusy(min(error.retry_after_seconds, 60.0))
    specific = error.reason if error.reason != error.code.name else ""
    if isinstance(error, _PERMANENT):
        return AttemptFailed(specific or error.code.name, error.message, will_retry=False)
    return AttemptFailed(specific or f"GENERATOR_{error.code.name}", error.message, will_retry=True)


def of_storage(error: errors.RpcError) -> AttemptFailed:
    """What a failed call to storage means for the task: another attempt, because the cause is not in the request."""
    specific = error.reason if error.reason != error.code.name else ""
    return AttemptFailed(specific or f"STORAGE_{error.code.name}", error.message, will_retry=True)


def describe(error: BaseException) -> t.TaskError:
    """Any exception as the error of an attempt. An unexpected one is logged, and its text is not published."""
    if isinstance(error, AttemptFailed):
        return error.error
    log.error("an attempt failed unexpectedly", exc_info=error)
    return t.TaskError(reason="INTERNAL", message="internal error", will_retry=True)
