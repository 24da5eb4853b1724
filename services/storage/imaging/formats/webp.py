"""WebP: the RIFF container and its chunks, still images only, without decoding anything."""

import struct

from services.storage.imaging.formats.base import check_dimensions, refused
from services.storage.models import ImageInfo

_HEAD_BYTES = 10  # of a chunk's content: as many as the dimensions need
_PICTURES = frozenset({b"VP8 ", b"VP8L"})
_ALLOWED = _PICTURES | {b"VP8X", b"ALPH", b"ICCP", b"EXIF", b"XMP "}


class WebpReader:
    """Follows the chunks of a WebP."""

    def __init__(self, size_bytes: int) -> None:
        """`size_bytes`: of the whole file, as declared."""
        self._size = size_bytes
        self._position = 0
        self._head_position = 0  # of the last chunk whose head was read
        self._canvas: tuple[int, int] | None = None
        self._picture: tuple[int, int] | None = None

    def advance(self, buffer: memoryview) -> None:
        """Check the container and the chunks whose heads have arrived."""
        if not self._position:
            if len(buffer) < 12:
                return
            if struct.unpack_from("<I", buffer, 4)[0] != self._size - 8:
                raise refused("the RIFF size of the WebP is not that of the file")
            self._position = 12
        while self._position < self._size and self._read_chunk(buffer):
            pass

    def finish(self) -> ImageInfo:
        """What the WebP is."""
        if self._position != self._size or self._picture is None:
            raise refused("the WebP is truncated")
        return ImageInfo("image/webp", *self._picture)

    def _read_chunk(self, buffer: memoryview) -> bool:
        """Check one chunk and move past it; False: more bytes are needed."""
        start = self._position
        if len(buffer) < start + 8:
            return False
        kind, length = struct.unpack_from("<4sI", buffer, start)
        end = start + 8 + length + (length & 1)
        if kind not in _ALLOWED:
            raise refused(f"WebP chunks of type {kind!r} are not taken")
        if end > self._size:
            raise refused("a WebP chunk reaches past the end")
        if len(buffer) < min(end, start + 8 + _HEAD_BYTES):
            return False
        if self._head_position != start:
            self._head_position = start
            self._read_content(kind, bytes(buffer[start + 8 : start + 8 + min(length, _HEAD_BYTES)]))
        if len(buffer) < end:
            return False
        self._position = end
        return True

    def _read_content(self, kind: bytes, head: bytes) -> None:
        if kind in _PICTURES:
            self._read_picture(kind, head)
        elif kind == b"VP8X":
            if self._canvas or self._picture or len(head) < 10 or head[0] & 0x02:
                raise refused("the VP8X chunk of the WebP is damaged, or the WebP is animated")
            width, height = (int.from_bytes(head[at : at + 3], "little") + 1 for at in (4, 7))
            check_dimensions(width, height)
            self._canvas = width, height

    def _read_picture(self, kind: bytes, head: bytes) -> None:
        picture = _lossy(head) if kind == b"VP8 " else _lossless(head)
        if self._picture is not None:
            raise refused("the WebP has more than one picture")
        check_dimensions(*picture)
        if self._canvas not in (None, picture):
            raise refused("the canvas of the WebP is not as large as its picture")
        self._picture = picture


def _lossy(head: bytes) -> tuple[int, int]:
    if len(head) < 10 or head[0] & 1 or head[3:6] != b"\x9d\x01\x2a":
        raise refused("the VP8 picture of the WebP is damaged")
    width, height = struct.unpack_from("<HH", head, 6)
    return width & 0x3FFF, height & 0x3FFF


def _lossless(head: bytes) -> tuple[int, int]:
    if len(head) < 5 or head[0] != 0x2F:
        raise refused("the VP8L picture of the WebP is damaged")
    bits = int.from_bytes(head[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
