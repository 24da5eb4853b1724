"""Whether the bytes of a mask are a PNG: its chunks, their checksums, and pixels of the size that it says."""

import struct
import zlib
from collections.abc import Iterator

MAX_MASK_BYTES = 256 * 1024
MAX_MASK_PIXELS = 4 * 1024 * 1024

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_WHOLE = ((0, 0, 1, 1),)
# First column and row, and their distances, of the seven passes of an interlaced PNG.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_INDEXED = 3
_LAST_FILTER = 4
_INFLATE_BYTES = 64 * 1024


class _NotPngError(Exception):
    """What is wrong, as the end of a sentence about the field."""


def problem(mask: bytes) -> str:
    """What is wrong with a mask, with the limit that it breaks; "" for a good one."""
    if len(mask) > MAX_MASK_BYTES:
        return f"must be a PNG of at most {MAX_MASK_BYTES} bytes, has {len(mask)}"
    try:
        _check(mask)
    except _NotPngError as error:
        return str(error)
    return ""


def _check(mask: bytes) -> None:
    if not mask.startswith(_SIGNATURE):
        raise _NotPngError("must be a PNG")
    pixels = _Pixels([])
    before: list[bytes] = []
    for kind, content in _chunks(mask):
        _check_order(kind, content, before)
        if kind == b"IHDR":
            pixels = _Pixels(_passes(content))
            is_indexed = content[9] == _INDEXED
        elif kind == b"IDAT":
            if is_indexed and b"PLTE" not in before:
                raise _NotPngError("must be a PNG: its palette is missing")
            pixels.add(content)
        before.append(kind)
    if before[-1:] != [b"IEND"]:
        raise _NotPngError("must be a whole PNG: its end is missing")
    pixels.finish()


def _check_order(kind: bytes, content: bytes, before: list[bytes]) -> None:
    """Whether a chunk may follow those `before` it. What ancillary chunks hold is not looked at."""
    if (kind == b"IHDR") != (not before):
        raise _NotPngError("must be a PNG: it begins with one IHDR chunk")
    if kind == b"PLTE":
        if b"PLTE" in before or b"IDAT" in before:
            raise _NotPngError("must be a PNG: it has one palette at most, before its pixels")
        if len(content) % 3 or not 3 <= len(content) <= 3 * 256:
            raise _NotPngError("must be a PNG: its palette has 1 to 256 colours")
    elif kind == b"IDAT":
        if b"IDAT" in before and before[-1] != b"IDAT":
            raise _NotPngError("must be a PNG: nothing stands between its IDAT chunks")
    elif not kind.isalpha() or (kind[:1].isupper() and kind not in (b"IHDR", b"IEND")):
        raise _NotPngError("must be a PNG: it has a chunk that nobody knows and that cannot be left out")


def _chunks(mask: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of each chunk, the checksum compared; nothing may follow IEND."""
    position = len(_SIGNATURE)
    kind = b""
    while position < len(mask):
        if kind == b"IEND":
            raise _NotPngError("must be a PNG and nothing else: there are bytes after its end")
        if len(mask) < position + 12:
            raise _NotPngError("must be a whole PNG: a chunk is cut off")
        length, kind = struct.unpack_from(">I4s", mask, position)
        end = position + 12 + length
        if len(mask) < end:
            raise _NotPngError("must be a whole PNG: a chunk is cut off")
        if zlib.crc32(mask[position + 4 : end - 4]) != struct.unpack_from(">I", mask, end - 4)[0]:
            raise _NotPngError("must be a PNG: the checksum of a chunk is wrong")
        yield kind, mask[position + 8 : end - 4]
        position = end


def _passes(header: bytes) -> list[tuple[int, int]]:
    """The rows of each pass, and their bytes before compression, the filter byte included."""
    if len(header) != 13:
        raise _NotPngError("must be a PNG: its IHDR chunk has another length")
    width, height, depth, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", header)
    if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise _NotPngError("must be a PNG: its IHDR chunk names a format that does not exist")
    if not 1 <= width * height <= MAX_MASK_PIXELS:
        raise _NotPngError(f"must have 1 to {MAX_MASK_PIXELS} pixels, has {width} x {height}")
    bits = depth * _SAMPLES[colour]
    found = []
    for column, row, across, down in _ADAM7 if interlace else _WHOLE:
        columns, rows = -((column - width) // across), -((row - height) // down)
        if columns > 0 and rows > 0:
            found.append((rows, 1 + (columns * bits + 7) // 8))
    return found


class _Pixels:
    """What the IDAT chunks unpack to, piece by piece; nothing is kept, and no more unpacked than there may be."""

    def __init__(self, passes: list[tuple[int, int]]) -> None:
        self._passes = passes
        self._expected = sum(rows * size for rows, size in passes)
        self._count = 0
        self._inflater = zlib.decompressobj()

    def add(self, data: bytes) -> None:
        while data and not self._inflater.eof:
            try:
                piece = self._inflater.decompress(data, _INFLATE_BYTES)
            except zlib.error:
                raise _NotPngError("must be a PNG: its pixels cannot be unpacked") from None
            if self._count + len(piece) > self._expected:
                raise _NotPngError("must be a PNG: it holds more pixels than it says")
            self._check_filters(piece)
            self._count += len(piece)
            data = self._inflater.unconsumed_tail

    def finish(self) -> None:
        if not self._inflater.eof or self._count != self._expected:
            raise _NotPngError(f"must be a whole PNG: its pixels take {self._expected} bytes, there are {self._count}")

    def _check_filters(self, piece: bytes) -> None:
        """Each row begins with its filter. `piece` begins where the last one ended, anywhere in a row of any pass."""
        begin = -self._count  # of the pass, seen from the piece
        for rows, size in self._passes:
            end = begin + rows * size
            filters = piece[begin if begin >= 0 else begin % size : max(end, 0) : size]
            if filters and max(filters) > _LAST_FILTER:
                raise _NotPngError("must be a PNG: a row names a filter that does not exist")
            begin = end
