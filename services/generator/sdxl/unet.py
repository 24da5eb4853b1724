"""Runs the UNet: eagerly, compiled, or as CUDA graphs, with a fixed ladder of batch sizes.

A compiled or captured UNet is valid for one shape only. So the shapes are few and known at the start: the sizes that
are warmed, one or two chunks of text, and the rungs of a ladder of row counts; a batch is padded to the next rung.
Other sizes and longer texts run eagerly, with as many rows as they have.
"""

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from services.generator.sdxl.options import SdxlOptions

log = logging.getLogger(__name__)

Tensor = torch.Tensor
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]

_CAPTURE_WARM_UPS = 3
WARM_CHUNKS = (1, 2)
"""Chunks of text that are warmed: people write prompts of one chunk, language models some of two."""


@dataclass
class _Captured:
    graph: Any
    inputs: Inputs
    output: Tensor


class UnetRunner:
    """One UNet and its fast versions. Belongs to the engine thread, which captures and replays the graphs."""

    def __init__(self, pipeline: Any, options: SdxlOptions, *, warm_chunks: tuple[int, ...] = WARM_CHUNKS) -> None:
        """Prepare the UNet of `pipeline`, already on its device, in place. `options` are those for the device."""
        self._options = options
        self._ladder = options.batch_sizes
        self._warm_chunks = warm_chunks
        self._warm: set[tuple[int, int, int]] = set()
        self._graphs: dict[tuple[int, int, int, int], _Captured] = {}
        self._pool: Any = None
        if options.fuse_qkv:
            pipeline.fuse_qkv_projections(unet=True, vae=False)
        self._unet = pipeline.unet
        if options.channels_last:
            self._unet.to(memory_format=torch.channels_last)
        self._fast = self._unet if options.compile == "off" else self._compile()

    @property
    def module(self) -> Any:
        """The UNet."""
        return self._unet

    @property
    def accelerated(self) -> bool:
        """Whether warmed shapes run compiled or as CUDA graphs."""
        return self._options.compile != "off" or self._options.cuda_graphs

    @property
    def captured(self) -> int:
        """The number of captured CUDA graphs."""
        return len(self._graphs)

    def rung(self, rows: int, height: int, width: int, text_length: int) -> int:
        """The number of rows that a batch of `rows` is padded to, for that size of latents and number of tokens."""
        if not self._ladder or (self.accelerated and (height, width, text_length) not in self._warm):
            return rows
        return next((rung for rung in self._ladder if rung >= rows), rows)

    def warm_up(self, height: int, width: int, make_inputs: Any) -> None:
        """Compile and capture every rung for latents of that size; `make_inputs(rows)` returns Inputs with a short
        text.

        If that fails, this runner stays eager and logs a warning.
        """
        if not self.accelerated:
            return
        begin = time.monotonic()
        try:
            for chunks in self._warm_chunks:
                for rows in self._ladder:
                    x, timestep, tokens, *others = make_inputs(rows)
                    tokens = tokens.repeat(1, chunks, 1)
                    self._warm.add((height, width, tokens.shape[1]))
                    self(x, timestep, tokens, *others)
        except Exception as error:
            log.warning("the UNet stays eager: it could not be compiled or captured", exc_info=error)
            self._options = self._options.model_copy(update={"compile": "off", "cuda_graphs": False})
            self._fast, self._graphs, self._pool = self._unet, {}, None
            return
        seconds = round(time.monotonic() - begin, 1)
        log.info("UNet warmed", extra={"latents": f"{height}x{width}", "rungs": self._ladder, "seconds": seconds})

    @torch.no_grad()
    def __call__(
        self, x: Tensor, timestep: Tensor, tokens: Tensor, pooled: Tensor, time_ids: Tensor, guidance: Tensor | None
    ) -> Tensor:
        """The output of the UNet, (rows, 4, h, w). It is valid until the next call: a graph overwrites it."""
        if self._options.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        inputs = (x, timestep, tokens, pooled, time_ids, guidance)
        rows, _, height, width = x.shape
        size = (height, width, tokens.shape[1])
        if not self.accelerated or size not in self._warm or rows not in self._ladder:
            return self._call(self._unet, inputs)
        if not self._options.cuda_graphs:
            return self._call(self._fast, inputs)
        key = (*size, rows)
        if key not in self._graphs:
            self._graphs[key] = self._capture(inputs)
        captured = self._graphs[key]
        for static, given in zip(captured.inputs, inputs, strict=True):
            if static is not None and given is not None:
                static.copy_(given)
        captured.graph.replay()
        return captured.output

    def _call(self, unet: Any, inputs: Inputs) -> Tensor:
        x, timestep, tokens, pooled, time_ids, guidance = inputs
        conditions = {"text_embeds": pooled, "time_ids": time_ids}
        with _attention(self._options.attention):
            out: Tensor = unet(
                x, timestep, tokens, timestep_cond=guidance, added_cond_kwargs=conditions, return_dict=False
            )[0]
        return out

    def _compile(self) -> Any:
        # Compiled kernels outlive the process: the second start takes seconds instead of minutes.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(self._options.compiled_dir))
        # The settings that the PyTorch team recommends for SDXL. The search for block sizes takes minutes per shape:
        # only max-autotune does it.
        search = self._options.compile.startswith("max-autotune")
        config = torch._inductor.config
        config.conv_1x1_as_mm = True
        config.coordinate_descent_tuning = search
        config.epilogue_fusion = False
        config.coordinate_descent_check_all_directions = search
        # One compiled version for each rung and warmed size: beyond the default limit of 8 it would run eagerly.
        torch._dynamo.config.recompile_limit = 64
        return torch.compile(self._unet, mode=self._options.compile, fullgraph=True, dynamic=False)

    def _capture(self, inputs: Inputs) -> _Captured:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        static: Inputs = tuple(  # type: ignore[assignment]  # six of them
            given if given is None else given.clone() for given in inputs
        )
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_CAPTURE_WARM_UPS):  # compiles, tunes and loads kernels, which must not be captured
                self._call(self._fast, static)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # The graphs share one pool of memory. That is safe: one thread replays them one after the other, and the output
        # of a graph is used before the next replay.
        with torch.cuda.graph(graph, pool=self._pool):
            output = self._call(self._fast, static)
        return _Captured(graph, static, output)


def _attention(preferred: str) -> Any:
    if preferred == "auto":
        return contextlib.nullcontext()
    first = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}[preferred]
    rest: Sequence[SDPBackend] = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    return sdpa_kernel([first, *(backend for backend in rest if backend != first)], set_priority=True)
