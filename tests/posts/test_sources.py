"""The size of an image that begins from a picture, where nobody says it."""

import pytest

from services.posts.clients.generator import IntegerRange, Model
from services.posts.models import Parameters
from services.posts.worker import initial_image

SIDE = IntegerRange(256, 1536, 8, 1024)
FIXED = IntegerRange(256, 256, 1, 256)


class TestSize:
    """The shape of a picture in sizes that a model paints."""

    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            ((512, 768), (512, 768)),  # its own
            ((1000, 667), (1000, 664)),  # less than a step is cut off
            ((1536, 1040), (1536, 1040)),
            ((1536, 1536), (1024, 1024)),  # too many pixels
            ((4000, 3000), (1176, 880)),  # as many pixels as the default
            ((3000, 4000), (880, 1176)),
            ((100, 100), (1024, 1024)),  # too small
            ((255, 300), (256, 296)),
            ((240, 300), (912, 1144)),
            ((8000, 500), (1536, 256)),  # as long as it may be
        ],
    )
    def test_of_a_model_with_room(self, size: tuple[int, int], expected: tuple[int, int]) -> None:
        assert self.shaped(size, Model("m", True, SIDE, SIDE, 1_600_000)) == expected

    @pytest.mark.parametrize("size", [(256, 256), (512, 512), (300, 900), (8000, 10)])
    def test_of_a_model_with_one_size(self, size: tuple[int, int]) -> None:
        assert self.shaped(size, Model("m", True, FIXED, FIXED, 65536)) == (256, 256)

    def test_what_is_given_is_kept(self) -> None:
        source, model = initial_image.Source(b"", "", 512, 768, b""), Model("m", True, SIDE, SIDE, 1_600_000)
        for wanted in (Parameters("x", width=640), Parameters("x", height=640)):
            assert initial_image.in_shape(wanted, source, model) == wanted
        assert initial_image.in_shape(Parameters("x"), source, None) == Parameters("x")

    @staticmethod
    def shaped(size: tuple[int, int], model: Model) -> tuple[int | None, int | None]:
        found = initial_image.in_shape(Parameters("x"), initial_image.Source(b"", "", *size, b""), model)
        return found.width, found.height
