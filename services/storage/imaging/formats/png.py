"""PNG: every chunk's place, length, type and CRC, without inflating anything."""

import struct
import zlib

from services.storage.imaging.formats.base import check_dimensions, refused
from services.storage.models import ImageInfo

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_MAX_TEXT_BYTES = 64 * 1024
_TEXT = frozenset({b"tEXt", b"iTXt"})
# Compressed text (zTXt) is refused: 47 KB of it inflate to 50 MB in some readers. Animation chunks too: one picture.
_ALLOWED = _TEXT | {
    b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI",
    b"pHYs", b"sBIT", b"bKGD", b"hIST", b"sPLT", b"tIME", b"eXIf", b"caBX",
}  # fmt: skip
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


class PngReader:
    """Follows the chunks of a PNG."""

    def __init__(self, size_bytes: int) -> None:
        """`size_bytes`: of the whole file, as declared."""
        self._size = size_bytes
        self._position = len(SIGNATURE)  # of the chunk that is not checked yet
        self._width = self._height = 0
        self._text_bytes = 0
        self._has_data = self._ended = False
        self._crc = 0
        self._crc_position = 0  # how far the CRC of the open chunk goes; 0: its head was not checked yet

    def advance(self, buffer: memoryview) -> None:
        """Check the chunks that are complete, and the head and CRC of the one that is arriving."""
        while not self._ended and len(buffer) >= self._position + 8:
            length, kind = struct.unpack_from(">I4s", buffer, self._position)
            end = self._position + 12 + length
            if not self._crc_position:
                self._check_head(kind, length, end)
                self._crc, self._crc_position = 0, self._position + 4
            self._add_to_crc(buffer, end - 4)
            if len(buffer) < end:
                return
            if self._crc != struct.unpack_from(">I", buffer, end - 4)[0]:
                raise refused(f"the checksum of PNG chunk {kind.decode('latin-1')!r} is wrong")
            self._check_content(kind, buffer[self._position + 8 : end - 4])
            self._position, self._crc_position = end, 0
        if self._ended and len(buffer) > self._position:
            raise refused("there are bytes after the end of the PNG")

    def finish(self) -> ImageInfo:
        """What the PNG is."""
        if not self._ended:
            raise refused("the PNG is truncated")
        return ImageInfo("image/png", self._width, self._height)

    def _add_to_crc(self, buffer: memoryview, end: int) -> None:
        stop = min(len(buffer), end)
        self._crc = zlib.crc32(buffer[self._crc_position : stop], self._crc)
        self._crc_position = stop

    def _check_head(self, kind: bytes, length: int, end: int) -> None:
        if (kind == b"IHDR") != (self._width == 0):
            raise refused("a PNG begins with one IHDR chunk")
        if kind not in _ALLOWED:
            raise refused(f"PNG chunks of type {kind!r} are not taken")
        if end > self._size:
            raise refused("a PNG chunk reaches past the end")
        if kind == b"IHDR" and length != 13:
            raise refused("the IHDR chunk of a PNG has 13 bytes")
        if kind == b"IEND":
            self._check_end(length, end)
        if kind in _TEXT:
            self._text_bytes += length
            if self._text_bytes > _MAX_TEXT_BYTES:
                raise refused(f"a PNG may hold at most {_MAX_TEXT_BYTES} bytes of text")

    def _check_end(self, length: int, end: int) -> None:
        if length or not self._has_data:
            raise refused("the PNG has no image data" if not length else "the IEND chunk of a PNG is empty")
        if end != self._size:
            raise refused("there are bytes after the end of the PNG")

    def _check_content(self, kind: bytes, content: memoryview) -> None:
        with content:
            if kind == b"IHDR":
                self._read_header(bytes(content))
            elif kind == b"iTXt" and _is_compressed(bytes(content)):
                raise refused("compressed text in a PNG is not taken")
        self._has_data = self._has_data or kind == b"IDAT"
        self._ended = kind == b"IEND"

    def _read_header(self, content: bytes) -> None:
        width, height, depth, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", content)
        check_dimensions(width, height)
        if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
            raise refused("the IHDR chunk of the PNG names a format that does not exist")
        self._width, self._height = width, height


def _is_compressed(content: bytes) -> bool:
    """Whether an iTXt chunk says that its text is compressed (the byte after the keyword and its NUL)."""
    _, _, rest = content.partition(b"\0")
    return rest[:1] != b"\0"
