"""Copies to a device that do not wait for what the device is doing."""

from typing import Any

import torch


def to_device(tensor: torch.Tensor, device: Any) -> torch.Tensor:
    """A tensor of the CPU on `device`, there when the device comes to use it; the CPU goes on at once.

    A plain `.to` would wait until the device has done everything that it was given before, a whole denoising step.
    """
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    # From pageable memory CUDA may wait all the same.
    return tensor.pin_memory().to(device, non_blocking=True)
