"""The fp8 kernels in Triton's interpreter, beside plain PyTorch. `test_fp8_kernels` runs this file in a process of its
own, where TRITON_INTERPRET is set before Triton is imported."""

from typing import Any

import pytest
import torch
import triton.language as tl
from triton.runtime import interpreter

from services.generator.sdxl.fp8 import kernels, numbers
from services.generator.sdxl.fp8.tiles import Tile
from tests.generator import tolerance

TILE = Tile(64, 32, 32, 1, 1)
DTYPES = (torch.float32, torch.bfloat16)
TORCH = {
    tl.float16: torch.float16,
    tl.bfloat16: torch.bfloat16,
    tl.float32: torch.float32,
    tl.float8e4nv: torch.float8_e4m3fn,
}


@pytest.fixture(autouse=True)
def casts_as_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    """This interpreter loses the carry when a mantissa is rounded up, does not round ties to even, and turns NaN into a
    number: 127 becomes 64. The hardware and PyTorch round alike."""

    def convert(data: Any, source: Any, target: Any, _: Any) -> Any:
        values = torch.frombuffer(bytearray(data.tobytes()), dtype=TORCH[source]).to(TORCH[target])
        return values.view(torch.uint8).numpy().view(f"uint{target.primitive_bitwidth}").reshape(data.shape)

    monkeypatch.setattr(interpreter, "_convert_float", convert)


def equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool(torch.allclose(one.float(), other.float(), rtol=0, atol=0, equal_nan=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [16, 80, 320])
def test_rows(dtype: torch.dtype, columns: int) -> None:
    x = torch.randn(23, columns, generator=torch.manual_seed(columns)) * torch.logspace(-30, 30, 23)[:, None]
    x[3], x[4, 5], x[5, 1], x[6, 2] = 0, float("nan"), float("inf"), -float("inf")
    for ours, reference in zip(kernels.quantize_rows(x.to(dtype)), numbers.quantize_rows(x.to(dtype)), strict=True):
        assert ours.dtype == reference.dtype
        assert equal(ours, reference)


def test_rows_of_every_bfloat16_number() -> None:
    x = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16).view(64, 1024)
    for ours, reference in zip(kernels.quantize_rows(x), numbers.quantize_rows(x), strict=True):
        assert equal(ours, reference)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(6, 48, 9, 7), (6, 16, 1, 1), (6, 32, 41, 27)])  # the last is more than one program
def test_images(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.manual_seed(1)) * torch.tensor([1e-20, 1, 1e10, 0, 1, 1]).view(-1, 1, 1, 1)
    x[4, 3, 0, 0], x[5, 7, -1, -1] = float("nan"), float("inf")
    for ours, reference in zip(kernels.quantize_images(x.to(dtype)), numbers.quantize_images(x.to(dtype)), strict=True):
        assert ours.shape == reference.shape
        assert equal(ours, reference)


@pytest.mark.parametrize(
    ("stride", "padding", "kernel", "height", "width", "channels", "outputs", "biased"),
    [
        (1, 1, 3, 8, 8, 32, 32, True),
        (1, 1, 3, 9, 7, 48, 80, True),
        (2, 1, 3, 9, 7, 48, 80, False),
        (2, 1, 3, 8, 6, 16, 16, True),
        (1, 0, 3, 5, 4, 16, 48, False),
        (1, 1, 3, 1, 1, 16, 16, True),
        (1, 0, 1, 3, 5, 48, 32, True),
    ],
)
def test_conv(
    stride: int, padding: int, kernel: int, height: int, width: int, channels: int, outputs: int, biased: bool
) -> None:
    generator = torch.manual_seed(2)
    x = torch.randn(4, channels, height, width, generator=generator) * torch.tensor([1e-6, 1, 1e6, 0]).view(-1, 1, 1, 1)
    w, scales = numbers.quantize_rows(torch.randn(outputs, channels * kernel**2, generator=generator))
    w = w.view(outputs, channels, kernel, kernel).contiguous(memory_format=torch.channels_last)
    bias = torch.randn(outputs, generator=generator).bfloat16() if biased else None
    q, x_scales = numbers.quantize_images(x)
    reference = numbers.conv(q, x_scales, w, scales.flatten(), bias, stride, padding)
    ours = kernels.conv(q, x_scales, w, scales.flatten(), bias, stride, padding, torch.float32, TILE)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    rounding = tolerance.worst_summation(channels * kernel**2) + tolerance.elementwise(4)
    for image, expected in zip(ours, reference, strict=True):
        assert (image - expected).abs().max() <= rounding * expected.abs().max()
    rounded = kernels.conv(q, x_scales, w, scales.flatten(), bias, stride, padding, torch.bfloat16, TILE)
    assert torch.allclose(rounded.float(), reference, rtol=2**-7, atol=rounding * float(reference.abs().max()))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_stays_with_its_image(wrong: float) -> None:
    x = torch.randn(2, 16, 5, 5, generator=torch.manual_seed(3))
    w, scales = numbers.quantize_rows(torch.randn(16, 144, generator=torch.manual_seed(4)))
    w = w.view(16, 16, 3, 3).contiguous(memory_format=torch.channels_last)

    def conv(x: torch.Tensor) -> torch.Tensor:
        q, x_scales = kernels.quantize_images(x)
        return kernels.conv(q, x_scales, w, scales.flatten(), None, 1, 1, torch.float32, TILE)

    clean, x[0, 3, 2, 2] = conv(x), wrong
    spoilt = conv(x)
    assert not torch.isfinite(spoilt[0]).any()
    assert torch.equal(spoilt[1], clean[1])
