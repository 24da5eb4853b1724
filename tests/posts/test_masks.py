"""What counts as a mask: PNGs of every kind that Pillow writes, and bytes that only look like one."""

import io
import random
import struct
import zlib

import pytest
from PIL import Image

from services.posts.masks import MAX_MASK_BYTES, problem

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encoded(mode: str, size: tuple[int, int] = (33, 17), **options: object) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 90).convert(mode).save(file, "PNG", **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def made(header: bytes, *pixels: bytes, before: bytes = b"", between: bytes = b"", after: bytes = b"") -> bytes:
    """A PNG of an IHDR chunk and IDAT chunks, `between` the two and between each two of these."""
    data = b"".join(between + chunk(b"IDAT", part) for part in pixels)
    return SIGNATURE + before + chunk(b"IHDR", header) + data + chunk(b"IEND", b"") + after


def head(width: int, height: int, depth: int = 8, colour: int = 0, interlace: int = 0) -> bytes:
    return struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
ROWS = zlib.compress(b"\0" + b"\xff" * 8 + b"\0" + b"\0" * 8)  # 8 x 2, grey


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png(mode: str) -> None:
    assert problem(encoded(mode)) == ""


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 8), (33, 17)])
def test_an_interlaced_png_has_the_rows_of_its_seven_passes(depth: int, size: tuple[int, int]) -> None:
    width, height = size
    rows = b""
    for column, row, across, down in ADAM7:
        columns = len(range(column, width, across))
        if columns:
            rows += (b"\0" + b"\xaa" * ((columns * depth + 7) // 8)) * len(range(row, height, down))
    png = made(head(width, height, depth, interlace=1), zlib.compress(rows))
    Image.open(io.BytesIO(png)).load()  # Pillow agrees
    assert problem(png) == ""


def test_pixels_in_many_chunks() -> None:
    assert problem(made(head(8, 2), *(ROWS[i : i + 1] for i in range(len(ROWS))))) == ""


def test_the_largest_mask_and_one_byte_more() -> None:
    png = encoded("L")
    end = png[-12:]
    padded = png[:-12] + chunk(b"tEXt", b"a\0" + b"x" * (MAX_MASK_BYTES - len(png) - 14)) + end
    assert len(padded) == MAX_MASK_BYTES
    assert problem(padded) == ""
    more = png[:-12] + chunk(b"tEXt", b"a\0" + b"x" * (MAX_MASK_BYTES - len(png) - 13)) + end
    assert problem(more) == "must be a PNG of at most 262144 bytes, has 262145"


@pytest.mark.parametrize(("size", "fine"), [((2048, 2048), True), ((2048, 2049), False), ((2**31, 2**31), False)])
def test_pixels(size: tuple[int, int], fine: bool) -> None:
    pixels = zlib.compress((b"\0" + bytes(size[0])) * size[1]) if fine else b""
    said = problem(made(head(*size), pixels))
    assert (said == "") is fine
    assert fine or "4194304" in said


BROKEN = {
    "empty": b"",
    "jpeg": b"\xff\xd8\xff\xe0" + bytes(100),
    "text": b"a mask",
    "signature alone": SIGNATURE,
    "no pixels": made(head(8, 2)),
    "short pixels": made(head(8, 3), ROWS),
    "long pixels": made(head(8, 1), ROWS),
    "cut pixels": made(head(8, 2), ROWS[:-6]),
    "no deflate": made(head(8, 2), b"pixels"),
    "no end": made(head(8, 2), ROWS)[:-12],
    "cut end": made(head(8, 2), ROWS)[:-1],
    "bytes after the end": made(head(8, 2), ROWS, after=b"x"),
    "chunk after the end": made(head(8, 2), ROWS, after=chunk(b"tEXt", b"a\0b")),
    "another chunk first": made(head(8, 2), ROWS, before=chunk(b"tEXt", b"a\0b")),
    "two headers": made(head(8, 2), ROWS, before=chunk(b"IHDR", head(8, 2))),
    "short header": made(head(8, 2)[:-1], ROWS),
    "no pixel": made(head(0, 2), ROWS),
    "no such depth": made(head(8, 2, depth=3), ROWS),
    "no such colour": made(head(8, 2, colour=5), ROWS),
    "wrong checksum": made(head(8, 2), ROWS)[:-1] + b"x",
    "an unknown critical chunk": made(head(8, 2), ROWS, between=chunk(b"ABCD", b"")),
    "a chunk without a name": made(head(8, 2), ROWS, between=chunk(b"\0\1\2\3", b"")),
    "a chunk among the pixels": made(head(8, 2), ROWS[:9], ROWS[9:], between=chunk(b"tEXt", b"a\0b")),
    "no palette": made(head(8, 2, colour=3), ROWS),
    "an empty palette": made(head(8, 2, colour=3), ROWS, between=chunk(b"PLTE", b"")),
    "a cut palette": made(head(8, 2, colour=3), ROWS, between=chunk(b"PLTE", bytes(7))),
    "a large palette": made(head(8, 2, colour=3), ROWS, between=chunk(b"PLTE", bytes(771))),
    "two palettes": made(head(8, 2, colour=3), ROWS, between=2 * chunk(b"PLTE", bytes(6))),
    "bomb": made(head(8, 2), zlib.compress(bytes(50_000_000), 9)),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_png(name: str) -> None:
    assert problem(BROKEN[name]).startswith("must ")


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("size", [(9, 7), (400, 500)])  # the second is unpacked in several pieces
def test_a_row_with_a_filter_that_does_not_exist(size: tuple[int, int], interlace: int) -> None:
    width, height = size
    rows, starts = bytearray(), []
    for column, row, across, down in ADAM7 if interlace else [(0, 0, 1, 1)]:
        for _ in range(row, height, down):
            if column < width:
                starts.append(len(rows))
                rows += b"\4" + b"\xff" * len(range(column, width, across))
    chance = random.Random(1)
    for place in [None, starts[0], starts[-1], *chance.sample(starts, 7)]:
        broken = bytearray(rows)
        if place is not None:
            broken[place] = 5
        data = zlib.compress(bytes(broken), 0)
        cut = chance.randrange(len(data))
        said = problem(made(head(*size, interlace=interlace), data[:cut], data[cut:]))
        assert said == ("" if place is None else "must be a PNG: a row names a filter that does not exist")


def test_damage_never_passes_and_never_breaks_it() -> None:
    """Every byte of a PNG is under a checksum, but for the checksums and lengths themselves, which are looked at."""
    png = encoded("RGB")
    chance = random.Random(5)
    for _ in range(500):
        place = chance.randrange(len(png))
        assert problem(png[:place] + bytes([png[place] ^ (1 << chance.randrange(8))]) + png[place + 1 :])
        assert problem(png[:place])
