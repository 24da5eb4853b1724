"""What counts as an image: whole, of one kind, with nothing before, within or after; and that nothing else is kept."""

import base64
import io
import struct
import zlib
from pathlib import Path

import grpc
import pytest
from fast_thumbhash import thumb_hash_to_rgba
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from rpc import errors
from services.storage.imaging.decoding import look
from services.storage.imaging.validation import Inspection
from services.storage.models import ImageInfo
from tests.storage.conftest import Client, refusal
from tests.storage.folders import files_below
from tests.storage.samples import PNG_SIGNATURE, chunk, header, noise, picture, pixels, png

GOOD = picture(64, 48)
JPEG = picture(64, 48, "JPEG")
WEBP = picture(64, 48, "WEBP")
LOSSLESS = picture(64, 48, "WEBP", lossless=True)
END = chunk(b"IEND")
EIGHT = pixels(8, 8)
BOMB = zlib.compress(bytes(50_000_000), 9)
SCANNED = picture(64, 48, "JPEG", progressive=True)
LAST_SCAN = SCANNED[SCANNED.rindex(b"\xff\xda") : -2]
HALVES = chunk(b"IDAT", EIGHT[8:-8]) + chunk(b"IDAT", EIGHT[-8:-4])


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def webp(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def riff(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) & 1)


def riff_content(data: bytes) -> bytes:
    """The only chunk of a simple WebP."""
    return data[12:]


def canvas(width: int, height: int, flags: int = 0) -> bytes:
    return riff(
        b"VP8X", bytes([flags, 0, 0, 0]) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )


def _near(one: str, other: str) -> bool:
    """Whether two ThumbHashes are of the same picture, compressed in other ways."""
    pictures = [thumb_hash_to_rgba(base64.b64decode(thumbhash)) for thumbhash in (one, other)]
    if pictures[0][:2] != pictures[1][:2]:
        return False
    return sum(abs(a - b) for a, b in zip(pictures[0][2], pictures[1][2], strict=True)) < 8 * len(pictures[0][2])


BROKEN: dict[str, bytes] = {
    "empty text": b" ",
    "html": b"<html><script>alert(1)</script></html>",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>',
    "gif": b"GIF89a" + bytes(100),
    "bmp": b"BM" + bytes(100),
    "pdf": b"%PDF-1.7\n",
    "zip": b"PK\x03\x04" + bytes(100),
    "tiff": b"II*\0" + bytes(100),
    "riff that is no webp": b"RIFF" + struct.pack("<I", 100) + b"WAVE" + bytes(92),
    "png signature alone": PNG_SIGNATURE,
    "png cut in the middle": GOOD[: len(GOOD) // 2],
    "png without its last byte": GOOD[:-1],
    "png with html behind": GOOD + b"<script>alert(1)</script>",
    "png with a zip behind": GOOD + b"PK\x03\x04" + bytes(100),
    "png with one zero behind": GOOD + b"\0",
    "two pngs": GOOD + GOOD,
    "png with a bit flipped in its pixels": flipped(GOOD, len(GOOD) // 2),
    "png with a bit flipped in its width": flipped(GOOD, 19),
    "png with a bit flipped in a checksum": flipped(GOOD, 8 + 8 + 13),
    "png without pixels": png(header(8, 8), END),
    "png with pixels first": png(EIGHT, header(8, 8), END),
    "png with two headers": png(header(8, 8), header(8, 8), EIGHT, END),
    "png with an end that is not empty": png(header(8, 8), EIGHT, chunk(b"IEND", b"x")),
    "png of no width": png(header(0, 8), EIGHT, END),
    "png with a chunk past the end": png(header(8, 8), struct.pack(">I", 1 << 30) + b"IDAT" + bytes(50)),
    "png with an unknown chunk": png(header(8, 8), chunk(b"evIL", b"x"), EIGHT, END),
    "png with compressed text": png(header(8, 8), chunk(b"zTXt", b"k\0\0" + BOMB), EIGHT, END),
    "png with compressed itxt": png(header(8, 8), chunk(b"iTXt", b"k\0\x01\0\0\0" + zlib.compress(b"a")), EIGHT, END),
    "png with 100 KB of text": png(header(8, 8), chunk(b"tEXt", b"k\0" + bytes(100_000)), EIGHT, END),
    "animated png": png(header(8, 8), chunk(b"acTL", struct.pack(">II", 2, 0)), EIGHT, END),
    "png of a depth that does not exist": png(header(8, 8, depth=3), EIGHT, END),
    "png of 20000 x 20000": png(header(20000, 20000, depth=1), chunk(b"IDAT", BOMB), END),
    "png of 8193 x 1": png(header(8193, 1), pixels(8193, 1), END),
    "png of 1 x 8193": png(header(1, 8193), pixels(1, 8193), END),
    "png of 33 megapixels and a bit": png(header(8192, 4029), chunk(b"IDAT", b"x"), END),
    "png whose pixels are no deflate": png(header(8, 8), chunk(b"IDAT", b"this is not compressed"), END),
    "png whose pixels end early": png(header(80, 80), pixels(8, 8), END),
    "jpeg cut in the middle": JPEG[: len(JPEG) // 2],
    "jpeg without its end": JPEG[:-2],
    "jpeg with html behind": JPEG + b"<script>alert(1)</script>",
    "two jpegs": JPEG + JPEG,
    "jpeg of nothing": b"\xff\xd8\xff\xd9",
    "jpeg with a scan before its frame": b"\xff\xd8\xff\xda\x00\x02abc\xff\xd9",
    "jpeg with an arithmetic frame": JPEG.replace(b"\xff\xc0", b"\xff\xc9", 1),
    "jpeg with a segment past the end": b"\xff\xd8\xff\xe0\xff\xffabc",
    "jpeg with a segment of length 0": b"\xff\xd8\xff\xe0\x00\x00abc",
    "jpeg of 8193 pixels": JPEG.replace(struct.pack(">HH", 48, 64), struct.pack(">HH", 48, 8193), 1),
    "jpeg without its tables": JPEG.replace(b"\xff\xdb", b"\xff\xee"),
    "jpeg with a thousand scans": SCANNED[:-2] + LAST_SCAN * 1000 + b"\xff\xd9",
    "webp cut in the middle": WEBP[: len(WEBP) // 2],
    "webp whose riff size is wrong": WEBP[:4] + struct.pack("<I", len(WEBP)) + WEBP[8:],
    "webp with html behind": WEBP + b"<script>alert(1)</script>",
    "webp of nothing": webp(),
    "webp with an unknown chunk": webp(riff_content(WEBP), riff(b"EVIL", b"1234")),
    "webp with two pictures": webp(riff_content(WEBP), riff_content(WEBP)),
    "webp with a chunk past the end": webp(b"VP8 " + struct.pack("<I", 1 << 30) + bytes(50)),
    "webp whose canvas is larger": webp(canvas(640, 480), riff_content(WEBP)),
    "webp that is animated": webp(canvas(64, 48, flags=2), riff_content(WEBP)),
    "webp without a start code": webp(riff(b"VP8 ", bytes(40))),
    "webp whose lossless picture is none": webp(riff(b"VP8L", b"\x2f" + struct.pack("<I", 63 | 47 << 14) + bytes(9))),
    "webp of 16384 pixels": webp(riff(b"VP8L", b"\x2f" + struct.pack("<I", 0x3FFF | 47 << 14) + bytes(9))),
}

GOOD_ONES: dict[str, bytes] = {
    "png": GOOD,
    "interlaced png": png(header(1, 1), pixels(1, 1), END),
    "png with text": png(header(8, 8), chunk(b"tEXt", b"Software\0x"), EIGHT, END),
    "png with plain itxt": png(header(8, 8), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x/>"), EIGHT, END),
    "png of 8192 x 1": png(header(8192, 1), pixels(8192, 1), END),
    "png with many idat chunks": png(
        header(8, 8), *(chunk(b"IDAT", part) for part in (EIGHT[8:-8], EIGHT[-8:-4])), END
    ),
    "jpeg": JPEG,
    "progressive jpeg": picture(64, 48, "JPEG", progressive=True),
    "jpeg with exif": picture(64, 48, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"),
    "jpeg with a comment": picture(64, 48, "JPEG", comment=b"hello"),
    "lossy webp": WEBP,
    "lossless webp": LOSSLESS,
    "webp with exif": picture(64, 48, "WEBP", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"),
    "webp with icc": picture(64, 48, "WEBP", icc_profile=b"x" * 131),
}


class TestBytes:
    @pytest.mark.parametrize("name", BROKEN)
    async def test_what_is_no_whole_image_is_refused(self, local: Client, root: Path, name: str) -> None:
        for step in (7, 1024 * 1024):
            error = await refusal(local.store(BROKEN[name], step=step))
            assert error.code is grpc.StatusCode.INVALID_ARGUMENT
            assert error.reason in ("IMAGE_INVALID", "IMAGE_TOO_LARGE")
            assert error.violations
        assert files_below(root) == []

    @pytest.mark.parametrize("name", GOOD_ONES)
    async def test_ordinary_variants_are_taken(self, local: Client, name: str) -> None:
        for step in (1, 1024 * 1024):
            stored = await local.store(GOOD_ONES[name], step=step)
            assert (await local.get(stored.key))[1] == GOOD_ONES[name]

    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
    async def test_every_kind_of_png_has_a_thumbhash(self, local: Client, mode: str) -> None:
        buffer = io.BytesIO()
        Image.open(io.BytesIO(GOOD)).convert("L" if mode == "I;16" else mode).convert(mode).save(buffer, "PNG")
        assert (await local.store(buffer.getvalue())).thumbhash

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    async def test_a_photo_has_the_size_that_it_is_shown_in(self, local: Client, kind: str, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = picture(64, 48, kind, exif=exif.tobytes())
        stored = await local.store(data)
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image)
        assert (stored.width, stored.height) == upright.size
        plain = io.BytesIO()
        upright.save(plain, "PNG")
        assert _near(stored.thumbhash, (await local.store(plain.getvalue())).thumbhash)

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    async def test_damaged_exif_data_turn_nothing(self, local: Client) -> None:
        stored = await local.store(picture(64, 48, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x07garbage"))
        assert (stored.width, stored.height) == (64, 48)

    @pytest.mark.parametrize("size", [(1, 1), (8192, 1), (1, 8192), (100, 101), (8192, 16)])
    async def test_every_shape_has_a_thumbhash(self, local: Client, size: tuple[int, int]) -> None:
        stored = await local.store(png(header(*size), pixels(*size), END))
        assert (stored.width, stored.height) == size
        assert stored.thumbhash

    def test_a_wrong_byte_is_noticed_when_it_arrives(self) -> None:
        """Before the rest of 30 MB is sent: at the signature, the head of a chunk, its dimensions, its checksum."""
        data = noise(600, 600)
        for changed, latest in (
            (b"X" + data[1:], 1),
            (data[:16] + struct.pack(">I", 9000) + data[20:], 33),
            (data[:37] + b"QQQQ" + data[41:], 41),
            (flipped(data, 20), 33),
        ):
            inspection = Inspection(len(changed))
            for position in range(len(changed)):
                try:
                    inspection.feed(changed[position : position + 1])
                except errors.InvalidArgument:
                    assert position + 1 <= latest
                    break
            else:
                pytest.fail("it was taken")

    def test_the_decoder_trusts_no_dimensions_but_its_own(self) -> None:
        with pytest.raises(errors.InvalidArgument):
            look(GOOD, ImageInfo("image/png", 64, 47))

    def test_the_decoder_reads_no_other_format_than_was_checked(self) -> None:
        with pytest.raises(errors.InvalidArgument):
            look(JPEG, ImageInfo("image/png", 64, 48))

    @settings(max_examples=400, deadline=None)
    @given(st.sampled_from([GOOD, JPEG, WEBP, LOSSLESS]), st.data())
    def test_damage_is_refused_or_harmless_but_never_an_accident(self, data: bytes, draw: st.DataObject) -> None:
        """Any exception but InvalidArgument would be a hole; a picture that passes must decode or be refused."""
        damaged = bytearray(data)
        for _ in range(draw.draw(st.integers(1, 4))):
            position = draw.draw(st.integers(0, len(damaged) - 1))
            damaged[position] = draw.draw(st.integers(0, 255))
        cut = bytes(damaged[: draw.draw(st.integers(1, len(damaged)))])
        try:
            inspection = Inspection(len(cut))
            inspection.feed(cut)
            content, _, info = inspection.finish()
            look(content, info)
        except errors.InvalidArgument:
            return
        assert len(cut) == len(data), "a truncated image was taken"

    @settings(max_examples=200, deadline=None)
    @given(st.binary(min_size=1, max_size=300), st.sampled_from([b"", PNG_SIGNATURE, b"\xff\xd8\xff", b"RIFF"]))
    def test_rubbish_is_refused(self, rubbish: bytes, begin: bytes) -> None:
        data = begin + rubbish
        with pytest.raises(errors.InvalidArgument):
            inspection = Inspection(len(data))
            inspection.feed(data)
            inspection.finish()
