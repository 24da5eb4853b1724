"""The size of an image that starts from another image, when the task gives none."""

import pytest
from frontispiece.generator.v1.generator_pb2 import IntegerRange, Model
from frontispiece.types.v1.generation_pb2 import GenerationParameters
from frontispiece.types.v1.generation_pb2 import InitialImage as Requested

from services.posts.worker.initial_image import InitialImage, parameters

SIDE = IntegerRange(min=256, max=1536, step=8, default=1024)
FIXED = IntegerRange(min=256, max=256, step=1, default=256)
FLEXIBLE = Model(id="m", width=SIDE, height=SIDE, max_pixels=1_600_000)
SQUARE = Model(id="m", width=FIXED, height=FIXED, max_pixels=65536)


def size(source: tuple[int, int], model: Model | None, **given: int) -> tuple[int, int]:
    """Width and height that are sent for an initial image of size `source`; 0 for unset."""
    requested = GenerationParameters(prompt="x", initial_image=Requested(key="k"), **given)
    sent = parameters(requested, InitialImage(b"", *source), b"", model)
    return sent.width, sent.height


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param((512, 768), (512, 768), id="supported"),
        pytest.param((1000, 667), (1000, 664), id="less-than-a-step-cut-off"),
        pytest.param((1536, 1040), (1536, 1040), id="largest"),
        pytest.param((1536, 1536), (1024, 1024), id="too-many-pixels"),
        pytest.param((4000, 3000), (1176, 880), id="landscape-as-many-pixels-as-default"),
        pytest.param((3000, 4000), (880, 1176), id="portrait-as-many-pixels-as-default"),
        pytest.param((100, 100), (1024, 1024), id="too-small"),
        pytest.param((255, 300), (256, 296), id="almost-too-small"),
        pytest.param((240, 300), (912, 1144), id="too-narrow"),
        pytest.param((8000, 500), (1536, 256), id="very-wide"),
    ],
)
def test_shape_is_kept_if_the_model_is_flexible(source: tuple[int, int], expected: tuple[int, int]) -> None:
    assert size(source, FLEXIBLE) == expected


@pytest.mark.parametrize("source", [(256, 256), (512, 512), (300, 900), (8000, 10)])
def test_model_with_one_size_gets_it(source: tuple[int, int]) -> None:
    assert size(source, SQUARE) == (256, 256)


def test_given_size_is_not_changed() -> None:
    assert size((512, 768), FLEXIBLE, width=640) == (640, 0)
    assert size((512, 768), FLEXIBLE, height=640) == (0, 640)


def test_unknown_model_gets_no_size() -> None:
    assert size((512, 768), None) == (0, 0)
