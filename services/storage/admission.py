"""A limit on the bytes of uploads that have come and are not stored yet."""

from rpc.errors import Unavailable

_RETRY_SECONDS = 1.0


class Admission:
    """Admits bytes while their sum is below the limit. For one event loop only: it has no lock."""

    def __init__(self, limit_bytes: int) -> None:
        """`limit_bytes` is the most that uploads may hold at once."""
        self._limit = limit_bytes
        self._held = 0

    @property
    def held_bytes(self) -> int:
        """The bytes that are held now."""
        return self._held

    def hold(self, size_bytes: int) -> None:
        """Count bytes that have come, not those that were announced. Raises Unavailable if the limit is reached."""
        if self._held + size_bytes > self._limit:
            raise Unavailable(
                "too many uploads are in progress", reason="UPLOADS_BUSY", retry_after_seconds=_RETRY_SECONDS
            )
        self._held += size_bytes

    def release(self, size_bytes: int) -> None:
        """Count no longer what was held."""
        self._held -= size_bytes
