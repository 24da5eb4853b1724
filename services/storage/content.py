"""The bytes of an image in an open file."""

import hashlib
import io
import os
from collections.abc import Iterator
from typing import Any

PIECE_BYTES = 256 * 1024


class Content(io.RawIOBase):
    """A view of an open file that cannot be written, with a position of its own. Closing it closes no other view.

    So a call that was cancelled may still read while another one begins, and no image is in memory as a whole.
    """

    def __init__(self, descriptor: int) -> None:
        """View the file that `descriptor` reads, which may be closed afterwards."""
        self._descriptor = os.dup(descriptor)
        self._position = 0

    @property
    def size(self) -> int:
        """The size in bytes."""
        return os.fstat(self._descriptor).st_size

    def copy(self) -> "Content":
        """Another view, at the begin."""
        return Content(self._descriptor)

    def pieces(self) -> Iterator[bytes]:
        """All bytes, in pieces of at most PIECE_BYTES. The position does not change."""
        position = 0
        while piece := os.pread(self._descriptor, PIECE_BYTES, position):
            position += len(piece)
            yield piece

    def sha256(self) -> str:
        """The SHA-256 of all bytes, in lower-case hex."""
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read at the position."""
        count = os.preadv(self._descriptor, [buffer], self._position)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position."""
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def close(self) -> None:
        """Close this view."""
        if not self.closed:
            os.close(self._descriptor)
        super().close()
