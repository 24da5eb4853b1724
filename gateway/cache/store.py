"""Values that are younger than a second and that no change has made obsolete, bounded in number and bytes."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

MAX_AGE_SECONDS = 1.0
"""The greatest age of a value, counted from the moment when its reads began."""

_MAX_ENTRIES = 4096
_MAX_SHARE = 4
"""A value larger than this part of the cache is not kept: it would drive everything else out."""


class Kept:
    """A value that may be kept. `size`: what it costs in memory, in bytes."""

    size: int = 0


@dataclass
class Memo(Kept):
    """A part that several answers share."""

    value: Any
    size: int = 1024


T = TypeVar("T")

_began: ContextVar[list[float] | None] = ContextVar("began", default=None)
"""When the oldest read of the value that is being made began: a value made from kept ones is as old as they are."""


@dataclass
class _Entry:
    value: Any
    began: float


@dataclass
class _Flight:
    task: "asyncio.Task[_Entry]"
    began: float
    generation: int


class Cache:
    """Keeps values by key. `drop` makes all of them obsolete, and those that are being made as well.

    Callers that miss the same key at the same time share one call. An exception is not kept, but all who wait get it.
    """

    def __init__(self, max_bytes: int, max_entries: int = _MAX_ENTRIES) -> None:
        """Keep at most `max_bytes` and `max_entries`. 0 bytes: keep nothing and share nothing."""
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._flights: dict[Hashable, _Flight] = {}
        self._generation = 0
        self.bytes = 0

    def __len__(self) -> int:
        """The number of values, obsolete ones included."""
        return len(self._entries)

    def fresh(self, key: Hashable) -> Any:
        """The value of `key`; None if there is none that may be used."""
        entry = self._fresh(key)
        return None if entry is None else entry.value

    def _fresh(self, key: Hashable) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        if time.monotonic() - entry.began >= MAX_AGE_SECONDS:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def drop(self) -> None:
        """Something has changed: forget all values, and those on their way."""
        self._generation += 1
        self._entries.clear()
        self.bytes = 0

    async def get(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """The value of `key`, else that of `make`, which is kept if it is a Kept. Raises what `make` raises."""
        if not self._max_bytes:
            return await make()
        entry = self._fresh(key) or await self._shared(key, make)
        if (oldest := _began.get()) is not None:
            oldest[0] = min(oldest[0], entry.began)
        value: T = entry.value
        return value

    async def _shared(self, key: Hashable, make: Callable[[], Awaitable[Any]]) -> _Entry:
        flight = self._flights.get(key)
        if flight is None or not self._may_join(flight):
            flight = _Flight(asyncio.create_task(self._fill(key, make)), time.monotonic(), self._generation)
            flight.task.add_done_callback(_retrieve)
            self._flights[key] = flight
        return await asyncio.shield(flight.task)  # one reader who leaves does not end it for the others

    def _may_join(self, flight: _Flight) -> bool:
        return flight.generation == self._generation and time.monotonic() - flight.began < MAX_AGE_SECONDS

    async def _fill(self, key: Hashable, make: Callable[[], Awaitable[Any]]) -> _Entry:
        generation, oldest = self._generation, [time.monotonic()]
        _began.set(oldest)  # of this task only
        try:
            value = await make()
            entry = _Entry(value, oldest[0])
            if isinstance(entry.value, Kept) and generation == self._generation:
                self._keep(key, entry)
            return entry
        finally:
            flight = self._flights.get(key)
            if flight is not None and flight.task is asyncio.current_task():
                del self._flights[key]

    def _keep(self, key: Hashable, entry: _Entry) -> None:
        size = entry.value.size
        if size > self._max_bytes // _MAX_SHARE:
            return
        self._remove(key)
        self._entries[key] = entry
        self.bytes += size
        while self.bytes > self._max_bytes or len(self._entries) > self._max_entries:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.value.size


def _retrieve(task: "asyncio.Task[Any]") -> None:
    """Take the exception of a task whose readers have all left, so that asyncio does not complain."""
    if not task.cancelled():
        task.exception()
