"""JPEG: the sequence of segments and scans from SOI to EOI, without decoding anything."""

import re
import struct

from services.storage.imaging.formats.base import check_dimensions, refused
from services.storage.models import ImageInfo

SIGNATURE = b"\xff\xd8\xff"

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive: what browsers show
_UNKNOWN_FRAMES = frozenset(range(0xC0, 0xD0)) - _FRAMES - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})
# A decoder goes over all pixels for each scan of a progressive JPEG; encoders make about ten, a bomb makes thousands.
_MAX_SCANS = 64
# The end of a scan: FF and then neither a stuffed zero, nor a restart marker, nor a fill byte.
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class JpegReader:
    """Follows the segments of a JPEG."""

    def __init__(self, size_bytes: int) -> None:
        """`size_bytes`: of the whole file, as declared."""
        self._size = size_bytes
        self._position = 2
        self._width = self._height = 0
        self._scans = 0
        self._in_scan = self._ended = False

    def advance(self, buffer: memoryview) -> None:
        """Check the segments that are complete."""
        while not self._ended and (self._skip_scan(buffer) if self._in_scan else self._read_segment(buffer)):
            pass
        if self._ended and len(buffer) > self._position:
            raise refused("there are bytes after the end of the JPEG")

    def finish(self) -> ImageInfo:
        """What the JPEG is."""
        if not self._ended:
            raise refused("the JPEG is truncated")
        return ImageInfo("image/jpeg", self._width, self._height)

    def _skip_scan(self, buffer: memoryview) -> bool:
        found = _SCAN_END.search(buffer, self._position)
        if found is None:
            self._position = max(self._position, len(buffer) - 1)  # the last byte may be the FF of the marker
            return False
        self._position, self._in_scan = found.start(), False
        return True

    def _read_segment(self, buffer: memoryview) -> bool:
        """Check one segment and move past it; False: more bytes are needed."""
        start = self._position
        if len(buffer) < start + 2:
            return False
        if buffer[start] != 0xFF:
            raise refused("a JPEG segment does not begin with a marker")
        marker = buffer[start + 1]
        if marker == 0xFF:  # a fill byte
            self._position += 1
            return True
        if marker == _EOI:
            self._end(start + 2)
            return True
        if marker in _WITHOUT_LENGTH or marker in _UNKNOWN_FRAMES or marker == 0:
            raise refused(f"JPEG marker {marker:#04x} is not taken here")
        if len(buffer) < start + 4:
            return False
        return self._read_content(buffer, marker, start + 2 + struct.unpack_from(">H", buffer, start + 2)[0])

    def _read_content(self, buffer: memoryview, marker: int, end: int) -> bool:
        if end < self._position + 4 or end > self._size:
            raise refused("a JPEG segment reaches past the end")
        if len(buffer) < end:
            return False
        if marker in _FRAMES:
            self._read_frame(bytes(buffer[self._position + 4 : end]))
        elif marker == _SOS:
            if not self._width:
                raise refused("the JPEG has a scan before its frame")
            self._scans += 1
            if self._scans > _MAX_SCANS:
                raise refused(f"the JPEG has more than {_MAX_SCANS} scans")
            self._in_scan = True
        self._position = end
        return True

    def _read_frame(self, content: bytes) -> None:
        if self._width or len(content) < 6:
            raise refused("a JPEG has one frame header")
        height, width = struct.unpack_from(">HH", content, 1)
        check_dimensions(width, height)
        self._width, self._height = width, height

    def _end(self, end: int) -> None:
        if not self._scans:
            raise refused("the JPEG has no image data")
        if end != self._size:
            raise refused("there are bytes after the end of the JPEG")
        self._position, self._ended = end, True
