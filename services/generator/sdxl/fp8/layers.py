"""Layers in fp8 that take the place of PyTorch's: weights quantised once, activations as they come."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from services.generator.sdxl.fp8 import numbers
from services.generator.sdxl.fp8.tiles import TILES, Tile

Tensor = torch.Tensor


class Float8Linear(nn.Module):
    """A linear layer: one scale an output for the weight, one a row for the input, float32 sums, the input's type out.

    The numbers are buffers: what looks at the model's parameters to learn its type or device shall not find fp8.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """`weight` is (out, in); both sizes must be multiples of 16, which `torch._scaled_mm` asks for."""
        super().__init__()
        q, scale = numbers.quantize_rows(weight.detach())
        self.register_buffer("weight", q)
        self.register_buffer("weight_scale", scale.t().contiguous())
        self.register_buffer("bias", bias if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        weight, scale, bias = _buffers(self)
        q, row_scales = _quantize_rows(x.reshape(-1, x.shape[-1]))
        # Fast accumulation leaves sums to the tensor core, which keeps 14 bits or so of mantissa: little beside what
        # factors of three bits lose. What it does to pictures, the gate measures on the device.
        out: Tensor = torch._scaled_mm(
            q, weight.t(), scale_a=row_scales, scale_b=scale, bias=bias, out_dtype=x.dtype, use_fast_accum=True
        )
        return out.view(*x.shape[:-1], out.shape[-1])


class Float8PointwiseConv2d(Float8Linear):
    """A 1×1 convolution: a linear layer over pixels, each with a scale of its own."""

    def forward(self, x: Tensor) -> Tensor:
        """(images, in, h, w) to (images, out, h, w), channels last."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Float8Conv2d(nn.Module):
    """A convolution: one scale an output channel for the weight, one an image for the input; what comes out has
    channels last. `tile` says how the GPU cuts it up."""

    def __init__(self, weight: Tensor, bias: Tensor | None, stride: int, padding: int, tile: Tile = TILES[0]) -> None:
        """`weight` is (out, in, k, k)."""
        super().__init__()
        q, scale = numbers.quantize_rows(weight.detach().flatten(1))
        self.register_buffer("weight", q.view(weight.shape).contiguous(memory_format=torch.channels_last))
        self.register_buffer("weight_scale", scale.flatten())
        self.register_buffer("bias", bias if bias is None else bias.detach())
        self.stride, self.padding, self.tile = stride, padding, tile

    def forward(self, x: Tensor) -> Tensor:
        """(images, in, h, w) to (images, out, h', w')."""
        weight, scale, bias = _buffers(self)
        out: Tensor = _conv(x, weight, scale, bias, self.stride, self.padding, list(self.tile))
        return out


def _buffers(module: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    return module.weight, module.weight_scale, module.bias


def _quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    # A compiler sees plain arithmetic and fuses it with what made `x`; without one, a kernel of our own does it.
    if x.is_cuda and not torch.compiler.is_compiling():
        from services.generator.sdxl.fp8 import kernels

        return kernels.quantize_rows(x)
    return numbers.quantize_rows(x)


# An operator, so that a compiler takes it as one piece.
@torch.library.custom_op("frontispiece::float8_conv", mutates_args=())
def _conv(
    x: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    tile: Sequence[int],
) -> Tensor:
    if x.is_cuda:
        from services.generator.sdxl.fp8 import kernels

        q, scale = kernels.quantize_images(x)
        return kernels.conv(q, scale, weight, weight_scale, bias, stride, padding, x.dtype, Tile(*tile))
    q, scale = numbers.quantize_images(x)
    out = numbers.conv(q, scale, weight, weight_scale, bias, stride, padding)
    return out.to(x.dtype, memory_format=torch.channels_last)


@_conv.register_fake
def _(
    x: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    tile: Sequence[int],
) -> Tensor:
    height, width = ((side + 2 * padding - weight.shape[-1]) // stride + 1 for side in x.shape[2:])
    shape = (len(x), len(weight), height, width)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
