"""PNG chunks: what Pillow may see of an uploaded PNG, and whether its pixels are complete.

Pillow keeps every text chunk in memory, refuses files for chunks that do not matter, and accepts pixel data that end
early. So it gets only the chunks that decide how the image looks.
"""

import struct
import zlib
from collections.abc import Iterator

from services.storage.imaging.formats import ImageRefused

_SIGNATURE_BYTES = 8
_HEADER = struct.Struct(">IIBBBBB")
_KEPT = frozenset({b"IHDR", b"PLTE", b"tRNS", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"IDAT", b"IEND"})
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
_PALETTE = 3
_TRANSPARENCY_BYTES = {b"\0": 2, b"\2": 6}  # by colour type; browsers ignore a tRNS chunk that is shorter
_PASSES = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PIECE_BYTES = 1024 * 1024
_MAX_CHUNKS = 65_536  # encoders write 8 KiB of pixels or more into a chunk
_TOO_MANY = f"the PNG has more than {_MAX_CHUNKS} chunks"
_NO_HEADER = "the PNG does not begin with one valid IHDR chunk"


def read_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels as the header declares them. Raises ImageRefused if there is no header."""
    if len(data) < 24 or data[12:16] != b"IHDR":
        raise ImageRefused(_NO_HEADER)
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def check_chunks(data: bytes) -> None:
    """Raises ImageRefused for a PNG with more chunks than _MAX_CHUNKS: Pillow needs 6 microseconds for each."""
    for count, _ in enumerate(_chunks(data), 1):
        if count > _MAX_CHUNKS:
            raise ImageRefused(_TOO_MANY)


def essential(data: bytes) -> bytes:
    """The PNG without the chunks that do not change its look, and without what follows its end.

    Raises ImageRefused if the header or the palette is missing, or if the pixel data are damaged or incomplete.
    """
    kept, pixels = [memoryview(data)[:_SIGNATURE_BYTES]], []
    header = b""
    has_palette = False
    for kind, start, end in _chunks(data):
        content = memoryview(data)[start + 8 : end - 4]
        if (kind == b"IHDR") == bool(header):
            raise ImageRefused(_NO_HEADER)
        header = header or bytes(content)
        has_palette = has_palette or kind == b"PLTE"
        if kind == b"tRNS" and len(content) < _TRANSPARENCY_BYTES.get(header[9:10], 0):
            continue
        if kind == b"IDAT":
            pixels.append(content)
        if kind in _KEPT:
            kept.append(memoryview(data)[start:end])
            if len(kept) > _MAX_CHUNKS:
                raise ImageRefused(_TOO_MANY)
    if len(header) != _HEADER.size:
        raise ImageRefused(_NO_HEADER)
    if header[9] == _PALETTE and not has_palette:
        raise ImageRefused("the PNG has no palette")
    _check_pixels(header, pixels)
    return b"".join(kept)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of each complete chunk up to IEND."""
    start = _SIGNATURE_BYTES
    while start + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if end > len(data):
            return
        yield kind, start, end
        if kind == b"IEND":
            return
        start = end


def _check_pixels(header: bytes, pixels: list[memoryview]) -> None:
    """Raises ImageRefused unless the pixel data inflate to all rows of the image."""
    missing = _inflated_size(header)
    inflate = zlib.decompressobj()
    try:
        for content in pixels:
            rest: bytes | memoryview = content
            while missing > -_PIECE_BYTES and rest:  # read on to the checksum at the end of the stream
                missing -= len(inflate.decompress(rest, _PIECE_BYTES))
                rest = inflate.unconsumed_tail
    except zlib.error as error:
        raise ImageRefused("the pixel data of the PNG are damaged") from error
    if missing > 0:
        raise ImageRefused("the PNG is truncated: rows of pixels are missing")


def _inflated_size(header: bytes) -> int:
    """The size in bytes of all rows, each with its filter byte, as the header declares them."""
    width, height, depth, colour, _, _, interlace = _HEADER.unpack(header)
    bits = depth * _SAMPLES.get(colour, 1)
    size = 0
    for x, y, step_x, step_y in _ADAM7 if interlace else _PASSES:
        columns, rows = -((x - width) // step_x), -((y - height) // step_y)
        if columns > 0 and rows > 0:
            size += rows * (1 + (columns * bits + 7) // 8)
    return size
