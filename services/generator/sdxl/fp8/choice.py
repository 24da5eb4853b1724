"""Chooses the layers for fp8: those that tolerate it and, on a GPU, that are faster with it there."""

import logging
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from services.generator.sdxl.fp8.layers import Float8Conv2d, Float8Linear, Float8PointwiseConv2d
from services.generator.sdxl.fp8.tiles import TILES, Tile

log = logging.getLogger(__name__)

Clock = Callable[[Callable[[], Any]], float]  # returns the seconds of one call

_MULTIPLE = 16
_ENDS = ("conv_in", "conv_out")
# A smaller gain is within the noise of the measurement.
_WORTHWHILE = 0.97
# With three bits of mantissa in both factors the relative error of a product of random matrices is 0.036, for any size.
_LAYER_TOLERANCE = 0.06
_ROUNDS, _CALLS = 3, 5
_HEAD_START_CYCLES = 4_000_000  # two milliseconds: all calls are queued before the first begins


@dataclass(frozen=True)
class Shape:
    """The properties that the speed of a layer depends on; `x` is the shape of its input for one UNet row."""

    kind: str
    weight: tuple[int, ...]
    stride: int
    biased: bool
    x: tuple[int, ...]
    channels_last: bool


@dataclass(frozen=True)
class Verdict:
    """Seconds of one call of the original layer, and in fp8 with the fastest tile."""

    seconds: float
    fp8_seconds: float
    tile: Tile = TILES[0]

    @property
    def keeps_fp8(self) -> bool:
        """Whether fp8 is faster."""
        return self.fp8_seconds < _WORTHWHILE * self.seconds


@dataclass(frozen=True)
class Summary:
    """The number of layers in fp8, of layers that are not faster with it, and the seconds saved in one UNet call.

    `saved_seconds` is None when nothing was timed.
    """

    kept: int
    returned: int
    saved_seconds: float | None


def eligible(unet: nn.Module, mode: str) -> dict[str, nn.Module]:
    """Layers by name that may use fp8: linear layers with `mode` "linear", convolutions too with "all".

    Excluded are the first layer, the last layer and the block before it: no later layer reduces their error, and in the
    default model that block causes nine tenths of the total error. Excluded are also the embeddings of time and sizes,
    which are small and affect every layer, and sizes without a kernel.
    """
    last_block = _last_block(unet)
    modules = (
        (name, module)
        for name, module in unet.named_modules()
        if not name.startswith(last_block) and not any(part in _ENDS or "emb" in part for part in name.split("."))
    )
    return {name: module for name, module in modules if _is_linear(module) or (mode == "all" and _is_conv(module))}


def _last_block(unet: Any) -> tuple[str, ...]:
    """The prefixes of the names of the layers directly before the last convolution."""
    end = len(unet.up_blocks) - 1
    parts = {"resnets": unet.up_blocks[end].resnets, "attentions": getattr(unet.up_blocks[end], "attentions", ())}
    return tuple(f"up_blocks.{end}.{part}.{len(blocks) - 1}." for part, blocks in parts.items() if len(blocks))


def _is_linear(module: Any) -> bool:
    return type(module) is nn.Linear and not (module.in_features % _MULTIPLE or module.out_features % _MULTIPLE)


def _is_conv(module: Any) -> bool:
    if type(module) is not nn.Conv2d or module.in_channels % _MULTIPLE or module.out_channels % _MULTIPLE:
        return False
    plain = module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
    form = (module.kernel_size, module.stride, module.padding)
    known = (((1, 1), (1, 1), (0, 0)), ((3, 3), (1, 1), (1, 1)), ((3, 3), (2, 2), (1, 1)))
    return plain and form in known


@contextmanager
def watch(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Shape]]:
    """Record the shapes of the `layers` called in the block, by name. The first dimension must be UNet rows."""
    shapes: dict[str, Shape] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            shapes.setdefault(name, _shape(module, arguments[0]))

        return hook

    handles = [module.register_forward_pre_hook(note(name)) for name, module in layers.items()]
    try:
        yield shapes
    finally:
        for handle in handles:
            handle.remove()


def _shape(module: Any, x: torch.Tensor) -> Shape:
    conv = isinstance(module, nn.Conv2d)
    return Shape(
        kind="conv" if conv else "linear",
        weight=tuple(module.weight.shape),
        stride=module.stride[0] if conv else 1,
        biased=module.bias is not None,
        x=tuple(x.shape[1:]),
        channels_last=x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last),
    )


def quantize(
    unet: nn.Module,
    shapes: Mapping[str, Shape],
    rows: int,
    clock: Clock | None,
    verdicts: MutableMapping[Shape, Verdict],
) -> Summary:
    """Replace the layers named in `shapes` in place; with a `clock` only those that are faster with `rows` rows.

    `verdicts` is the cache of the measurements: each shape is measured once, for all models.
    """
    kept, saved = 0, 0.0
    for name, shape in shapes.items():
        layer = unet.get_submodule(name)
        if clock is None:
            unet.set_submodule(name, to_fp8(layer))
            kept += 1
            continue
        if shape not in verdicts:
            verdicts[shape] = measure(layer, shape, rows, clock)
        verdict = verdicts[shape]
        if verdict.keeps_fp8:
            unet.set_submodule(name, to_fp8(layer, verdict.tile))
            kept += 1
            saved += verdict.seconds - verdict.fp8_seconds
    return Summary(kept, len(shapes) - kept, None if clock is None else saved)


def to_fp8(layer: Any, tile: Tile = TILES[0]) -> nn.Module:
    """The layer in fp8, on the same device."""
    if isinstance(layer, nn.Linear):
        return Float8Linear(layer.weight, layer.bias)
    if layer.kernel_size == (1, 1):
        return Float8PointwiseConv2d(layer.weight.flatten(1), layer.bias)
    return Float8Conv2d(layer.weight, layer.bias, layer.stride[0], layer.padding[0], tile)


def measure(layer: Any, shape: Shape, rows: int, clock: Clock) -> Verdict:
    """Time a layer as it is and in fp8, with random inputs for `rows` UNet rows."""
    x = torch.randn((rows, *shape.x), dtype=layer.weight.dtype, device=layer.weight.device)
    if shape.channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    seconds = clock(lambda: layer(x))
    out, quantized = layer(x).float(), to_fp8(layer)
    times: dict[Tile, float] = {}
    for tile in TILES if isinstance(quantized, Float8Conv2d) else TILES[:1]:
        quantized.tile = tile  # type: ignore[assignment]  # a linear layer ignores it
        try:
            error = float((quantized(x).float() - out).norm() / out.norm())
            if not error < _LAYER_TOLERANCE:
                raise ValueError(f"its relative error is {error:.3f}")
            times[tile] = clock(lambda: quantized(x))
        except Exception as error:
            # A smaller GPU has no room for the larger tiles. A kernel that computes another result is not used.
            log.warning("left out: %s", error, extra={"weight": shape.weight, "tile": tuple(tile)})
    best = min(times, key=times.__getitem__, default=TILES[0])
    return Verdict(seconds, times.get(best, float("inf")), best)


def device_seconds(work: Callable[[], Any]) -> float:
    """Seconds of one call on the GPU alone: in a CUDA graph the CPU has no launch cost."""
    for _ in range(2):
        work()
    times: list[float] = []
    for _ in range(_ROUNDS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda._sleep(_HEAD_START_CYCLES)
        begin.record()
        for _ in range(_CALLS):
            work()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) / 1e3 / _CALLS)
    return min(times)
