"""What a device can do at most, measured: matrix products, copies; and the arithmetic that one image needs."""

import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.generator.report import median
from bench.generator.subject import open_samples, requests
from services.generator.sdxl.denoise import Batch


def gemm_tflops(device: str, dtype: torch.dtype, size: int) -> float:
    """TFLOP/s of a square matrix product of normal random numbers."""
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    return 2 * size**3 / _seconds(lambda: left @ right, device) / 1e12


def fp8_gemm_tflops(device: str, size: int) -> float | None:
    """The same in float8 with one scale a tensor; None where there is no such kernel."""
    if device != "cuda":
        return None
    try:
        left = torch.randn(size, size, device=device).to(torch.float8_e4m3fn)
        right = torch.randn(size, size, device=device).to(torch.float8_e4m3fn).t()
        one = torch.ones((), device=device)

        def multiply() -> Any:
            return torch._scaled_mm(
                left, right, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
            )

        return 2 * size**3 / _seconds(multiply, device) / 1e12
    except (RuntimeError, AttributeError):
        return None


def copy_bandwidth(device: str, size_bytes: int) -> float:
    """GB/s read plus written."""
    source = torch.empty(size_bytes, dtype=torch.uint8, device=device).random_(0, 255)
    target = torch.empty_like(source)
    return 2 * size_bytes / _seconds(lambda: target.copy_(source), device) / 1e9


def count_tflop(engine: Any) -> tuple[float, float]:
    """TFLOP of one UNet row and of one VAE decode at the default size."""
    model = engine.registry.get(engine.models[0].id)
    samples = open_samples(engine, requests(engine, 1, guidance_scale=0.0))
    x, timestep, tokens, pooled, time_ids, guidance = Batch(samples, 1, model.pipeline).unet_inputs()
    conditions = {"text_embeds": pooled, "time_ids": time_ids}
    with torch.no_grad(), FlopCounterMode(display=False) as unet:
        model.unet.module(x, timestep, tokens, timestep_cond=guidance, added_cond_kwargs=conditions, return_dict=False)
    with torch.no_grad(), FlopCounterMode(display=False) as vae:
        model.pipeline.vae.decode(x.to(model.pipeline.vae.dtype), return_dict=False)
    return unet.get_total_flops() / 1e12, vae.get_total_flops() / 1e12


def _seconds(work: Any, device: str) -> float:
    times = []
    for _ in range(7):
        if device == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return median(times[2:])
