"""Streams that tell caches that something has changed."""

import asyncio
from collections.abc import AsyncIterator

from rpc import errors

MAX_STREAMS = 200
"""One for each gateway process."""

_TOGETHER_SECONDS = 0.005


class ChangeFeed:
    """All open streams of this process."""

    def __init__(self) -> None:
        """Nothing has changed yet."""
        self._number = 0
        self._changed = asyncio.Event()
        self._streams = 0
        self._closed = False

    def announce(self) -> None:
        """Something has changed, or may have."""
        self._number += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def close(self) -> None:
        """End all streams with Unavailable. Their callers continue at another process."""
        self._closed = True
        self.announce()

    async def watch(self) -> AsyncIterator[None]:
        """One item at once, and one after each change. Changes within a few milliseconds share one.

        Raises ResourceExhausted for too many streams, and Unavailable when this process stops.
        """
        if self._streams >= MAX_STREAMS:
            raise errors.ResourceExhausted(f"there are {MAX_STREAMS} streams already", reason="TOO_MANY_STREAMS")
        self._streams += 1
        try:
            while not self._closed:
                seen = self._number
                yield
                while self._number == seen:
                    await self._changed.wait()
                await asyncio.sleep(_TOGETHER_SECONDS)
        finally:
            self._streams -= 1
        raise errors.Unavailable("the server stops", reason="SHUTTING_DOWN", retry_after_seconds=0.5)
