"""A circuit breaker: after failures in a row, leave the other side alone for a while."""

import time

FAILURES = 3
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 30.0


class Breaker:
    """Counts failures in a row. It helps where a health check passes and the real thing fails all the same."""

    def __init__(self) -> None:
        """Closed: calls pass."""
        self._failures = 0
        self._open_until = 0.0

    @property
    def closed(self) -> bool:
        """Whether a call may be tried."""
        return time.monotonic() >= self._open_until

    def succeeded(self) -> None:
        """A call has succeeded."""
        self._failures = 0
        self._open_until = 0.0

    def failed(self) -> None:
        """A call has failed; from the third in a row on, each doubles the pause."""
        self._failures += 1
        if self._failures >= FAILURES:
            pause = FIRST_PAUSE_SECONDS * 2.0 ** min(10, self._failures - FAILURES)
            self._open_until = time.monotonic() + min(LONGEST_PAUSE_SECONDS, pause)
