"""Images of the generator are stored byte for byte; bytes that are not an image of a known format are refused."""

import base64
import struct
from pathlib import Path

import grpc
import pytest
from frontispiece.storage.v1 import images_pb2
from PIL import Image

from services.storage.admission import Admission
from services.storage.imaging.formats import ImageRefused
from services.storage.imaging.incoming import IncomingImage
from tests.storage.conftest import Client, refusal
from tests.storage.folders import files_below
from tests.storage.samples import PNG_SIGNATURE, chunk, encoded, gradient, header, picture, pixels, png

END = chunk(b"IEND")
GOOD = picture(64, 48)
JPEG = picture(64, 48, "JPEG")
WEBP = picture(64, 48, "WEBP")

NO_IMAGES: dict[str, bytes] = {
    "text": b" ",
    "html": b"<html><script>alert(1)</script></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>',
    "gif": b"GIF89a" + bytes(100),
    "bmp": b"BM" + bytes(100),
    "pdf": b"%PDF-1.7\n" + bytes(100),
    "zip": b"PK\x03\x04" + bytes(100),
    "tiff": b"II*\0" + bytes(100),
    "heic": b"\0\0\0\x18ftypheic" + bytes(100),
    "wave audio": b"RIFF" + struct.pack("<I", 100) + b"WAVE" + bytes(92),
    "the signature of a PNG alone": PNG_SIGNATURE,
    "half a PNG": GOOD[: len(GOOD) // 2],
    "a PNG with a wrong checksum": GOOD[:29] + bytes([GOOD[29] ^ 1]) + GOOD[30:],
    "a PNG of 20000 x 20000": png(header(20000, 20000, depth=1), END),
    "a PNG of 8193 x 1": png(header(8193, 1), pixels(8193, 1), END),
    "a PNG of no width": png(header(0, 8), pixels(8, 8), END),
    "an animated PNG": png(header(8, 8), chunk(b"acTL", struct.pack(">II", 2, 0)), pixels(8, 8), END),
    "half a JPEG": JPEG[: len(JPEG) // 2],
    "half a WebP": WEBP[: len(WEBP) // 2],
}


@pytest.mark.parametrize("name", NO_IMAGES)
async def test_bytes_that_are_no_image_are_refused_and_leave_no_files(local: Client, root: Path, name: str) -> None:
    for step in (7, 1024 * 1024):
        error = await refusal(local.store(NO_IMAGES[name], step=step))
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert error.reason in ("IMAGE_INVALID", "IMAGE_TOO_LARGE")
        assert [violation.field for violation in error.violations] == ["chunk"]
    assert files_below(root) == []


@pytest.mark.parametrize(
    "data",
    [GOOD, JPEG, WEBP, picture(64, 48, "WEBP", lossless=True), picture(64, 48, icc_profile=b"x" * 131)],
    ids=["png", "jpeg", "webp", "lossless webp", "png with a profile"],
)
async def test_an_image_is_stored_byte_for_byte(local: Client, data: bytes) -> None:
    for step in (1, 1024 * 1024):
        stored = await local.store(data, step=step)
        assert (await local.get(stored.key))[1] == data
        assert (stored.width, stored.height, stored.size_bytes) == (64, 48, len(data))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
async def test_every_mode_of_png_has_a_thumbhash(local: Client, mode: str) -> None:
    image = gradient()
    stored = await local.store(encoded(image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)))
    assert 5 <= len(base64.b64decode(stored.thumbhash)) <= 30


@pytest.mark.parametrize("size", [(1, 1), (8192, 1), (1, 8192), (100, 101), (8192, 16)], ids=str)
async def test_every_shape_has_a_thumbhash(local: Client, size: tuple[int, int]) -> None:
    stored = await local.store(png(header(*size), pixels(*size), END))
    assert (stored.width, stored.height) == size
    assert stored.thumbhash


async def test_another_format_is_refused_at_its_twelfth_byte(tmp_path: Path) -> None:
    data = encoded(Image.new("RGB", (100, 100)), "TIFF")
    async with IncomingImage(len(data), "", tmp_path, Admission(1000)) as incoming:
        await incoming.feed(data[:11])
        with pytest.raises(ImageRefused):
            await incoming.feed(data[11:12])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("origin", [images_pb2.IMAGE_ORIGIN_GENERATOR, images_pb2.IMAGE_ORIGIN_UPLOAD])
async def test_a_png_of_two_million_empty_chunks_is_refused(local: Client, origin: images_pb2.ImageOrigin) -> None:
    data = png(header(8, 8), chunk(b"IDAT") * 2_000_000, pixels(8, 8), END)
    error = await refusal(local.store(data, origin=origin))
    assert error.reason == "IMAGE_INVALID"
    assert "chunks" in error.message
