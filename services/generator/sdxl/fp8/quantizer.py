"""Quantises each model to fp8 when it is loaded, and refuses a model with too large an error."""

import importlib.util
import logging
import os
import shutil

import torch

from services.generator.engine import CheckpointError
from services.generator.models import ModelInfo
from services.generator.sdxl.fp8 import choice, gate
from services.generator.sdxl.loaded_model import LoadedModel
from services.generator.sdxl.options import SdxlOptions

log = logging.getLogger(__name__)

_LEAST_CAPABILITY = (8, 9)
_ROWS = 8  # without a ladder


class Quantizer:
    """Quantises models, one at a time. Caches the measured speed of layers."""

    def __init__(self, mode: str, tolerance: float, rows: int, clock: choice.Clock | None) -> None:
        """`mode` is "linear" or "all". `clock` times layers with `rows` UNet rows; without it no layer is timed."""
        self._mode = mode
        self._tolerance = tolerance
        self._rows = rows
        self._clock = clock
        self._verdicts: dict[choice.Shape, choice.Verdict] = {}

    def __call__(self, model: LoadedModel, info: ModelInfo, *, is_refiner: bool) -> float:
        """Quantise the UNet of `model` in place. Returns the relative error of its guided prediction.

        Raises CheckpointError when the error is larger than the tolerance.
        """
        unet = model.unet.module
        with choice.watch(choice.eligible(unet, self._mode)) as shapes:
            recording = gate.record(model, info, is_refiner=is_refiner)
        with torch.no_grad():
            summary = choice.quantize(unet, shapes, self._rows, self._clock, self._verdicts)
        quality = gate.compare(recording, model.unet)
        if not quality.worst.guided <= self._tolerance:
            raise CheckpointError(self._refusal(info.id, quality))
        self._log(info.id, summary, quality)
        return quality.worst.guided

    def _refusal(self, name: str, quality: gate.Quality) -> str:
        worst = quality.worst
        milder = "GENERATOR_FP8=linear or off" if self._mode == "all" else "GENERATOR_FP8=off"
        return (
            f"{name} does not tolerate GENERATOR_FP8={self._mode}: at timestep {worst.timestep:.0f} its guided "
            f"prediction has an error of {100 * worst.guided:.2g} % ({100 * worst.plain:.2g} % before guidance), and "
            f"GENERATOR_FP8_TOLERANCE allows {100 * self._tolerance:.2g} %; set {milder}, or allow more"
        )

    def _log(self, name: str, summary: choice.Summary, quality: gate.Quality) -> None:
        saved = summary.saved_seconds
        log.info(
            "UNet quantised to fp8",
            extra={
                "model": name,
                "layers": summary.kept,
                "not_faster": summary.returned,
                "ms_saved": None if saved is None else f"{1e3 * saved:.2f} of a call of {self._rows} rows",
                "error_percent": {f"{level.timestep:.0f}": round(100 * level.guided, 2) for level in quality.levels},
            },
        )


def make_quantizer(options: SdxlOptions, *, device: str, dtype: torch.dtype, on_cpu: bool = False) -> Quantizer | None:
    """The quantizer for `options`, those for `device`; None for "off". Raises CheckpointError if `device` cannot do it.

    `on_cpu` allows it on the CPU, where it only costs time: for tests.
    """
    mode, tolerance = options.fp8, options.fp8_tolerance
    if mode == "off":
        return None
    if device == "cuda":
        capability = torch.cuda.get_device_capability()
    elif on_cpu:
        return Quantizer(mode, tolerance, _ROWS, None)
    else:
        capability = None
    has_compiler = bool(os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang"))
    has_triton = importlib.util.find_spec("triton") is not None
    reason = cannot(capability, dtype, has_triton=has_triton, has_compiler=has_compiler)
    if reason:
        raise CheckpointError(f"GENERATOR_FP8={mode} {reason}")
    # Compiled kernels outlive the process.
    os.environ.setdefault("TRITON_CACHE_DIR", str(options.compiled_dir / "triton"))
    return Quantizer(mode, tolerance, max(options.batch_sizes, default=_ROWS), choice.device_seconds)


def cannot(
    capability: tuple[int, int] | None, dtype: torch.dtype, *, has_triton: bool = True, has_compiler: bool = True
) -> str:
    """Why a device (None: the CPU) cannot compute in fp8; "" if it can."""
    if capability is None:
        return "needs a CUDA device, and the model is on the CPU"
    if capability < _LEAST_CAPABILITY:
        return "needs a CUDA device of compute capability 8.9 or more, and this one has {}.{}".format(*capability)
    if dtype != torch.bfloat16:
        return f"needs GENERATOR_DTYPE=bfloat16, not {str(dtype).removeprefix('torch.')}"
    if not has_triton:
        return "needs the package triton, which is not installed"
    if not has_compiler:
        return "needs a C compiler (gcc or clang), with which Triton builds its launchers"
    return ""
