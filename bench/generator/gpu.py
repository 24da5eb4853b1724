"""The rows G1 to G13: how near the engine comes to what the GPU can do. `--dry` runs all of it on a tiny model."""

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.generator import ceilings
from bench.generator.arrivals import Speeds, poisson
from bench.generator.fp8 import measure_layers
from bench.generator.full import make_full_checkpoint
from bench.generator.report import Report, median, nvidia_smi, percentile, timed
from bench.generator.subject import (
    Client,
    make_engine,
    open_samples,
    paint,
    requests,
    run_stock,
    serving,
    stock_pipeline,
)
from services.generator.models import ImageRequest
from services.generator.sdxl.denoise import Batch
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.fp8 import choice
from services.generator.sdxl.loading.tiny import make_checkpoint
from services.generator.sdxl.options import SdxlOptions
from services.generator.sdxl.unet import UnetRunner

MLPERF_H200 = "2.40 img/s, MLPerf v5.1 H200 fp8, quoted"


class GpuRun:
    """All G rows over one checkpoint: the full SDXL, or a tiny one in a dry run."""

    def __init__(self, report: Report, folder: Path, device: str, *, dry: bool, only: set[str]) -> None:
        """`only` names the rows to run; empty: all."""
        self.report = report
        self.device = device
        self.dry = dry
        self.only = only
        self.folder = folder / ("tiny" if dry else "sdxl")
        self.dtype = torch.bfloat16 if device == "cuda" else torch.float32
        self.batches = (1, 2) if dry else (1, 2, 4, 8, 16)
        self.steps = 3 if dry else 20
        self.best_batch = self.batches[-1]
        self.raw_rate = 0.0
        self.best: list[Any] = []
        self.unet_tflop = self.vae_tflop = 0.0
        self._engine: SdxlEngine | None = None
        self._stock: Any = None

    def run(self) -> None:
        """The rows, the most wanted first, so that a run that is cut short has them; needs are seconds on an H200."""
        parts: list[tuple[str, Callable[[], None], float]] = [
            ("G0", self.g0, 0),
            ("G11", self.g11, 0),
            ("G1", self.g1, 20),
            ("G3", self.g3, 40),
            ("G4", lambda: asyncio.run(self.g4()), 40),
            ("G2f", self.g2f, 30),
            ("G3f", lambda: self.fp8("linear"), 60),
            ("G3f", lambda: self.fp8("all"), 90),
            ("G12", self.g12, 25),
            ("G6", self.g6, 10),
            ("G2", self.g2, 30),
            ("G3fc", lambda: self.fp8("all", compile="default"), 150),
            ("G3c", lambda: self.variant("compiled", self.best_batch, compile="default"), 110),
            ("G1c", lambda: self.variant("compiled", 1, compile="default"), 90),
            ("G3fc", lambda: self.fp8("linear", compile="default"), 130),
            ("G8", lambda: asyncio.run(self.g8()), 15),
            ("G7", self.g7, 15),
            ("G13", self.g13, 25),
            ("G10", self.g10, 5),
            ("G9", lambda: asyncio.run(self.g9()), 45),
            ("G5", lambda: asyncio.run(self.g5()), 90),
        ]
        for name, measure, needed in parts:
            if not self.only or name in self.only or name in ("G0", "G11"):
                self.report.section(name, measure, 0 if self.dry else needed)

    @property
    def engine(self) -> SdxlEngine:
        """The engine as it is by default on this device."""
        if self._engine is None:
            limit = {"max_batch": self.batches[-1]}
            self._engine = make_engine(self.folder, self.device, **limit)
        return self._engine

    @property
    def stock(self) -> Any:
        """diffusers as it is."""
        if self._stock is None:
            self._stock = stock_pipeline(self.folder, self.device, self.dtype)
        return self._stock

    def wait(self) -> None:
        """Until the device has done everything."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def time(self, work: Callable[[], Any], repeats: int = 3) -> float:
        """The median of a few runs, after one that does not count."""
        work()
        return median([timed(work, self.wait) for _ in range(1 if self.dry else repeats)])

    def image_tflop(self, steps: int, rows: int = 2) -> float:
        """Arithmetic of one image, in TFLOP."""
        return steps * rows * self.unet_tflop + self.vae_tflop

    def g0(self) -> None:
        """What this device can do at all, and what one image costs."""
        make = make_checkpoint if self.dry else make_full_checkpoint
        seconds = timed(lambda: make(self.folder, **({"size": 64} if self.dry else {"device": self.device})))
        self.report.add("G0", "random weights made and saved", seconds, "s")
        size = 512 if self.dry else 8192
        bf16 = ceilings.gemm_tflops(self.device, self.dtype, size)
        self.report.ceiling_tflops = bf16
        self.report.add(
            "G0", f"GEMM {size}³ {self.dtype}".replace("torch.", ""), bf16, "TFLOP/s", "the ceiling of this run"
        )
        fp8 = ceilings.fp8_gemm_tflops(self.device, size)
        if fp8:
            self.report.add("G0", f"GEMM {size}³ fp8", fp8, "TFLOP/s", "the GEMM above", fp8 / bf16)
        self.report.add("G0", "copy", ceilings.copy_bandwidth(self.device, 2**24 if self.dry else 2**31), "GB/s")

    def g11(self) -> None:
        """From a checkpoint on disk to a warm engine."""
        seconds = timed(lambda: self.engine)
        self.report.add("G11", "load, warm up, capture the ladder", seconds, "s", "aim ≤ 20 s with warm caches")
        runner = self.engine.registry.get(self.engine.models[0].id).unet
        # The runner goes on eagerly where capturing fails; the rows below must not pass for captured ones then.
        self.report.add("G11", "sizes captured as CUDA graphs", runner.captured, "", "0 is eager: see the log")
        self.unet_tflop, self.vae_tflop = ceilings.count_tflop(self.engine)
        self.report.add("G11", "arithmetic of one UNet row", self.unet_tflop, "TFLOP")

    def g1(self) -> None:
        """One image at a time."""
        for steps in (self.steps, self.steps * 3 // 2):
            wanted = requests(self.engine, 1, num_inference_steps=steps)
            tflop = self.image_tflop(steps)
            stock = self.time(partial(run_stock, self.stock, wanted))
            self.report.add("G1", f"stock pipe(), 1 image, {steps} steps", stock, "s", tflop=tflop, seconds=stock)
            ours = self.time(partial(paint, self.engine, wanted))
            aim = "stock; aim ≤ 0.75 s for 20 steps, 1.1 s for 30"
            self.report.add("G1", f"ours, 1 image, {steps} steps", ours, "s", aim, stock / ours, tflop, ours)

    def g2(self) -> None:
        """The UNet alone: eager, channels last, CUDA graph; per row, over the batch."""
        usual = self.engine.registry.get(self.engine.models[0].id)
        eager_options = SdxlOptions(cuda_graphs=False, channels_last=False)
        eager = UnetRunner(self.stock, eager_options)  # a UNet of its own: ours was turned channels last in place
        channels_last = UnetRunner(usual.pipeline, eager_options.model_copy(update={"channels_last": True}))
        for images in self.batches:
            inputs = self._unet_inputs(images)
            rows = inputs[0].shape[0]
            base = self._unet_row("eager", eager, inputs, rows, None)
            self._unet_row("eager, channels last", channels_last, inputs, rows, base)
            self._unet_row("as by default", usual.unet, inputs, rows, base)

    def _unet_inputs(self, images: int) -> Any:
        samples = open_samples(self.engine, requests(self.engine, images))
        model = self.engine.registry.get(self.engine.models[0].id)
        return Batch(samples, 2 * images, model.pipeline).unet_inputs()

    def _unet_row(self, name: str, unet: Any, inputs: Any, rows: int, base: float | None) -> float:
        seconds = self.time(lambda: unet(*inputs), 5) / rows
        ratio = base / seconds if base else None
        aim = "eager" if base else "aim ≤ 12.4 ms bf16 at 16 rows and more"
        self.report.add(
            "G2", f"UNet {name}, {rows} rows", 1e3 * seconds, "ms/row", aim, ratio, self.unet_tflop, seconds
        )
        return seconds

    def g3(self) -> None:
        """Images a second, as a batch, without the service; the largest first."""
        for images in reversed(self.batches[1:] if self.dry else self.batches[3:]):
            wanted = requests(self.engine, images, num_inference_steps=self.steps)
            paint(self.engine, requests(self.engine, images, num_inference_steps=2))
            painted: list[Any] = []
            seconds = timed(lambda: painted.extend(paint(self.engine, wanted)), self.wait)  # noqa: B023  # used at once
            rate = images / seconds
            if rate > self.raw_rate:
                self.best_batch, self.raw_rate, self.best = images, rate, painted
            tflop = images * self.image_tflop(self.steps)
            what = f"ours, batch {images}, {self.steps} steps"
            self.report.add("G3", what, rate, "images/s", MLPERF_H200, rate / 2.40, tflop, seconds)
        wanted = requests(self.engine, self.best_batch, num_inference_steps=self.steps)
        # As its documentation advises for batches; all at once, sixteen images have more elements than an int counts.
        self.stock.vae.enable_slicing()
        run_stock(self.stock, requests(self.engine, self.best_batch, num_inference_steps=2))
        stock = timed(lambda: run_stock(self.stock, wanted), self.wait)
        rate = self.best_batch / stock
        tflop = self.best_batch * self.image_tflop(self.steps)
        what = f"stock, list of {self.best_batch} prompts"
        self.report.add("G3", what, rate, "images/s", "ours, best batch", rate / self.raw_rate, tflop, stock)

    async def g4(self) -> None:
        """The same through gRPC, with mixed prompts, seeds and guidance scales."""
        async with serving(self.engine) as client:
            for clients in (1, 2) if self.dry else (1, 8, 16, 32):
                count = max(2, clients) * (1 if clients > 8 else 2)
                wanted = [
                    replace(request, guidance_scale=4.0 + request.seed % 4)
                    for request in requests(self.engine, count, num_inference_steps=self.steps)
                ]
                begin = time.perf_counter()
                await client.closed_loop(clients, wanted)
                rate = count / (time.perf_counter() - begin)
                ratio = rate / self.raw_rate if self.raw_rate else None
                aim = "G3 raw; aim ≥ 0.97 with full batches"
                self.report.add("G4", f"gRPC, {clients} clients, {count} images", rate, "images/s", aim, ratio)

    async def g5(self) -> None:
        """Poisson arrivals: joining between steps against a queue of whole batches."""
        rate = self.raw_rate or 1.0
        for share in (0.5, 0.8):
            count = 4 if self.dry else max(8, int(20 * share * rate))
            gaps = poisson(count, share * rate)
            joined = await self._joining(gaps)
            name = f"Poisson at {round(100 * share)} % of G3"
            self.report.add("G5", f"{name}, joining between steps, p50", percentile(joined, 50), "s")
            self.report.add("G5", f"{name}, joining between steps, p99", percentile(joined, 99), "s", "aim < windows")
            one = timed(
                partial(paint, self.engine, requests(self.engine, 1, num_inference_steps=self.steps)), self.wait
            )
            speeds = Speeds(one, self.best_batch / rate, self.best_batch)
            ways = (("one after the other", speeds.serial), ("windows of whole batches", speeds.windows))
            for other, latencies in ways:
                p99 = percentile(latencies(gaps), 99)
                what = f"{name}, {other}, p99 (simulated from G1 and G3 times)"
                self.report.add("G5", what, p99, "s", "joining", percentile(joined, 99) / p99)

    async def _joining(self, gaps: Sequence[float]) -> list[float]:
        times: list[float] = []
        wanted = requests(self.engine, len(gaps), num_inference_steps=self.steps)

        async def arrive(client: Client, request: ImageRequest) -> None:
            begin = time.perf_counter()
            await client.generate(request)
            times.append(time.perf_counter() - begin)

        async with serving(self.engine) as client:
            async with asyncio.TaskGroup() as group:
                for gap, request in zip(gaps, wanted, strict=True):
                    await asyncio.sleep(gap)
                    group.create_task(arrive(client, request))
        return times

    def g6(self) -> None:
        """The VAE alone."""
        model = self.engine.registry.get(self.engine.models[0].id)
        base = 0.0
        for images in (1, 2) if self.dry else (1, 2, 4):
            samples = open_samples(self.engine, requests(self.engine, images))
            latents = torch.stack([sample.latents for sample in samples])
            seconds = self.time(partial(model.decoder.decode, latents)) / images
            base = base or seconds
            aim = "one at a time; aim ≤ 30 ms"
            what = f"VAE decode, uint8 and copy, {images} at once"
            self.report.add("G6", what, 1e3 * seconds, "ms/image", aim, base / seconds, self.vae_tflop, seconds)

    def g7(self) -> None:
        """Few steps without guidance, as Turbo, Lightning and LCM checkpoints want it."""
        for images in (1, self.batches[-1]):
            wanted = requests(self.engine, images, num_inference_steps=4, guidance_scale=0.0)
            rate = images / self.time(partial(paint, self.engine, wanted))
            quoted = "10.8 img/s, MLPerf v4.1 open H200 LCM, quoted"
            tflop = self.image_tflop(4, 1) * images
            what = f"4 steps without guidance, batch {images}"
            self.report.add("G7", what, rate, "images/s", quoted, rate / 10.8, tflop, images / rate)

    async def g8(self) -> None:
        """From a cancel to the first step of the next request."""
        wanted = requests(self.engine, 2, num_inference_steps=80)
        times = []
        async with serving(self.engine) as client:
            for _ in range(2 if self.dry else 6):
                call = client.call(wanted[0])
                async for response in call:
                    if response.WhichOneof("event") == "progress":
                        break
                begin = time.perf_counter()
                call.cancel()
                await client.until_idle()
                times.append(time.perf_counter() - begin)
        samples = open_samples(self.engine, wanted[:1])
        step = median([timed(lambda: self.engine.step(samples), self.wait) for _ in range(3)])
        self.report.add("G8", "from cancel to a free slot, p50", 1e3 * median(times), "ms")
        self.report.add("G8", "… in steps", median(times) / step, "steps", "aim ≤ 1.5, and no decode")

    async def g9(self) -> None:
        """What progress and previews cost."""
        batch = self.best_batch
        wanted = requests(self.engine, 2 * batch, num_inference_steps=self.steps)
        async with serving(self.engine) as client:
            base = 0.0
            for name, interval in (("progress", 0), ("progress and previews", 1)):
                begin = time.perf_counter()
                await client.closed_loop(batch, wanted, interval)
                rate = len(wanted) / (time.perf_counter() - begin)
                base = base or rate
                self.report.add("G9", f"with {name}", rate, "images/s", "progress alone; aim ≥ 0.98", rate / base)

    def g10(self) -> None:
        """From latents to PNG bytes: see C6 for the encoders side by side."""
        from services.generator.images.png import encode_png

        (pixels,) = paint(self.engine, requests(self.engine, 1, num_inference_steps=2))
        seconds = self.time(lambda: encode_png(pixels), 5)
        self.report.add("G10", f"PNG {pixels.shape[1]}×{pixels.shape[0]}", 1e3 * seconds, "ms", "aim ≤ 15 ms")

    def g12(self) -> None:
        """The same image from a batch, alone, padded, and from the stock pipeline."""
        wanted = requests(self.engine, self.batches[-1], num_inference_steps=self.steps)
        together, alone = paint(self.engine, wanted), paint(self.engine, wanted[:1])
        self.report.add(
            "G12", "batch against alone, PSNR of the image", _psnr(together[0], alone[0]), "dB", "higher is nearer"
        )
        padded = paint(self.engine, wanted[:3] if len(wanted) >= 3 else wanted)
        self.report.add("G12", "in a padded batch against alone, PSNR", _psnr(padded[0], alone[0]), "dB")
        import numpy as np

        stock = np.asarray(run_stock(self.stock, wanted[:1])[0])
        what = "ours against stock in the same type (stock keeps latents in it), PSNR"
        self.report.add("G12", what, _psnr(stock, alone[0]), "dB")

    def g13(self) -> None:
        """Memory and energy."""
        if self.device != "cuda":
            self.report.add("G13", "needs CUDA", float("nan"), "")
            return
        for images in self.batches:
            torch.cuda.reset_peak_memory_stats()
            paint(self.engine, requests(self.engine, images, num_inference_steps=2))
            peak = torch.cuda.max_memory_allocated() / 2**30
            self.report.add("G13", f"peak memory, batch {images}", peak, "GiB")
        wanted = requests(self.engine, self.best_batch, num_inference_steps=self.steps)
        watts: list[float] = []
        begin = time.perf_counter()
        samples = open_samples(self.engine, wanted)
        while samples[0].steps_done < samples[0].total_steps:
            self.engine.step(samples)
            watts.append(float(nvidia_smi("power.draw").splitlines()[0] or 0))
        self.wait()
        joules = median(watts) * (time.perf_counter() - begin) / len(wanted)
        self.report.add("G13", f"energy, batch {self.best_batch} (with nvidia-smi between steps)", joules, "J/image")

    def g2f(self) -> None:
        """Typical layers alone, as they are and in fp8."""
        clock = choice.device_seconds if self.device == "cuda" else timed
        measure_layers(self.report, self.device, self.dtype, 2 * self.best_batch, clock, dry=self.dry)

    def fp8(self, mode: str, **options: Any) -> None:
        """The best batch with GENERATOR_FP8. Random weights are no measure of what pictures stand: all is allowed."""
        name = f"fp8 {mode}, compiled" if options else f"fp8 {mode}"
        on_cpu = self.device == "cpu"
        self.variant(name, self.best_batch, fp8=mode, fp8_tolerance=1e9, fp8_on_cpu=on_cpu, **options)

    def variant(self, name: str, images: int, **options: Any) -> None:
        """One batch with other options, on one rung of the ladder, beside the default engine of this run."""
        gc.collect()  # the weights of the variant before, and the memory of its graphs
        row = "G1" if images == 1 else "G3"
        wanted = requests(self.engine, images, num_inference_steps=self.steps)
        default = timed(partial(paint, self.engine, wanted), self.wait)
        begin = time.perf_counter()
        shape: dict[str, Any] = {"max_batch": images, "ladder": str(2 * images), "warm_chunks": (1,)}
        engine = make_engine(self.folder, self.device, **shape, **options)
        what = f"{name}: load, compile and capture {2 * images} rows"
        self.report.add("G11", what, time.perf_counter() - begin, "s")
        runner, difference = engine.registry.get(engine.models[0].id).unet, engine.models[0].fp8_difference
        if difference is not None:
            what = f"{name}: guided prediction off by (random weights), at the worst noise level"
            self.report.add("G12", what, 100 * difference, "%", "see decision 0029 for trained weights")
        if not runner.accelerated and (self.device == "cuda" or "compile" in options):
            self.report.add(row, f"{name}: failed: it went on eagerly, see the log", float("nan"), "")
            return
        compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        painted: list[Any] = []
        seconds = timed(lambda: painted.extend(paint(engine, wanted)), self.wait)
        tflop = images * self.image_tflop(self.steps)
        what = f"{name}: batch {images}, {self.steps} steps"
        self.report.add(row, what, images / seconds, "images/s", "default", default / seconds, tflop, seconds)
        again = torch._dynamo.utils.counters["stats"]["unique_graphs"] - compiled
        self.report.add("G11", f"{name}: recompilations after the warm-up", again, "", "aim 0")
        reference = self.best[0] if images == self.best_batch and self.best else paint(self.engine, wanted)[0]
        self.report.add("G12", f"{name} against the default, PSNR", _psnr(reference, painted[0]), "dB")


def _psnr(one: Any, other: Any) -> float:
    error = ((one.astype(float) - other.astype(float)) ** 2).mean()
    return 99.0 if error == 0 else float(10 * torch.log10(torch.tensor(255.0**2 / error)))
