"""The same as `numbers`, as Triton kernels for the GPU. Imported only where one is used: Triton is not everywhere.

`TRITON_INTERPRET=1` in the environment runs them on the CPU, slowly: so they are tested.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from services.generator.sdxl.fp8.numbers import FP8, LARGEST, SMALLEST_AMAX
from services.generator.sdxl.fp8.tiles import TILES, Tile

Tensor = torch.Tensor

_LARGEST = tl.constexpr(LARGEST)
_ONE_BY_LARGEST = tl.constexpr(1 / LARGEST)
_SMALLEST_AMAX = tl.constexpr(SMALLEST_AMAX)
_MAGNITUDE = tl.constexpr(0x7FFFFFFF)  # all bits of a float32 but its sign

_EXACT = {"enable_fp_fusion": False}  # a product and a sum are rounded one after the other, as in `numbers`
_CHUNK, _CHUNKS = 4096, 8  # what one program takes at a time of an image, and how often
_GROUP = 8  # tiles of pixels that go through all tiles of channels together, so that both are still in the L2 cache


@triton.jit
def _magnitude_bits(value):
    """|value| as an integer: these sort like the numbers, and NaN above all, which a maximum of floats may drop."""
    return value.to(tl.float32).to(tl.int32, bitcast=True) & _MAGNITUDE


@triton.jit
def _scale_of(bits):
    amax = bits.to(tl.float32, bitcast=True)
    # Not tl.maximum of floats, which may drop a NaN.
    amax = tl.where(amax < _SMALLEST_AMAX, _SMALLEST_AMAX, amax)
    return amax * _ONE_BY_LARGEST


@triton.jit
def _cast(value, scale):
    scaled = value.to(tl.float32) * tl.div_rn(1.0, scale)
    # A comparison with NaN is false: NaN stays.
    scaled = tl.where(scaled > _LARGEST, _LARGEST, scaled)
    scaled = tl.where(scaled < -_LARGEST, -_LARGEST, scaled)
    return scaled.to(tl.float8e4nv)


@triton.jit
def _quantize_rows(x, q, scales, columns, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < columns
    value = tl.load(x + row * columns + column, mask=inside, other=0.0)
    scale = _scale_of(tl.max(_magnitude_bits(value), axis=0))
    tl.store(q + row * columns + column, _cast(value, scale), mask=inside)
    tl.store(scales + row, scale)


@triton.jit
def _image_amax(x, bits, size, CHUNK: tl.constexpr, CHUNKS: tl.constexpr):
    image = tl.program_id(1).to(tl.int64)
    begin = tl.program_id(0).to(tl.int64) * (CHUNK * CHUNKS)
    most = tl.zeros((CHUNK,), tl.int32)
    for chunk in range(CHUNKS):
        place = begin + chunk * CHUNK + tl.arange(0, CHUNK)
        value = tl.load(x + image * size + place, mask=place < size, other=0.0)
        most = tl.maximum(most, _magnitude_bits(value))
    tl.atomic_max(bits + image, tl.max(most, axis=0))


@triton.jit
def _cast_images(x, bits, q, scales, size, CHUNK: tl.constexpr):
    image = tl.program_id(1).to(tl.int64)
    part = tl.program_id(0)
    place = part.to(tl.int64) * CHUNK + tl.arange(0, CHUNK)
    inside = place < size
    scale = _scale_of(tl.load(bits + image))
    value = tl.load(x + image * size + place, mask=inside, other=0.0)
    tl.store(q + image * size + place, _cast(value, scale), mask=inside)
    tl.store(scales + image, scale, mask=part == 0)


@triton.jit
def _conv(
    x,
    weight,
    scales,
    weight_scales,
    bias,
    y,
    images,
    height,
    width,
    channels,
    out_height,
    out_width,
    outputs,
    KERNEL: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    PIXELS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    CHANNELS: tl.constexpr,
    GROUP: tl.constexpr,
):
    """A product of matrices, (pixels, taps × channels) by (taps × channels, outputs), whose first is read in place."""
    pixels = images * out_height * out_width
    pixel_tiles, output_tiles = tl.cdiv(pixels, PIXELS), tl.cdiv(outputs, OUTPUTS)
    program = tl.program_id(0)
    first = program // (GROUP * output_tiles) * GROUP
    group = tl.minimum(pixel_tiles - first, GROUP)
    within = program % (GROUP * output_tiles)
    pixel = (first + within % group) * PIXELS + tl.arange(0, PIXELS)
    output = (within // group) * OUTPUTS + tl.arange(0, OUTPUTS)
    real_pixel, real_output = pixel < pixels, output < outputs

    image = pixel // (out_height * out_width)
    top = pixel // out_width % out_height * STRIDE - PADDING
    left = pixel % out_width * STRIDE - PADDING
    turns = tl.cdiv(channels, CHANNELS)
    total = tl.zeros((PIXELS, OUTPUTS), tl.float32)
    for turn in range(KERNEL * KERNEL * turns):
        tap = turn // turns
        channel = turn % turns * CHANNELS + tl.arange(0, CHANNELS)
        row, column = top + tap // KERNEL, left + tap % KERNEL
        inside = real_pixel & (row >= 0) & (row < height) & (column >= 0) & (column < width)
        # 64 bits: 32 images of 128 × 128 × 1920 are a billion numbers, and batches grow.
        place = ((image * height + row) * width + column).to(tl.int64) * channels
        real_channel = channel < channels
        seen = tl.load(x + place[:, None] + channel[None, :], mask=inside[:, None] & real_channel[None, :], other=0.0)
        place = (output * (KERNEL * KERNEL) + tap).to(tl.int64) * channels
        by = tl.load(
            weight + place[None, :] + channel[:, None], mask=real_output[None, :] & real_channel[:, None], other=0.0
        )
        total = tl.dot(seen, by, total)

    scale = tl.load(scales + image, mask=real_pixel, other=0.0)
    total = total * scale[:, None] * tl.load(weight_scales + output, mask=real_output, other=0.0)[None, :]
    if HAS_BIAS:
        total += tl.load(bias + output, mask=real_output, other=0.0).to(tl.float32)[None, :]
    place = pixel.to(tl.int64)[:, None] * outputs + output[None, :]
    tl.store(y + place, total.to(y.dtype.element_ty), mask=real_pixel[:, None] & real_output[None, :])


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """See `numbers.quantize_rows`."""
    x = x.contiguous()
    rows, columns = x.shape
    q, scales = torch.empty_like(x, dtype=FP8), x.new_empty((rows, 1), dtype=torch.float32)
    block = triton.next_power_of_2(columns)
    warps = min(16, max(1, block // 256))
    _quantize_rows[(rows,)](x, q, scales, columns, BLOCK=block, num_warps=warps, **_EXACT)
    return q, scales


def quantize_images(x: Tensor) -> tuple[Tensor, Tensor]:
    """See `numbers.quantize_images`."""
    x = x.contiguous(memory_format=torch.channels_last)
    images, size = len(x), x[0].numel()
    q, scales = torch.empty_like(x, dtype=FP8), x.new_empty(images, dtype=torch.float32)
    bits = x.new_zeros(images, dtype=torch.int32)
    programs = triton.cdiv(size, _CHUNK * _CHUNKS)
    _image_amax[(programs, images)](x, bits, size, CHUNK=_CHUNK, CHUNKS=_CHUNKS, num_warps=8, **_EXACT)
    programs = triton.cdiv(size, _CHUNK)
    _cast_images[(programs, images)](x, bits, q, scales, size, CHUNK=_CHUNK, num_warps=8, **_EXACT)
    return q, scales


def conv(
    q: Tensor,
    scales: Tensor,
    weight: Tensor,
    weight_scales: Tensor,
    bias: Tensor | None,
    stride: int,
    padding: int,
    dtype: torch.dtype,
    tile: Tile = TILES[0],
) -> Tensor:
    """See `numbers.conv`; `q` and `weight` have their channels last, and so has what comes out, of type `dtype`."""
    images, channels, height, width = q.shape
    outputs, _, kernel, _ = weight.shape
    out_height, out_width = ((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
    shape = (images, outputs, out_height, out_width)
    y = torch.empty(shape, dtype=dtype, device=q.device, memory_format=torch.channels_last)
    tiles = triton.cdiv(images * out_height * out_width, tile.pixels) * triton.cdiv(outputs, tile.outputs)
    sizes: Any = (images, height, width, channels, out_height, out_width, outputs)
    _conv[(tiles,)](
        q,
        weight,
        scales,
        weight_scales,
        weight_scales if bias is None else bias,
        y,
        *sizes,
        KERNEL=kernel,
        STRIDE=stride,
        PADDING=padding,
        HAS_BIAS=bias is not None,
        PIXELS=tile.pixels,
        OUTPUTS=tile.outputs,
        CHANNELS=tile.channels,
        GROUP=_GROUP,
        num_warps=tile.warps,
        num_stages=tile.stages,
        **_EXACT,
    )
    return y
