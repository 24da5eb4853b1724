"""Exponential backoff with jitter: for loops that run for ever, calls that are repeated, and delays that are stored.

The terms are those of AWS: the ceiling of a delay doubles with each attempt. Full jitter draws the delay from 0 to the
ceiling; equal jitter draws it from half the ceiling to the ceiling.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from rpc.errors import RpcError, Unavailable

T = TypeVar("T")


@dataclass(frozen=True)
class Backoff:
    """How delays grow, from `base_seconds` to `max_seconds`.

    Equal jitter suits a limited number of attempts, which full jitter might spend within a moment.
    """

    base_seconds: float
    max_seconds: float
    jitter: Literal["full", "equal"] = "full"

    def delay(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt` (from 1) has failed."""
        ceiling = min(self.max_seconds, self.base_seconds * 2.0 ** min(max(attempt, 1) - 1, 60))
        return random.uniform(0.0 if self.jitter == "full" else ceiling / 2, ceiling)


class Retries:
    """Counts the failures in succession of a loop."""

    def __init__(self, backoff: Backoff) -> None:
        """Begin with no failures."""
        self.backoff = backoff
        self.failures = 0

    def reset(self) -> None:
        """Note a success."""
        self.failures = 0

    def next_delay(self) -> float:
        """Note a failure. Returns the seconds to wait before the next attempt."""
        self.failures += 1
        return self.backoff.delay(self.failures)

    async def sleep(self, wake: asyncio.Event | None = None) -> None:
        """Note a failure, and wait before the next attempt, at most until `wake` is set."""
        await sleep(self.next_delay(), wake)


async def retry(
    call: Callable[[], Awaitable[T]],
    backoff: Backoff,
    *,
    is_retryable: Callable[[RpcError], bool] = lambda error: isinstance(error, Unavailable),
    timeout_seconds: float = float("inf"),
    max_attempts: int | None = None,
    on_retry: Callable[[RpcError, float], None] | None = None,
) -> T:
    """The result of `call`, repeated while it raises an error that is retryable.

    No attempt begins later than `timeout_seconds` after the first, and there are at most `max_attempts`. A delay is at
    least the `retry_after_seconds` of the error. `on_retry` is called before each repetition, with the error and delay.
    Raises the last error.
    """
    ends = time.monotonic() + timeout_seconds
    retries = Retries(backoff)
    while True:
        try:
            return await call()
        except RpcError as error:
            delay = max(retries.next_delay(), error.retry_after_seconds or 0.0)
            if not is_retryable(error) or retries.failures == max_attempts or time.monotonic() + delay > ends:
                raise
            if on_retry is not None:
                on_retry(error, delay)
        await asyncio.sleep(delay)


async def sleep(seconds: float, wake: asyncio.Event | None = None) -> None:
    """Sleep, at most until `wake` is set."""
    if wake is None:
        await asyncio.sleep(seconds)
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wake.wait()


def jittered(seconds: float, fraction: float = 0.2) -> float:
    """`seconds` more or less `fraction`: the interval of a periodic job that several processes run."""
    return seconds * random.uniform(1 - fraction, 1 + fraction)
