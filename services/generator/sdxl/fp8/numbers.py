"""What fp8 computes, in plain PyTorch: on the CPU this runs, and the kernels for the GPU are tested against it.

Numbers are float8_e4m3fn: three bits of mantissa, up to ±448. A scale brings the largest number of its group to 448.
The groups are such that no image of a batch can change another: a row (token) of a linear layer's input, an image of
a convolution's, an output channel of a weight.
"""

import torch

Tensor = torch.Tensor

FP8 = torch.float8_e4m3fn
LARGEST = 448.0
# Below this a group counts as all zeros: its scale, and one over its scale, must be ordinary float32 numbers.
SMALLEST_AMAX = 2.0**-64


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, columns) as fp8, and the scales (rows, 1) in float32. A row that is not finite has a scale that is not."""
    return _quantize(x, x.abs().amax(1, keepdim=True))


def quantize_images(x: Tensor) -> tuple[Tensor, Tensor]:
    """(images, channels, h, w) as fp8 with channels last, and the scales (images,) in float32."""
    q, scale = _quantize(x, x.abs().amax((1, 2, 3), keepdim=True))
    return q.contiguous(memory_format=torch.channels_last), scale.flatten()


def _quantize(x: Tensor, amax: Tensor) -> tuple[Tensor, Tensor]:
    """A product with a constant and one reciprocal: operations that come out the same, to the last bit, everywhere.

    NaN stays NaN. Infinity makes its group's scale infinite and itself NaN (infinity times zero), so that neither can
    become a number again on the way through the layer.
    """
    scale = amax.float().clamp(min=SMALLEST_AMAX) * (1 / LARGEST)
    return (x.float() * scale.reciprocal()).clamp(-LARGEST, LARGEST).to(FP8), scale


def conv(
    q: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor | None, stride: int, padding: int
) -> Tensor:
    """The convolution of quantised images (images,) scales with a quantised weight (out,) scales, in float32."""
    sums = torch.nn.functional.conv2d(q.float(), weight.float(), None, stride, padding)
    out = sums * scale[:, None, None, None] * weight_scale[:, None, None]
    return out if bias is None else out + bias.float()[:, None, None]
