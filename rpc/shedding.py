"""A bound on the calls worked on at once, and what becomes of those that have to wait."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

MAX_WAITING = 256
"""Beyond these a call is refused at once."""

OVERLOAD_SECONDS = 0.1
"""A line that has not been empty for so long is no burst that will pass."""

PATIENCE_SECONDS = 0.1
"""Who has waited so long is refused while there is overload."""


class ConcurrencyLimit:
    """Lets at most `places` callers in at once; others wait in line, or are refused.

    One thread that works on all calls in turn makes every call later with each it takes on, until all answers come
    after their deadlines and nobody is served. A burst is worked off in order. Under overload, which a line shows that
    does not become empty, the newest goes first, since its caller is the one that surely still waits, and the oldest
    are refused: so some are served well instead of all badly. The rules are those of Facebook's servers (B. Maurer,
    "Fail at Scale", ACM Queue 13(8), 2015): controlled delay and adaptive LIFO. Used from one event loop, so it needs
    no lock.
    """

    def __init__(self, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds, for tests."""
        self._free = places
        self._clock = clock
        self._waiting: deque[tuple[asyncio.Future[bool], float]] = deque()
        self._last_empty = clock()

    async def enter(self) -> bool:
        """Take a place, to be left with `leave`; False when the caller is refused."""
        if self._free:
            self._free -= 1
            return True
        if len(self._waiting) >= MAX_WAITING:
            return False
        if not self._waiting:
            self._last_empty = self._clock()
        place: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((place, self._clock()))
        try:
            return await place
        except asyncio.CancelledError:
            # The place may have come in the same moment.
            if place.done() and not place.cancelled() and place.result():
                self.leave()
            raise

    def leave(self) -> None:
        """Give the place to the next in line."""
        now = self._clock()
        overloaded = self._waiting and now - self._last_empty > OVERLOAD_SECONDS
        while self._waiting and overloaded and now - self._waiting[0][1] > PATIENCE_SECONDS:
            self._hand(self._waiting.popleft()[0], is_place=False)
        while self._waiting:
            place, _ = self._waiting.pop() if overloaded else self._waiting.popleft()
            if self._hand(place, is_place=True):
                return
        self._free += 1

    def _hand(self, place: asyncio.Future[bool], *, is_place: bool) -> bool:
        if place.done():  # its caller has gone
            return False
        place.set_result(is_place)
        return True
