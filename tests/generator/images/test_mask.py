"""The soft border of a mask: where it lies, how it runs, and what becomes of it where there is no room for it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from services.generator.images.mask import soften
from services.generator.sdxl.inpaint import keep_pixels
from tests.generator import tolerance
from tests.generator.drawings import blobs, disc

# A root, a quotient, a difference and three products of numbers up to 1.
RAMP_ROUNDING = tolerance.elementwise(6)
WIDTHS = [1, 2, 3, 7, 8, 31, 64]


def strip(width: int, *, length: int = 7, sides: int = 70) -> NDArray[np.bool_]:
    """A painted strip from the upper edge to the lower one, with kept pixels left and right of it."""
    return np.tile(np.pad(np.ones(width, np.bool_), sides), (length, 1))


def distances(painted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of each pixel to the nearest one that is kept, by looking at all of them."""
    y, x = np.indices(painted.shape)
    kept = np.argwhere(~painted)
    found: NDArray[np.float64] = np.hypot(y[..., None] - kept[:, 0], x[..., None] - kept[:, 1]).min(axis=-1)
    return found


def ramp(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 to 1, level at both ends."""
    return share * share * (3 - 2 * share)


class TestRamp:
    @pytest.mark.parametrize("feather", WIDTHS)
    def test_so_many_pixels_from_the_border_are_mixed_and_no_others(self, feather: int) -> None:
        """Of a straight border."""
        opacity = soften(strip(300), feather)
        expected = ramp(np.arange(1, feather + 1) / (feather + 1))
        assert np.allclose(opacity[:, 70 : 70 + feather], expected, atol=RAMP_ROUNDING)
        assert (opacity[:, :70] == 0).all()
        assert (opacity[:, 70 + feather : 370 - feather] == 1).all()
        assert np.array_equal(opacity, opacity[:, ::-1])

    def test_none_is_a_hard_border(self) -> None:
        assert np.array_equal(soften(disc(64, 96), 0), disc(64, 96))

    @pytest.mark.parametrize("feather", WIDTHS)
    def test_what_is_kept_is_what_it_was_and_nothing_else_is_kept(self, feather: int) -> None:
        chance = np.random.default_rng(feather)
        for painted in (disc(96, 64), chance.random((64, 96)) < 0.5, chance.random((64, 96)) < 0.98):
            opacity = soften(painted, feather)
            assert np.array_equal(opacity > 0, painted)
            assert opacity.max() == 1

    @pytest.mark.parametrize("feather", WIDTHS)
    def test_a_distance_is_measured_as_the_crow_flies(self, feather: int) -> None:
        """Around few kept pixels, so that there is room for the whole border, in every direction and exactly."""
        painted = np.ones((200, 300), np.bool_)
        for row, column in ((0, 0), (100, 150), (102, 155), (199, 299)):
            painted[row, column] = False
        expected = ramp(np.minimum(distances(painted) / (feather + 1), 1))
        assert np.allclose(soften(painted, feather), expected, atol=RAMP_ROUNDING)


class TestRoom:
    @pytest.mark.parametrize("feather", WIDTHS)
    @pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 15, 16])
    def test_the_middle_of_a_narrow_part_is_painted_altogether(self, width: int, feather: int) -> None:
        opacity = soften(strip(width), feather)
        middle = 70 + (width - 1) // 2
        assert (opacity[:, [middle, 69 + width - (width - 1) // 2]] == 1).all()
        depth = np.minimum(np.arange(1, width + 1), np.arange(width, 0, -1))
        room = min(feather + 1, (width + 1) // 2)
        assert np.allclose(opacity[3, 70 : 70 + width], ramp(np.minimum(depth / room, 1)), atol=RAMP_ROUNDING)

    @pytest.mark.parametrize("feather", WIDTHS)
    def test_islands_of_a_few_pixels_are_painted(self, feather: int) -> None:
        painted = np.zeros((9, 400), np.bool_)
        painted[4, 80] = painted[4:6, 160:162] = True
        painted[3:6, 240:243] = painted[2:7, 320:325] = True
        opacity = soften(painted, feather)
        assert opacity[4, 80] == 1
        assert (opacity[4:6, 160:162] == 1).all()
        assert (opacity[4, 241], opacity[4, 322]) == (1, 1)
        assert (opacity[painted] > 0).all()

    @pytest.mark.parametrize("feather", WIDTHS)
    def test_a_narrow_part_beside_a_wide_one_keeps_its_middle(self, feather: int) -> None:
        """As far away as the border of the wide one may reach."""
        painted = np.zeros((60, 400), np.bool_)
        painted[:, :150] = painted[28:31, 150:300] = True
        assert (soften(painted, feather)[29, 150 + feather : 299] == 1).all()

    @pytest.mark.parametrize("feather", WIDTHS)
    def test_where_a_part_grows_narrow_nothing_jumps(self, feather: int) -> None:
        """Along the middle of a bridge five pixels wide: from the ramp of the wide parts to its own, step by step."""
        painted = np.zeros((300, 500), np.bool_)
        painted[:, :150] = painted[:, 350:] = painted[148:153] = True
        middle = soften(painted, feather)[150]
        assert np.abs(np.diff(middle)).max() <= 0.2
        assert (middle[150 + feather : 350 - feather] == 1).all()


class TestEdges:
    @pytest.mark.parametrize("feather", WIDTHS)
    def test_the_edge_of_the_image_is_no_border(self, feather: int) -> None:
        """A part that touches it is as opaque there as if it went on."""
        painted = np.ones((40, 90), np.bool_)
        painted[:, 70:] = False
        beyond = np.pad(painted, ((70, 70), (70, 0)), mode="edge")
        assert np.array_equal(soften(painted, feather), soften(beyond, feather)[70:110, 70:])
        assert (soften(painted, feather)[:, : 70 - feather] == 1).all()

    @pytest.mark.parametrize("feather", [0, *WIDTHS])
    @pytest.mark.parametrize("shape", [(64, 64), (1, 1), (1, 9), (9, 1)])
    def test_everything_painted_is_painted_everywhere(self, feather: int, shape: tuple[int, int]) -> None:
        assert (soften(np.ones(shape, np.bool_), feather) == 1).all()
        assert (soften(np.zeros(shape, np.bool_), feather) == 0).all()

    @pytest.mark.parametrize("feather", WIDTHS)
    @pytest.mark.parametrize("turns", range(4))
    def test_no_direction_is_special(self, feather: int, turns: int) -> None:
        painted = disc(96, 64)
        assert np.array_equal(np.rot90(soften(painted, feather), turns), soften(np.rot90(painted, turns), feather))

    @pytest.mark.parametrize("feather", [1, 8, 64])
    def test_one_kept_pixel_in_a_corner(self, feather: int) -> None:
        painted = np.ones((80, 80), np.bool_)
        painted[0, 0] = False
        expected = ramp(np.minimum(distances(painted) / (feather + 1), 1))
        assert np.allclose(soften(painted, feather), expected, atol=RAMP_ROUNDING)


class TestMix:
    def test_the_ends_are_exact_and_the_rest_is_rounded_once(self) -> None:
        picture, painting = blobs(64, 64), blobs(64, 64, seed=1)
        opacity = soften(disc(64, 64), 8)
        mixed = keep_pixels(painting, picture, opacity)
        exact = picture + opacity[..., None].astype(np.float64) * (painting.astype(float) - picture)
        assert mixed.dtype == np.uint8
        assert np.abs(mixed - exact).max() <= 0.5 + 255 * tolerance.elementwise(4)
        assert np.array_equal(mixed[opacity == 0], picture[opacity == 0])
        assert np.array_equal(mixed[opacity == 1], painting[opacity == 1])

    @pytest.mark.parametrize(("below", "above"), [(0, 255), (255, 0), (100, 103), (7, 7)])
    def test_between_two_plain_colours_no_level_is_left_out_nor_passed(self, below: int, above: int) -> None:
        picture, painting = (np.full((1, 440, 3), level, np.uint8) for level in (below, above))
        opacity = soften(np.arange(440)[None] >= 100, 64)
        mixed = keep_pixels(painting, picture, opacity)[0, :, 0].astype(int)
        steps = np.diff(mixed) * (1 if above >= below else -1)
        assert (mixed[99], mixed[164]) == (below, above)
        assert steps.min() >= 0
        assert steps.max() <= np.ceil(1.5 * abs(above - below) / 65)
