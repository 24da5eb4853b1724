"""The device and the type of the weights, and errors of PyTorch as those of the engine interface."""

import contextlib
from collections.abc import Iterator

import torch

from services.generator.engine import CheckpointError, DeviceLost, OutOfMemory


def choose_device(wanted: str) -> str:
    """GENERATOR_DEVICE as "cpu" or "cuda". Raises CheckpointError when CUDA is not available."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise CheckpointError("GENERATOR_DEVICE is cuda, but PyTorch finds no CUDA device")
    return wanted


def choose_dtype(wanted: str, device: str) -> torch.dtype:
    """GENERATOR_DTYPE as a type."""
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    return names.get(wanted, torch.bfloat16 if device == "cuda" else torch.float32)


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Raise errors of PyTorch as those of the engine interface."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemory(str(error)) from None
    except RuntimeError as error:
        text = str(error)
        if "not enough memory" in text or "can't allocate memory" in text:
            raise OutOfMemory(text) from None
        if "CUDA error" in text or "CUBLAS_STATUS" in text or "CUDNN_STATUS" in text:
            raise DeviceLost(text) from error
        raise
