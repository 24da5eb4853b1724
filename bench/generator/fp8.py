"""Typical layers of SDXL in the model's own type and in fp8, one by one: what fp8 could give at best."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bench.generator.report import Report
from services.generator.sdxl.fp8 import choice

# Layers by their inputs for one UNet row of a 1024-pixel image, the dearest kinds first.
_LAYERS: tuple[tuple[Callable[[], nn.Module], tuple[int, ...]], ...] = (
    (lambda: nn.Linear(1280, 10240), (1024, 1280)),
    (lambda: nn.Conv2d(640, 640, 3, padding=1), (640, 64, 64)),
    (lambda: nn.Linear(640, 5120), (4096, 640)),
    (lambda: nn.Conv2d(320, 320, 3, padding=1), (320, 128, 128)),
    (lambda: nn.Conv2d(1280, 1280, 3, padding=1), (1280, 32, 32)),
    (lambda: nn.Linear(1280, 1280), (1024, 1280)),
)
_TINY: tuple[tuple[Callable[[], nn.Module], tuple[int, ...]], ...] = (
    (lambda: nn.Linear(64, 512), (16, 64)),
    (lambda: nn.Conv2d(64, 64, 3, padding=1), (64, 8, 8)),
)


@torch.no_grad()
def measure_layers(
    report: Report, device: str, dtype: torch.dtype, rows: int, clock: choice.Clock, *, dry: bool
) -> None:
    """Rows G2: milliseconds and TFLOP/s, quantisation of the input included."""
    for make, shape in _TINY if dry else _LAYERS:
        layer: Any = make().to(device, dtype).to(memory_format=torch.channels_last)
        x = torch.randn((rows, *shape), device=device, dtype=dtype)
        if len(shape) == 3:
            x = x.contiguous(memory_format=torch.channels_last)
        with choice.watch({"layer": layer}) as shapes:
            outputs = layer(x).numel()
        verdict = choice.measure(layer, shapes["layer"], rows, clock)
        tflop = 2 * outputs * layer.weight[0].numel() / 1e12
        kind = "3×3" if len(shape) == 3 else "linear"
        what = f"{kind} {layer.weight.shape[1]}→{layer.weight.shape[0]}, {'×'.join(map(str, shape))} × {rows} rows"
        name = str(dtype).removeprefix("torch.")
        report.add("G2", f"{what}, {name}", 1e3 * verdict.seconds, "ms", tflop=tflop, seconds=verdict.seconds)
        if kind == "3×3":
            what += f", tile {'×'.join(map(str, verdict.tile))}"
        ratio, seconds = verdict.seconds / verdict.fp8_seconds, verdict.fp8_seconds
        report.add("G2", f"{what}, fp8", 1e3 * seconds, "ms", name, ratio, tflop, seconds)
