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
    expected = 0
    inflated = 0
    ended = False
    inflater = zlib.decompressobj()
    for kind, content in _chunks(mask):
        if (kind == b"IHDR") != (expected == 0):
            raise _NotPngError("must be a PNG: it begins with one IHDR chunk")
        if kind == b"IHDR":
            expected = _pixel_bytes(content)
        elif kind == b"IDAT":
            inflated += _inflate(inflater, content, expected - inflated)
        ended = kind == b"IEND"
    if not ended:
        raise _NotPngError("must be a whole PNG: its end is missing")
    if not inflater.eof or inflated != expected:
        raise _NotPngError(f"must be a whole PNG: its pixels take {expected} bytes, there are {inflated}")


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


def _pixel_bytes(header: bytes) -> int:
    """How many bytes the pixels take before compression, with the filter byte of each row."""
    if len(header) != 13:
        raise _NotPngError("must be a PNG: its IHDR chunk has another length")
    width, height, depth, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", header)
    if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise _NotPngError("must be a PNG: its IHDR chunk names a format that does not exist")
    if not 1 <= width * height <= MAX_MASK_PIXELS:
        raise _NotPngError(f"must have 1 to {MAX_MASK_PIXELS} pixels, has {width} x {height}")
    bits = depth * _SAMPLES[colour]
    total = 0
    for column, row, across, down in _ADAM7 if interlace else _WHOLE:
        columns, rows = -((column - width) // across), -((row - height) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _inflate(inflater: "zlib._Decompress", data: bytes, left: int) -> int:
    """How many bytes `data` inflates to; they are not kept. More than `left` is refused before it is unpacked."""
    count = 0
    while data and not inflater.eof:
        try:
            count += len(inflater.decompress(data, _INFLATE_BYTES))
        except zlib.error:
            raise _NotPngError("must be a PNG: its pixels cannot be unpacked") from None
        if count > left:
            raise _NotPngError("must be a PNG: it holds more pixels than it says")
        data = inflater.unconsumed_tail
    return count
