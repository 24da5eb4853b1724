"""A limit on the bytes of uploads that are in memory at once."""

from collections.abc import Iterator
from contextlib import contextmanager

from rpc.errors import Unavailable

_RETRY_SECONDS = 1.0


class Admission:
    """Admits uploads while their sum is below the limit. For one event loop only: it has no lock."""

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes` is the most that uploads may hold at once."""
        self._limit = limit_bytes
        self._held = 0

    @contextmanager
    def hold(self, size_bytes: int) -> Iterator[None]:
        """Count one upload for the length of the block. Raises Unavailable if the limit is reached."""
        if self._held + size_bytes > self._limit:
            raise Unavailable(
                "too many uploads are in progress", reason="UPLOADS_BUSY", retry_after_seconds=_RETRY_SECONDS
            )
        self._held += size_bytes
        try:
            yield
        finally:
            self._held -= size_bytes
