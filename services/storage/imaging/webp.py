"""The header of a WebP. Pillow would allocate the whole canvas to read it."""

import struct

from services.storage.imaging.formats import WEBP_COST, WEBP_LOSSLESS_COST, Cost, ImageRefused

_FEATURES_ALPHA = 0x10


def read_header(data: bytes) -> tuple[int, int, Cost]:
    """Width and height in pixels as the header declares them, and the cost of the kind.

    Raises ImageRefused if there is no header.
    """
    kind, begin = data[12:16], data[20:30]
    if len(begin) < 10:
        raise ImageRefused("the header of the WEBP is damaged")
    if kind == b"VP8X":
        width, height = (int.from_bytes(begin[start : start + 3], "little") + 1 for start in (4, 7))
        plain = not begin[0] & _FEATURES_ALPHA and b"VP8L" not in data
        return width, height, WEBP_COST if plain else WEBP_LOSSLESS_COST
    if kind == b"VP8L" and begin[0] == 0x2F:
        (bits,) = struct.unpack_from("<I", begin, 1)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, WEBP_LOSSLESS_COST
    if kind == b"VP8 " and begin[3:6] == b"\x9d\x01\x2a":
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", begin, 6))
        return width, height, WEBP_COST
    raise ImageRefused("the header of the WEBP is damaged")
