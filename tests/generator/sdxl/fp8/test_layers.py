"""The fp8 layers: as exact as three bits of mantissa allow, each image for itself, and fit for a compiler."""

import pytest
import torch
from torch import nn

from services.generator.sdxl.fp8 import choice, layers, numbers
from services.generator.sdxl.fp8.choice import to_fp8
from tests.generator import harness, tolerance

pytestmark = pytest.mark.fp8

DTYPES = (torch.float32, torch.bfloat16)


@pytest.fixture(autouse=True)
def no_gradients() -> None:
    assert harness  # its import sets the number of threads
    torch.manual_seed(5)
    torch.set_grad_enabled(False)
    yield
    torch.set_grad_enabled(True)


def cases(dtype: torch.dtype) -> list[tuple[nn.Module, torch.Tensor]]:
    """A layer of each kind, and an input of four images of very different magnitudes."""
    magnitudes = torch.tensor([1e-4, 1.0, 1e4, 30.0]).view(-1, 1, 1, 1)
    picture = (torch.randn(4, 64, 9, 7) * magnitudes).to(dtype)
    return [
        (nn.Linear(64, 96).to(dtype), picture.flatten(2).transpose(1, 2)),
        (nn.Linear(64, 96, bias=False).to(dtype), picture.flatten(2).transpose(1, 2)),
        (nn.Conv2d(64, 96, 1).to(dtype), picture),
        (nn.Conv2d(64, 96, 3, padding=1).to(dtype), picture),
        (nn.Conv2d(64, 48, 3, stride=2, padding=1, bias=False).to(dtype), picture),
    ]


@pytest.mark.parametrize("dtype", DTYPES)
def test_each_image_is_off_by_what_the_format_loses(dtype: torch.dtype) -> None:
    for layer, x in cases(dtype):
        for module in layer.parameters():
            if module.dim() == 1:
                module.zero_()  # a bias would hide the smallest image
        exact, ours = layer(x).float(), to_fp8(layer)(x)
        assert (ours.dtype, ours.shape) == (dtype, exact.shape)
        errors = (ours.float() - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)
        assert ((errors > 0.02) & (errors < 0.05)).all(), (layer, errors)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_image_does_not_depend_on_its_neighbours(dtype: torch.dtype) -> None:
    for layer, x in cases(dtype):
        quantized = to_fp8(layer)
        together = quantized(x).float()
        for i in range(len(x)):
            alone = quantized(x[i : i + 1])[0].float()
            # Sums of another length may be added up in another order, but from the same quantised numbers.
            assert (together[i] - alone).abs().max() <= 2 * torch.finfo(dtype).eps * alone.abs().max()


def test_linear_layers_are_the_product_of_the_quantised_numbers() -> None:
    for layer, x in cases(torch.float32)[:2]:
        q, scale = numbers.quantize_rows(x.reshape(-1, 64))
        weight, weight_scale = numbers.quantize_rows(layer.weight)
        expected = (q.double() * scale) @ (weight.double() * weight_scale).T
        expected += 0 if layer.bias is None else layer.bias
        ours = to_fp8(layer)(x).view_as(expected)
        rounding = tolerance.worst_summation(64) + tolerance.elementwise(4)
        assert (ours - expected).abs().max() <= rounding * expected.abs().max()


def test_zeros_give_the_bias() -> None:
    for layer, x in cases(torch.float32):
        assert torch.equal(to_fp8(layer)(torch.zeros_like(x)), layer(torch.zeros_like(x)))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_does_not_vanish_nor_spread(wrong: float) -> None:
    for layer, x in cases(torch.bfloat16):
        quantized = to_fp8(layer)
        clean, spoilt = quantized(x), x.clone()
        spoilt[1, 3, 3] = wrong
        after = quantized(spoilt)
        assert not torch.isfinite(after[1]).all()
        for i in (0, 2, 3):
            assert torch.equal(after[i], clean[i])


def test_quantised_numbers_keep_their_largest() -> None:
    x = torch.randn(50, 32) * torch.logspace(-15, 30, 50)[:, None]
    q, scale = numbers.quantize_rows(x)
    assert (q.float().abs().amax(1) == numbers.LARGEST).all()
    assert torch.allclose(q.float() * scale, x, rtol=2**-4, atol=0) or (q == 0).any()
    # Half a unit of the last of three bits, and of the smallest numbers that there are.
    assert ((q.float() * scale - x).abs() <= (x.abs() * 2**-4).maximum(scale * 2**-10) * 1.0001).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_compiler_takes_them_in_one_piece(dtype: torch.dtype) -> None:
    for layer, x in cases(dtype):
        quantized = to_fp8(layer)
        compiled = torch.compile(quantized, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(x), quantized(x))
        torch._dynamo.reset()


def test_the_operator_is_described_rightly_to_compilers() -> None:
    for layer, x in cases(torch.bfloat16)[3:]:
        conv = to_fp8(layer)
        assert isinstance(conv, layers.Float8Conv2d)
        arguments = (x, *layers._buffers(conv), conv.stride, conv.padding, list(conv.tile))
        checks = ("test_faketensor", "test_aot_dispatch_static")
        torch.library.opcheck(torch.ops.frontispiece.float8_conv.default, arguments, test_utils=checks)


def test_parameters_keep_telling_the_type_of_the_model() -> None:
    for layer, _ in cases(torch.bfloat16):
        quantized = to_fp8(layer, choice.TILES[1])
        assert not list(quantized.parameters())
        assert {buffer.dtype for buffer in quantized.buffers()} >= {torch.float8_e4m3fn, torch.float32}
