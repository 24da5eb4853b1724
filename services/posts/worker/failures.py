"""Why an attempt failed, and whether another one makes sense."""

import logging
import random

from rpc import errors
from services.posts.models import TaskError

log = logging.getLogger(__name__)

MAX_MESSAGE = 500

# Whoever asks again gets the same answer.
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
    """An attempt failed for a reason that is known; `message` is public."""

    def __init__(self, reason: str, message: str, *, will_retry: bool) -> None:
        """`reason` is a stable name in UPPER_SNAKE_CASE."""
        super().__init__(message)
        self.error = TaskError(reason, message[:MAX_MESSAGE], will_retry)


class GeneratorBusy(Exception):
    """The generator's own queue is full: no fault of the task, the attempt does not count."""

    def __init__(self, retry_after_seconds: float) -> None:
        """The generator said when to come back."""
        super().__init__("the generator's queue is full")
        self.retry_after_seconds = retry_after_seconds


def of_generator(error: errors.RpcError) -> AttemptFailed | GeneratorBusy:
    """What a failed call to the generator means for the task."""
    # Without a time to come back it is not the queue: the request itself may be larger than the generator takes.
    if isinstance(error, errors.ResourceExhausted) and error.retry_after_seconds is not None:
        return GeneratorBusy(min(error.retry_after_seconds, 60.0))
    specific = error.reason if error.reason != error.code.name else ""
    if isinstance(error, _PERMANENT):
        return AttemptFailed(specific or error.code.name, error.message, will_retry=False)
    return AttemptFailed(specific or f"GENERATOR_{error.code.name}", error.message, will_retry=True)


def of_storage(error: errors.RpcError) -> AttemptFailed:
    """What a failed call to storage means for the task: always another attempt, its cause is not in the request."""
    specific = error.reason if error.reason != error.code.name else ""
    return AttemptFailed(specific or f"STORAGE_{error.code.name}", error.message, will_retry=True)


def describe(error: BaseException) -> TaskError:
    """Any exception as the error of an attempt; what is not known is logged and told without its text."""
    if isinstance(error, AttemptFailed):
        return error.error
    log.error("an attempt broke off", exc_info=error)
    return TaskError("INTERNAL", "internal error", will_retry=True)


def backoff_seconds(attempt: int, base: float, cap: float) -> float:
    """Wait after the failure of attempt number `attempt` (from 1): doubling, capped, half of it by chance."""
    return min(cap, base * 2.0 ** min(attempt - 1, 20)) * random.uniform(0.5, 1.0)
