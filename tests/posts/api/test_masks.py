"""Masks: every kind of PNG is accepted; other files and damaged PNGs are refused."""

import asyncio
import io
import random
import struct
import zlib

import pytest
from PIL import Image

from services.posts.api.masks import essential, off_the_loop, problem

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encoded(mode: str, size: tuple[int, int] = (33, 17), **options: object) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 90).convert(mode).save(file, "PNG", **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def made(header: bytes, pixels: bytes) -> bytes:
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def head(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    return struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


ROWS = zlib.compress(b"\0" + b"\xff" * 8 + b"\0" + b"\0" * 8)  # 8 x 2, grey


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png_is_accepted(mode: str) -> None:
    assert problem(encoded(mode)) == ""


@pytest.mark.parametrize(
    ("size", "fine"), [((2048, 2048), True), ((2048, 2049), False), ((20_000, 20_000), False), ((2**31, 2**31), False)]
)
def test_number_of_pixels_is_limited(size: tuple[int, int], fine: bool) -> None:
    pixels = zlib.compress((b"\0" + bytes(size[0])) * size[1]) if fine else b""
    assert problem(made(head(*size), pixels)) == ("" if fine else "must have at most 4194304 pixels")


BROKEN = {
    "empty": b"",
    "jpeg": b"\xff\xd8\xff\xe0" + bytes(100),
    "text": b"a mask",
    "signature alone": SIGNATURE,
    "no pixels": made(head(8, 2), b""),
    "cut pixels": made(head(8, 2), ROWS[:-6]),
    "no deflate": made(head(8, 2), b"pixels"),
    "no end": made(head(8, 2), ROWS)[:-12],
    "short header": made(head(8, 2)[:-1], ROWS),
    "no pixel": made(head(0, 2), ROWS),
    "no such depth": made(head(8, 2, depth=3), ROWS),
    "no such colour": made(head(8, 2, colour=5), ROWS),
}


@pytest.mark.parametrize("name", BROKEN)
def test_file_that_is_not_a_png_is_refused(name: str) -> None:
    assert problem(BROKEN[name]) == "must be a PNG that can be read"


def test_random_damage_is_refused_or_harmless() -> None:
    """A checksum covers every byte that matters."""
    png = encoded("RGB")
    whole = Image.open(io.BytesIO(png)).tobytes()
    chance = random.Random(5)
    for _ in range(500):
        place = chance.randrange(len(png))
        damaged = png[:place] + bytes([png[place] ^ (1 << chance.randrange(8))]) + png[place + 1 :]
        assert problem(damaged) or Image.open(io.BytesIO(damaged)).tobytes() == whole
        assert problem(png[: min(place, len(png) - 12)])


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """The PNG with these chunks after its header."""
    return png[:33] + b"".join(chunks) + png[33:]


def test_compressed_text_is_not_read() -> None:
    """Sixty texts of 1 MB each fit into a mask of 64 KB."""
    text = b"key\0\1\0\0\0" + zlib.compress(bytes(1_000_000), 9)
    mask = with_chunks(made(head(8, 2), ROWS), *[chunk(b"iTXt", text)] * 60)
    assert problem(mask) == ""
    assert essential(mask) == made(head(8, 2), ROWS)
    assert problem(with_chunks(made(head(8, 2), ROWS), chunk(b"zTXt", b"no text"), chunk(b"acTL", b"x"))) == ""


async def test_the_event_loop_runs_on_while_masks_are_decoded() -> None:
    """A mask of the most pixels takes a tenth of a second. The loop must get its turn meanwhile."""
    mask = made(head(1, 4_194_304), zlib.compress(bytes(2 * 4_194_304)))
    checks = asyncio.gather(*(off_the_loop(lambda: problem(mask)) for _ in range(4)))
    turns = 0
    while not checks.done():
        await asyncio.sleep(0)
        turns += 1
    assert await checks == [""] * 4
    assert turns > 20
