"""The rows C1 to C11: what the service costs, on any machine, with a tiny model."""

import asyncio
import io
import os
import subprocess
import sys
import time
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.generator.open_loop import arrivals
from bench.generator.report import Report, median, percentile, resident_bytes, timed
from bench.generator.side_by_side import NO_RIVALS, Rivals, against_rivals, service_against_raw
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
from services.generator.images.png import encode_png
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.loading.tiny import make_checkpoint

STEPS = 20


class CpuRun:
    """All C rows over one tiny checkpoint of 64×64 pixels."""

    def __init__(
        self, report: Report, folder: Path, rounds: int, only: Collection[str] = (), rivals: Rivals = NO_RIVALS
    ) -> None:
        """`rounds` repetitions of what is compared side by side; `only` these rows, or all but C11; C10 if there are
        rivals."""
        self.only = frozenset(only)
        self.rivals = rivals
        self.report = report
        self.rounds = rounds
        self.folder = folder / "tiny-64"
        make_checkpoint(self.folder, size=64)
        self.engine: SdxlEngine = make_engine(self.folder, "cpu", max_batch=8, threads=1)
        self.stock = stock_pipeline(self.folder, "cpu", torch.float32)

    def run(self) -> None:
        """Every row, each on its own."""
        for name, measure in (
            ("C1", lambda: asyncio.run(self.c1())),
            ("C2", self.c2),
            ("C3", lambda: asyncio.run(self.c3())),
            ("C4", lambda: asyncio.run(self.c4())),
            ("C5", self.c5),
            ("C6", self.c6),
            ("C7", self.c7),
            ("C8", lambda: asyncio.run(self.c8())),
            ("C9", lambda: asyncio.run(self.c9())),
            ("C10", lambda: asyncio.run(self.c10())),
            ("C11a", lambda: asyncio.run(self.c11("C11a"))),
            ("C11b", lambda: asyncio.run(self.c11("C11b"))),
        ):
            if self._wants(name):
                self.report.section(name, measure)

    def _wants(self, name: str) -> bool:
        if self.only:
            return not self.only.isdisjoint({name, name.rstrip("ab")})
        return not name.startswith("C11") and (name != "C10" or bool(self.rivals.names))

    async def c1(self) -> None:
        """The service as it is deployed against a raw pipe() loop, each in its own process."""
        await service_against_raw(self.report, self.folder, self.folder.parent, self.rounds)

    async def c10(self) -> None:
        """The same with rivals in the same rounds."""
        await against_rivals(self.report, self.folder, self.rounds, self.rivals)

    async def c11(self, row: str) -> None:
        """Requests that come when they come: all alike (C11a) or not (C11b); with rivals if there are any."""
        kept = 0.55 * self.report.left_seconds if row == "C11a" and self._wants("C11b") else 0.0
        await arrivals(self.report, row, self.folder, self.rounds, self.rivals, kept)

    def c2(self) -> None:
        """What batching gives, and what a second thread gives."""
        cores = os.cpu_count() or 1
        base = 0.0
        for threads in sorted({1, cores}):
            torch.set_num_threads(threads)
            for size in (1, 4, 8):
                wanted = requests(self.engine, size, num_inference_steps=6)
                rate = size / min(timed(partial(paint, self.engine, wanted)) for _ in range(3))
                base = base or rate
                what = f"engine alone, batch {size}, {threads} thread{'s' * (threads > 1)}, 6 steps"
                self.report.add("C2", what, rate, "images/s", "batch 1, 1 thread", rate / base)
        torch.set_num_threads(1)

    async def c3(self) -> None:
        """What a request costs beside the painting: gRPC, queue, threads, PNG, hash."""
        (wanted,) = requests(self.engine, 1, num_inference_steps=1)
        overheads, latencies, processor = [], [], []
        async with serving(self.engine) as client:
            for _ in range(5):
                await client.generate(wanted)
            for _ in range(30 * self.rounds):
                begin, cpu = time.perf_counter(), time.process_time()
                paint(self.engine, [wanted])
                middle, cpu_middle = time.perf_counter(), time.process_time()
                await client.generate(wanted)
                end, cpu_end = time.perf_counter(), time.process_time()
                latencies.append(end - middle)
                overheads.append((end - middle) - (middle - begin))
                processor.append((cpu_end - cpu_middle) - (cpu_middle - cpu))
        self.report.add("C3", "overhead of the service, 1 step, p50", 1e3 * median(overheads), "ms", "aim ≤ 5 ms")
        self.report.add("C3", "overhead of the service, 1 step, p99", 1e3 * percentile(overheads, 99), "ms")
        self.report.add("C3", "… of it processor time, client included, p50", 1e3 * median(processor), "ms")
        self.report.add("C3", "whole call, 1 step, p50", 1e3 * median(latencies), "ms")

    async def c4(self) -> None:
        """How fast a cancel takes effect, and what the others in the batch see of it."""
        wanted = requests(self.engine, 4, num_inference_steps=60)
        async with serving(self.engine) as client:
            steps, times = [], []
            for _ in range(self.rounds):
                calls = [client.call(request) for request in wanted]
                await asyncio.gather(*(self._second_progress(call) for call in calls))
                step_seconds = self._step_seconds(4)
                begin = time.perf_counter()
                for call in calls:
                    call.cancel()
                await client.until_idle()
                times.append(time.perf_counter() - begin)
                steps.append(times[-1] / step_seconds)
        self.report.add("C4", "from cancel to a free slot, p50", 1e3 * median(times), "ms")
        self.report.add("C4", "… in steps of that batch, p50", median(steps), "steps", "aim ≤ 1")
        self._mates_are_equal()

    async def _second_progress(self, call: Any) -> None:
        seen = 0
        async for response in call:
            seen += response.WhichOneof("event") == "progress"
            if seen == 2:
                return

    def _step_seconds(self, size: int) -> float:
        samples = open_samples(self.engine, requests(self.engine, size, num_inference_steps=60))
        return median([timed(lambda: self.engine.step(samples)) for _ in range(5)])

    def _mates_are_equal(self) -> None:
        wanted = requests(self.engine, 4, num_inference_steps=8)
        whole = open_samples(self.engine, wanted)
        for _ in range(8):
            self.engine.step(whole)
        left = open_samples(self.engine, wanted)
        for step in range(8):
            if step == 3:
                del left[1]
            self.engine.step(left)
        pairs = zip([whole[0], whole[2], whole[3]], left, strict=True)
        worst = max(float((one.latents - other.latents).abs().max()) for one, other in pairs)
        what = "latents of batch mates after one of 4 left at step 3 of 8: largest difference"
        self.report.add("C4", what, worst, "", "0 is bit for bit")

    def c5(self) -> None:
        """An image from a batch against the stock pipeline's."""
        worst = 0.0
        wanted = requests(self.engine, 8, num_inference_steps=STEPS)
        samples = open_samples(self.engine, wanted)
        for _ in range(STEPS):
            self.engine.step(samples)
        for request, sample in zip(wanted, samples, strict=True):
            reference = run_stock(self.stock, [request], "latent")[0]
            worst = max(worst, float((sample.latents - reference).abs().max() / reference.abs().max()))
        self.report.add(
            "C5", f"batch of 8 against stock, {STEPS} steps: largest relative difference", worst, "", "aim ≤ 1e-4"
        )

    def c6(self) -> None:
        """PNG of a 1024×1024 photograph-like image."""
        from PIL import Image

        generator = np.random.default_rng(0)
        y, x = np.mgrid[0:1024, 0:1024] / 1024
        smooth = np.stack([np.sin(5 * x + 3 * y), np.cos(4 * y), np.sin(7 * x * y)], axis=-1) * 100 + 128
        pixels = (smooth + generator.normal(0, 1, smooth.shape)).clip(0, 255).astype(np.uint8)

        def pillow(level: int) -> bytes:
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG", compress_level=level)
            return stream.getvalue()

        default = min(timed(lambda: pillow(6)) for _ in range(2))
        fast = min(timed(lambda: pillow(1)) for _ in range(3))
        ours = min(timed(lambda: encode_png(pixels)) for _ in range(5))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels)))), pixels)
        self.report.add("C6", "PNG 1024×1024, Pillow's default", 1e3 * default, "ms", f"{len(pillow(6)) >> 10} KiB")
        self.report.add("C6", "PNG 1024×1024, Pillow at level 1", 1e3 * fast, "ms", "Pillow's default", default / fast)
        what = f"PNG 1024×1024, ours (SUB, isal), {len(encode_png(pixels)) >> 10} KiB"
        self.report.add("C6", what, 1e3 * ours, "ms", "Pillow's default; aim ≥ 6", default / ours)

    def c7(self) -> None:
        """From nothing to a warm engine, in a fresh process."""
        program = (
            "import time; b = time.perf_counter()\n"
            "from services.generator.__main__ import silence_libraries as silence; silence()\n"
            "from bench.generator.subject import make_engine; i = time.perf_counter()\n"
            "import sys, pathlib; from bench.generator.report import resident_bytes\n"
            "make_engine(pathlib.Path(sys.argv[1]), 'cpu', max_batch=8, threads=1); w = time.perf_counter()\n"
            "print(i - b, w - i, resident_bytes())"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(self.folder)], capture_output=True, text=True, check=True
        )
        imported, warm, resident = map(float, done.stdout.split())
        self.report.add("C7", "import", imported, "s")
        self.report.add("C7", "load the tiny model and paint once", warm, "s")
        self.report.add("C7", "resident memory after that", resident / 2**20, "MiB")

    async def c8(self) -> None:
        """A caller that does not read must not hold up the others."""
        wanted = requests(self.engine, 16, num_inference_steps=STEPS)
        ratios = []
        async with serving(self.engine) as client:
            await client.closed_loop(4, wanted[:4])
            for _ in range(self.rounds):
                alone = await self._seconds(client, wanted)
                idle = [client.call(request) for request in requests(self.engine, 2, num_inference_steps=1)]
                await asyncio.sleep(0.05)
                beside = await self._seconds(client, wanted)
                ratios.append(alone / beside)
                for call in idle:
                    call.cancel()
                await client.until_idle()
        self.report.add(
            "C8", "throughput beside two callers that never read", median(ratios), "", "without them", median(ratios)
        )

    async def _seconds(self, client: Client, wanted: Any) -> float:
        begin = time.perf_counter()
        await client.closed_loop(4, wanted)
        return time.perf_counter() - begin

    async def c9(self) -> None:
        """200 requests that are given up half way."""
        wanted = requests(self.engine, 4, num_inference_steps=40)
        async with serving(self.engine) as client:

            async def abort(number: int) -> None:
                call = client.call(wanted[number % 4])
                await self._second_progress(call)
                call.cancel()

            for number in range(0, 40, 4):
                await asyncio.gather(*(abort(number + i) for i in range(4)))
            await client.until_idle()
            before = resident_bytes()
            for number in range(0, 200, 4):
                await asyncio.gather(*(abort(number + i) for i in range(4)))
            await client.until_idle()
            grown = resident_bytes() - before
            metadata = await client.generate(wanted[0])
        assert metadata.file.width == 64
        self.report.add(
            "C9", "resident memory grown over 200 aborts", grown / 2**20, "MiB", "the next request succeeds"
        )
