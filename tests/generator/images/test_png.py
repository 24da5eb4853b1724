import io

import numpy as np
import pytest
from PIL import Image

from services.generator.images.png import encode_png


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (64, 64), (33, 257)])
def test_what_is_encoded_is_decoded_again(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    decoded = Image.open(io.BytesIO(encode_png(pixels)))
    decoded.load()
    assert decoded.format == "PNG"
    assert np.array_equal(np.asarray(decoded), pixels)


def test_views_that_are_not_contiguous() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 24), np.uint8).transpose(1, 2, 0)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels)))), pixels)


def test_only_rgb() -> None:
    with pytest.raises(ValueError, match="three channels"):
        encode_png(np.zeros((4, 4, 4), np.uint8))
