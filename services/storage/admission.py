"""A bound on the bytes of uploads held in memory at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from rpc.errors import Unavailable

_RETRY_SECONDS = 1.0


class Admission:
    """Lets uploads in while there is room. Used from one event loop, so it needs no lock."""

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes`: the most that is held at once."""
        self._limit = limit_bytes
        self._held = 0

    @contextmanager
    def hold(self, size_bytes: int) -> Iterator[None]:
        """Hold room for one upload. Raises Unavailable when there is none: the caller retries, perhaps elsewhere."""
        if self._held + size_bytes > self._limit:
            raise Unavailable("too many uploads at once", reason="UPLOADS_BUSY", retry_after_seconds=_RETRY_SECONDS)
        self._held += size_bytes
        try:
            yield
        finally:
            self._held -= size_bytes
