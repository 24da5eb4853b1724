"""Reading initial images: which files are accepted, how they are scaled and cropped, and what is refused."""

import contextlib
import hashlib
import random
import zlib

import numpy as np
import pytest
from frontispiece.types.v1 import generation_pb2 as types
from numpy.typing import NDArray
from PIL import Image

from rpc.errors import InvalidArgument
from services.generator.images import initial_image
from services.generator.images.initial_image import read_initial_image
from services.generator.images.mask import soften
from tests.generator.drawings import blobs, disc, encode, encode_mask


def read(data: bytes, width: int = 64, height: int = 64, mask: bytes = b"") -> NDArray[np.uint8]:
    return read_initial_image(types.InitialImage(mask=mask), data, width, height).pixels


def read_mask(mask: bytes, width: int = 64, height: int = 64) -> NDArray[np.bool_]:
    painted = read_initial_image(types.InitialImage(mask=mask), encode(blobs(64, 64)), width, height).painted
    assert painted is not None
    return painted


def refused(data: bytes, mask: bytes = b"") -> tuple[str, str]:
    with pytest.raises(InvalidArgument) as caught:
        read(data, mask=mask)
    (violation,) = caught.value.violations
    return violation.field, violation.description


class TestTaken:
    @pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
    def test_one_of_the_right_size_is_unchanged(self, kind: str, options: dict[str, object]) -> None:
        picture = blobs(64, 96)
        assert np.array_equal(read(encode(picture, kind, **options), 64, 96), picture)

    def test_a_jpeg(self) -> None:
        picture = blobs(64, 64)
        assert np.abs(read(encode(picture, "JPEG", quality=95)).astype(int) - picture).mean() < 3

    def test_a_large_jpeg_is_what_a_large_png_is(self) -> None:
        """It is decoded at a fraction of its size."""
        picture = blobs(2000, 1500)
        small, expected = read(encode(picture, "JPEG", quality=95)), read(encode(picture))
        assert np.abs(small.astype(int) - expected).mean() < 3

    @pytest.mark.parametrize(("width", "height"), [(200, 100), (100, 200)])
    def test_it_is_scaled_to_cover_and_cut_in_the_middle(self, width: int, height: int) -> None:
        """Three stripes across the longer side: what is left is the middle one and as much of each other."""
        stripes = np.zeros((100, 200, 3), np.uint8)
        stripes[:, :60, 0] = stripes[:, 60:140, 1] = stripes[:, 140:, 2] = 255
        wide = width > height
        pixels = read(encode(stripes if wide else stripes.transpose(1, 0, 2)), 50, 50)
        pixels = pixels if wide else pixels.transpose(1, 0, 2)
        colours = pixels.argmax(axis=2)
        assert (colours[:, :4] == 0).all()
        assert (colours[:, 6:44] == 1).all()
        assert (colours[:, 46:] == 2).all()

    def test_it_is_put_upright(self) -> None:
        picture, exif = blobs(96, 64), Image.Exif()
        exif[0x0112] = 6  # the camera was held on its side
        turned = Image.fromarray(picture).transpose(Image.Transpose.ROTATE_90)
        assert np.array_equal(read(encode(turned, exif=exif), 96, 64), picture)

    def test_what_is_transparent_is_white(self) -> None:
        picture = np.dstack([blobs(64, 64), np.full((64, 64), 255, np.uint8)])
        picture[:32, :, 3] = 0
        pixels = read(encode(picture))
        assert (pixels[:32] == 255).all()
        assert np.array_equal(pixels[32:], picture[32:, :, :3])

    @pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "I;16"])
    def test_every_kind_of_png(self, mode: str) -> None:
        grey = np.tile(np.repeat(np.array([0, 255], np.uint8), 32), (64, 1))
        picture = (
            Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
        )
        assert np.array_equal(read(encode(picture)), np.dstack([grey] * 3))

    def test_sixteen_bits_are_scaled_not_cut_off(self) -> None:
        deep = Image.fromarray(np.full((64, 64), 0x8000, np.uint16))
        assert (read(encode(deep)) == 0x80).all()

    def test_of_an_animation_the_first_frame(self) -> None:
        frames = [Image.fromarray(blobs(64, 64, seed)) for seed in range(2)]
        for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
            data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
            assert np.array_equal(read(data), blobs(64, 64, 0))

    def test_what_was_read_is_told_by_its_bytes(self) -> None:
        data, mask = encode(blobs(64, 64)), encode_mask(disc(64, 64))
        picture = read_initial_image(types.InitialImage(strength=0.3, mask=mask), data, 64, 64)
        assert (picture.sha256, picture.used.strength) == (hashlib.sha256(data).hexdigest(), 0.3)
        assert picture.mask_sha256 == hashlib.sha256(mask).hexdigest()
        assert (picture.used.has_mask, picture.used.mask) == (True, b"")
        assert read_initial_image(types.InitialImage(), data, 64, 64).used.strength == 0.6
        assert read_initial_image(types.InitialImage(mask=mask), data, 64, 64).used.strength == 1.0

    @pytest.mark.parametrize(("given", "used"), [(None, 8), (0, 0), (1, 1), (64, 64)])
    def test_the_border_is_as_soft_as_asked_for(self, given: int | None, used: int) -> None:
        painted = disc(64, 64)
        wanted = types.InitialImage(mask=encode_mask(painted), mask_feather=given)
        picture = read_initial_image(wanted, encode(blobs(64, 64)), 64, 64)
        assert picture.used.mask_feather == used
        assert picture.opacity is not None
        assert np.array_equal(picture.opacity, soften(painted, used))
        assert picture.painted is not None
        assert np.array_equal(picture.painted, painted)

    def test_without_a_mask_there_is_no_border(self) -> None:
        picture = read_initial_image(types.InitialImage(), encode(blobs(64, 64)), 64, 64)
        assert (picture.used.mask_feather, picture.opacity, picture.painted) == (0, None, None)


class TestMask:
    def test_lighter_than_half_is_painted(self) -> None:
        levels = np.tile(np.repeat(np.array([0, 127, 128, 255], np.uint8), 16), (64, 1))
        painted = read_mask(encode(levels))
        assert not painted[:, :32].any()
        assert painted[:, 32:].all()

    def test_greys_are_no_levels_between_painted_and_kept(self) -> None:
        """A mask that is soft already is as soft as asked for, and no softer."""
        ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
        wanted = types.InitialImage(mask=encode(ramp), mask_feather=0)
        picture = read_initial_image(wanted, encode(blobs(64, 64)), 64, 64)
        assert picture.opacity is not None
        assert np.array_equal(picture.opacity, np.tile(np.arange(64) >= 32, (64, 1)))

    def test_of_sixteen_bits_the_upper_eight_count(self) -> None:
        deep = np.tile(np.repeat(np.array([0x7FFF, 0x8000], np.uint16), 32), (64, 1))
        assert np.array_equal(read_mask(encode(Image.fromarray(deep))), np.tile(np.arange(64) >= 32, (64, 1)))

    @pytest.mark.parametrize(
        ("colour", "is_painted"),
        [
            ((255, 255, 255, 128), True),  # half of white, on black
            ((255, 255, 255, 127), False),
            ((0, 255, 0, 255), True),  # a luma of 150
            ((255, 0, 0, 255), False),  # of 76
            ((255, 255, 0, 255), True),
            ((0, 0, 0, 0), False),
        ],
    )
    def test_of_a_colour_its_luma_on_black(self, colour: tuple[int, ...], is_painted: bool) -> None:
        strokes = np.full((64, 64, 4), 255, np.uint8)
        strokes[:, :32] = colour
        painted = read_mask(encode(strokes))
        assert (painted[:, :32] == is_painted).all()
        assert painted[:, 32:].all()

    def test_it_is_scaled_and_cut_like_the_picture(self) -> None:
        wide = np.zeros((100, 400), np.uint8)
        wide[:, 200:] = 255
        painted = read_mask(encode(wide))
        assert not painted[:, :31].any()
        assert painted[:, 33:].all()

    def test_what_nobody_drew_on_is_kept(self) -> None:
        strokes = np.full((64, 64, 4), 255, np.uint8)
        strokes[:, :32, 3] = 0
        painted = read_mask(encode(strokes))
        assert np.array_equal(painted, np.tile(np.arange(64) >= 32, (64, 1)))

    def test_one_that_paints_nothing_is_refused(self) -> None:
        field, why = refused(encode(blobs(64, 64)), encode(np.full((64, 64), 127, np.uint8)))
        assert field == "parameters.initial_image.mask"
        assert "marks nothing" in why

    @pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
    def test_another_format_is_refused(self, kind: str) -> None:
        mask = encode(np.full((64, 64), 255, np.uint8), kind)
        assert refused(encode(blobs(64, 64)), mask)[0] == "parameters.initial_image.mask"


class TestRefused:
    @pytest.mark.parametrize("data", [b"x", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"<svg/>"])
    def test_what_is_no_picture(self, data: bytes) -> None:
        assert refused(data) == ("initial_image", "must be a PNG or JPEG or WEBP; it cannot be decoded")

    @pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF"])
    def test_other_formats(self, kind: str) -> None:
        assert refused(encode(blobs(64, 64), kind))[0] == "initial_image"

    @pytest.mark.parametrize("side", [6000, 12_000, 20_000])
    def test_too_many_pixels_for_few_bytes(self, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
        """A header is enough: nothing may be decoded, whatever Pillow itself would say to such a size."""
        data = bytearray(encode(Image.new("1", (8, 8))))
        data[16:24] = side.to_bytes(4) + side.to_bytes(4)
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4)
        assert refused(bytes(data)) == ("initial_image", "must have at most 32000000 pixels")
        assert refused(encode(blobs(64, 64)), bytes(data))[0] == "parameters.initial_image.mask"

    def test_thirty_two_megapixels_are_taken(self) -> None:
        assert read(encode(Image.new("L", (8000, 4000), 9))).max() == 9
        assert initial_image.MAX_IMAGE_PIXELS == 8000 * 4000

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
    def test_broken_files_raise_nothing_else(self, kind: str) -> None:
        """Cut short, or with bytes changed at random: either a picture or the one error, and no other."""
        whole, chance = encode(blobs(96, 64), kind), random.Random(7)
        for _ in range(300):
            broken = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.3 else whole)
            for _ in range(chance.randrange(1, 6)):
                if broken:
                    broken[chance.randrange(len(broken))] = chance.randrange(256)
            with contextlib.suppress(InvalidArgument):
                assert read(bytes(broken)).shape == (64, 64, 3)

    def test_a_file_cut_short(self) -> None:
        for kind in ("PNG", "JPEG", "WEBP"):
            whole = encode(blobs(96, 64), kind)
            assert refused(whole[: len(whole) // 2])[0] == "initial_image"


def test_the_array_is_the_callers_own() -> None:
    """PyTorch warns of memory that it may not write to, and warnings are errors here."""
    assert read(encode(blobs(64, 64))).flags.writeable
