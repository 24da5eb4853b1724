"""Images that people upload: upright, in sRGB, without metadata, in the format in which they came."""

import io
import re
import struct
import zlib
from pathlib import Path
from xml.etree import ElementTree

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageOps

from services.storage.imaging.formats import MAX_PIXELS, ImageRefused, recognise
from services.storage.imaging.reencoding import reencode
from services.storage.settings import MAX_IMAGE_BYTES
from tests.storage.conftest import Client, Start, local_settings, refusal
from tests.storage.folders import files_below
from tests.storage.samples import (
    CASES,
    chunk,
    decoded,
    encoded,
    gradient,
    header,
    oriented,
    picture,
    pixels,
    png,
    profile,
)

END = chunk(b"IEND")
EIGHT = pixels(8, 8)
BOMB = zlib.compress(bytes(50_000_000), 9)
GOOD = picture(64, 48)
JPEG = picture(64, 48, "JPEG")
WEBP = picture(64, 48, "WEBP")
LOSSLESS = picture(64, 48, "WEBP", lossless=True)
PROGRESSIVE = picture(64, 48, "JPEG", progressive=True)
LAST_SCAN = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]
SCRIPT = b"<script>alert(1)</script>"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
IPTC = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:dc="dc" dc:secret="secret">'
    f"<Iptc4xmpExt:DigitalSourceType>{SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType></rdf:Description></rdf:RDF></x:xmpmeta>"
).encode()

REFUSED_CASES = {"png-idat-short.png": "truncated", "png-palette-missing.png": "palette"}


def plain(data: bytes) -> bytes:
    """The bytes that storage makes of an upload."""
    output = io.BytesIO()
    reencode(data, recognise(data[:12]), output, MAX_IMAGE_BYTES)
    return output.getvalue()


def difference(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of a channel between two images of one size."""
    extrema = ImageChops.difference(one.convert("RGBA"), other.convert("RGBA")).getextrema()
    return max(int(high) for _, high in extrema)  # type: ignore[misc,arg-type]


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


class TestCases:
    @pytest.mark.parametrize("name", sorted(path.name for path in CASES.iterdir() if path.name not in REFUSED_CASES))
    async def test_a_file_of_a_phone_camera_or_program_is_accepted(self, local: Client, name: str) -> None:
        data = (CASES / name).read_bytes()
        stored = await local.upload(data)
        bytes_stored = (await local.get(stored.key))[1]
        image = decoded(bytes_stored)
        assert (stored.width, stored.height) == image.size
        assert image.size in ((96, 64), (64, 48), (256, 256))
        assert stored.content_type.partition("/")[2] == str(image.format).lower()
        assert stored.key.endswith(Path(name).suffix)
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"} | (
            {"loop", "background", "timestamp", "duration"} if image.format == "WEBP" else set()
        )
        assert stored.thumbhash

    @pytest.mark.parametrize(("name", "reason"), REFUSED_CASES.items())
    async def test_an_incomplete_file_is_refused_with_its_reason(self, local: Client, name: str, reason: str) -> None:
        error = await refusal(local.upload((CASES / name).read_bytes()))
        assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "IMAGE_INVALID")
        assert error.violations[0].field == "chunk"
        assert reason in error.violations[0].description

    def test_a_gps_position_is_removed(self) -> None:
        data = (CASES / "jpeg-gps.jpg").read_bytes()
        assert decoded(data).getexif().get_ifd(0x8825)
        assert not decoded(plain(data)).getexif()
        assert b"Exif" not in plain(data)

    def test_what_follows_the_end_of_a_jpeg_is_removed(self) -> None:
        for name, mark in (("jpeg-motion-photo.jpg", b"ftyp"), ("jpeg-samsung-trailer.jpg", b"SEFT")):
            data = (CASES / name).read_bytes()
            assert mark in data
            assert mark not in plain(data)

    def test_a_workflow_is_removed(self) -> None:
        assert b"workflow" not in plain((CASES / "png-comfy-workflow-96k.png").read_bytes())

    def test_a_wide_gamut_colour_is_converted_to_srgb(self) -> None:
        image = decoded(plain((CASES / "png-wide-gamut-icc.png").read_bytes()))
        assert image.getpixel((128, 128)) == (251, 25, 0)


class TestOrientation:
    @pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    async def test_an_image_is_turned_upright(self, local: Client, image_format: str, orientation: int) -> None:
        data = picture(64, 48, image_format, exif=oriented(orientation))
        upright = ImageOps.exif_transpose(decoded(data))
        stored = await local.upload(data)
        image = decoded((await local.get(stored.key))[1])
        assert (stored.width, stored.height) == image.size == upright.size
        assert not image.getexif()
        assert difference(image, upright) < 40

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    async def test_damaged_exif_data_are_ignored(self, local: Client) -> None:
        stored = await local.upload(picture(64, 48, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x07garbage"))
        assert (stored.width, stored.height) == (64, 48)


class TestColours:
    @pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
    def test_a_png_without_a_profile_keeps_every_pixel(self, mode: str) -> None:
        image = gradient().convert("RGBA") if mode in ("LA", "RGBA") else gradient()
        if mode in ("LA", "RGBA"):
            image.putalpha(Image.radial_gradient("L").resize(image.size))
        data = encoded(image.convert(mode))
        assert difference(decoded(plain(data)), decoded(data)) == 0

    def test_a_lossless_webp_stays_lossless(self) -> None:
        assert b"VP8L" in plain(LOSSLESS)
        assert difference(decoded(plain(LOSSLESS)), decoded(LOSSLESS)) == 0

    def test_an_srgb_profile_changes_no_pixel(self) -> None:
        data = encoded(gradient(), icc_profile=profile("sRGB"))
        image = decoded(plain(data))
        assert difference(image, gradient()) == 0
        assert "icc_profile" not in image.info

    @pytest.mark.parametrize("bits", ["I;16"])
    def test_a_png_with_16_bits_keeps_its_brightness(self, bits: str) -> None:
        deep = gradient().convert("L").convert("I").point(lambda value: value * 257).convert(bits)
        assert difference(decoded(plain(encoded(deep))), gradient().convert("L")) <= 1

    def test_transparency_by_a_colour_is_kept(self) -> None:
        image = decoded(plain(encoded(Image.new("RGB", (8, 8), (1, 2, 3)), transparency=(1, 2, 3))))
        assert image.getpixel((0, 0)) == (1, 2, 3, 0)

    def test_alpha_is_kept_when_a_profile_is_applied(self) -> None:
        wide = decoded((CASES / "png-wide-gamut-icc.png").read_bytes())
        image = wide.convert("RGBA")
        image.putalpha(77)
        pixel = decoded(plain(encoded(image, icc_profile=wide.info["icc_profile"]))).getpixel((9, 9))
        assert pixel == (251, 25, 0, 77)

    def test_a_cmyk_jpeg_becomes_rgb(self) -> None:
        image = decoded(plain(encoded(gradient().convert("CMYK"), "JPEG", quality=95)))
        assert image.mode == "RGB"
        assert difference(image, gradient()) < 60

    @pytest.mark.parametrize(
        "wrong", [b"x" * 131, profile("LAB"), b""], ids=["damaged", "of another colour space", "empty"]
    )
    def test_a_profile_that_does_not_fit_is_ignored(self, wrong: bytes) -> None:
        assert difference(decoded(plain(encoded(gradient(), icc_profile=wrong))), gradient()) == 0


class TestMetadata:
    @pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
    def test_only_the_digital_source_type_is_kept(self, image_format: str) -> None:
        if image_format == "PNG":
            text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
            data = GOOD[:33] + text + GOOD[33:]
        else:
            data = picture(64, 48, image_format, xmp=XMP, exif=oriented(1))
        result = plain(data)
        assert result.count(SOURCE_TYPE.encode()) == 1
        assert b"secret" not in result
        packet = decoded(result).info["xmp"]
        (description,) = ElementTree.fromstring(packet[packet.index(b"<x:") :]).iter(f"{RDF}Description")
        assert description.attrib == {f"{RDF}about": "", f"{IPTC}DigitalSourceType": SOURCE_TYPE}

    def test_the_digital_source_type_of_a_c2pa_manifest_is_kept_and_the_manifest_removed(self) -> None:
        """A manifest is signed for the bytes it came with, so it would be invalid in the new file."""
        manifest = b"jumb c2pa.actions digitalSourceType\x78\x46" + SOURCE_TYPE.encode() + b"\x00"
        result = plain(GOOD[:33] + chunk(b"caBX", manifest) + GOOD[33:])
        assert SOURCE_TYPE.encode() in result
        assert b"caBX" not in result

    @pytest.mark.parametrize("text", [b"tEXt", b"zTXt", b"iTXt"])
    def test_text_of_a_png_is_removed_however_large_it_inflates(self, text: bytes) -> None:
        content = {b"tEXt": b"k\0" + SCRIPT * 9000, b"zTXt": b"k\0\0" + BOMB, b"iTXt": b"k\0\x01\0\0\0" + BOMB}[text]
        result = plain(png(header(8, 8), chunk(text, content), EIGHT, END))
        assert text not in result
        assert len(result) < 1000

    def test_a_comment_of_a_jpeg_is_removed(self) -> None:
        assert b"hello" not in plain(picture(64, 48, "JPEG", comment=b"hello"))


ACCEPTED: dict[str, bytes] = {
    "png with html behind": GOOD + SCRIPT,
    "png with a zip behind": GOOD + b"PK\x03\x04" + bytes(100),
    "two pngs": GOOD + GOOD,
    "png without its end": GOOD[:-12],
    "png with an unknown chunk": png(header(8, 8), chunk(b"evIL", SCRIPT), EIGHT, END),
    "png of 8192 x 1": png(header(8192, 1), pixels(8192, 1), END),
    "png with an animation of one frame": png(
        header(8, 8),
        chunk(b"acTL", struct.pack(">II", 1, 0)),
        chunk(b"fcTL", struct.pack(">5I2H2B", 0, 8, 8, 0, 0, 1, 1, 0, 0)),
        EIGHT,
        END,
    ),
    "png with many idat chunks": png(
        header(8, 8), *(chunk(b"IDAT", EIGHT[8:-4][n : n + 1]) for n in range(len(EIGHT) - 12)), END
    ),
    "jpeg with html behind": JPEG + SCRIPT,
    "two jpegs": JPEG + JPEG,
    "jpeg without its end": JPEG[:-2],
    "progressive jpeg": PROGRESSIVE,
    "progressive jpeg without its end": PROGRESSIVE[:-2],
    "jpeg with fill bytes": JPEG.replace(b"\xff\xdb", b"\xff\xff\xdb", 1),
    "webp with html behind": WEBP + SCRIPT,
}

BROKEN: dict[str, bytes] = {
    "png cut in the middle": GOOD[: len(GOOD) // 2],
    "png with a bit flipped in its pixels": flipped(GOOD, len(GOOD) // 2),
    "png with a bit flipped in its width": flipped(GOOD, 19),
    "png with a bit flipped in a checksum": flipped(GOOD, 8 + 8 + 13),
    "png without pixels": png(header(8, 8), END),
    "png with pixels first": png(EIGHT, header(8, 8), END),
    "png with two headers": png(header(8, 8), header(80, 80), EIGHT, END),
    "png of no width": png(header(0, 8), EIGHT, END),
    "png with a chunk past the end": png(header(8, 8), struct.pack(">I", 1 << 30) + b"IDAT" + bytes(50)),
    "png with too many chunks": png(header(8, 8), chunk(b"IDAT") * 70_000, EIGHT, END),
    "animated png": png(header(8, 8), chunk(b"acTL", struct.pack(">II", 2, 0)), EIGHT, END),
    "png of a depth that does not exist": png(header(8, 8, depth=3), EIGHT, END),
    "png of 20000 x 20000": png(header(20000, 20000, depth=1), chunk(b"IDAT", BOMB), END),
    "png of 8193 x 1": png(header(8193, 1), pixels(8193, 1), END),
    "png of 1 x 8193": png(header(1, 8193), pixels(1, 8193), END),
    "png of 33 megapixels and a bit": png(header(8192, 4029), chunk(b"IDAT", b"x"), END),
    "png whose pixels are no deflate": png(header(8, 8), chunk(b"IDAT", b"this is not compressed"), END),
    "png whose pixels end early": png(header(80, 80), pixels(8, 8), END),
    "interlaced png whose pixels end early": png(header(80, 80, interlace=1), pixels(79, 80), END),
    "jpeg cut in the middle": JPEG[: len(JPEG) // 2],
    "progressive jpeg cut in the middle": PROGRESSIVE[: len(PROGRESSIVE) // 2],
    "jpeg without the last ten bytes": JPEG[:-10],
    "jpeg of nothing": b"\xff\xd8\xff\xd9" + bytes(20),
    "jpeg with a scan before its frame": b"\xff\xd8\xff\xda\x00\x02abc\xff\xd9" + bytes(9),
    "jpeg with a segment past the end": b"\xff\xd8\xff\xe0\xff\xffabc" + bytes(9),
    "jpeg of 8193 pixels": JPEG.replace(struct.pack(">HH", 48, 64), struct.pack(">HH", 48, 8193), 1),
    "jpeg without its tables": JPEG.replace(b"\xff\xdb", b"\xff\xee"),
    "jpeg with a hundred scans": PROGRESSIVE[:-2] + LAST_SCAN * 100 + b"\xff\xd9",
    "jpeg with scans behind a hidden end": PROGRESSIVE[:-2] + b"\xff\x01\xff\xff" + LAST_SCAN * 100 + b"\xff\xd9",
    "webp cut in the middle": WEBP[: len(WEBP) // 2],
    "webp of nothing": b"RIFF\x04\0\0\0WEBP",
    "animated webp": encoded(gradient(), "WEBP", save_all=True, append_images=[gradient(seed=9)], duration=100),
    "webp of 16384 pixels": b"RIFF\x16\0\0\0WEBPVP8L\x0a\0\0\0\x2f" + struct.pack("<I", 0x3FFF | 47 << 14) + bytes(5),
}


class TestBytes:
    @pytest.mark.parametrize("name", ACCEPTED)
    def test_an_image_that_browsers_show_is_accepted(self, name: str) -> None:
        result = plain(ACCEPTED[name])
        assert SCRIPT not in result
        assert difference(decoded(result), decoded(plain(plain(ACCEPTED[name])))) < 40

    @pytest.mark.parametrize("name", BROKEN)
    async def test_a_broken_animated_or_huge_image_is_refused(self, local: Client, root: Path, name: str) -> None:
        error = await refusal(local.upload(BROKEN[name]))
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert error.reason in ("IMAGE_INVALID", "IMAGE_TOO_LARGE")
        assert [violation.field for violation in error.violations] == ["chunk"]
        assert not re.search(r"0x[0-9a-f]{6}|Traceback", error.message)
        assert files_below(root) == []

    def test_an_interlaced_png_is_accepted(self) -> None:
        width, height = 11, 7
        data = b"".join(
            (b"\0" + bytes([90]) * -((x - width) // step_x)) * -((y - height) // step_y)
            for x, y, step_x, step_y in (
                (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
            )
            if x < width and y < height
        )  # fmt: skip
        image = decoded(plain(png(header(width, height, interlace=1), chunk(b"IDAT", zlib.compress(data)), END)))
        assert image.getcolors() == [(77, 90)]

    def test_an_image_that_grows_beyond_the_limit_is_refused(self) -> None:
        data = encoded(Image.effect_noise((100, 100), 90).quantize(16))
        limit = len(data) + 1
        with pytest.raises(ImageRefused, match="after it was encoded again") as caught:
            reencode(data, recognise(data), io.BytesIO(), limit)
        assert caught.value.reason == "IMAGE_TOO_LARGE"

    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from([GOOD, JPEG, PROGRESSIVE, WEBP, LOSSLESS]), st.data())
    @pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
    def test_damaged_bytes_are_refused_or_become_a_valid_image(self, data: bytes, draw: st.DataObject) -> None:
        """Any exception but ImageRefused would be a bug."""
        damaged = bytearray(data)
        for _ in range(draw.draw(st.integers(1, 4))):
            position = draw.draw(st.integers(0, len(damaged) - 1))
            damaged[position] = draw.draw(st.integers(0, 255))
        cut = bytes(damaged[: draw.draw(st.integers(12, len(damaged)))])
        try:
            result = plain(cut)
        except ImageRefused:
            return
        assert decoded(result).width * decoded(result).height <= MAX_PIXELS

    @settings(max_examples=200, deadline=None)
    @given(
        st.binary(min_size=12, max_size=300), st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF1234WEBP"])
    )
    def test_random_bytes_are_refused(self, rubbish: bytes, begin: bytes) -> None:
        with pytest.raises(ImageRefused):
            plain(begin + rubbish)


class TestStorage:
    async def test_the_key_depends_on_the_bytes_that_were_sent(self, local: Client) -> None:
        data = picture(64, 48, "JPEG", exif=oriented(6))
        first, again = [await local.upload(data, request_id="photo") for _ in range(2)]
        other = await local.upload(data + b"\0", request_id="photo")
        assert first == again
        assert first.key != other.key
        assert first.sha256 == other.sha256, "both are stored as the same bytes"

    async def test_the_announced_sha256_is_that_of_the_bytes_that_are_sent(self, local: Client) -> None:
        error = await refusal(local.upload(JPEG, sha256="0" * 64))
        assert error.reason == "SHA256_MISMATCH"

    async def test_an_upload_is_readable_after_a_restart(self, root: Path, start: Start) -> None:
        stored = await (await start(local_settings(root))).upload(picture(64, 48, "JPEG", exif=oriented(6)))
        header, data = await (await start(local_settings(root))).get(stored.key)
        assert header.image == stored
        assert len(data) == stored.size_bytes
