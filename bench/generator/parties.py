"""Those that are measured side by side: each a process of its own, with the same model, threads, malloc and client."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
from frontispiece.generator.v1 import generator_pb2 as pb
from frontispiece.generator.v1 import generator_pb2_grpc
from frontispiece.types.v1.generation_pb2 import GenerationParameters
from grpc_health.v1 import health_pb2, health_pb2_grpc

from local.environment import TUNING
from local.ports import free_port
from services.generator.servicer import SERVICE_NAME

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "rivals"
START_SECONDS = 240.0

# One thread of PyTorch each, as a service has on two cores with a client beside it.
ENVIRONMENT = {**TUNING, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True)
class Wanted:
    """One image to ask for; guided, Euler."""

    prompt: str
    seed: int
    steps: int = 20
    size: int = 64
    guidance: float = 5.0

    def as_json(self) -> dict[str, Any]:
        """What rivals' programs take."""
        return {name: getattr(self, name) for name in ("prompt", "seed", "steps", "size", "guidance")}


class Party(Protocol):
    """One of those measured."""

    name: str

    async def paint(self, wanted: Wanted) -> bytes:
        """One image as PNG, asked for by one client."""

    async def closed_loop(self, clients: int, wanted: Sequence[Wanted]) -> list[float]:
        """Paint all, `clients` at a time; seconds from asking to having each."""

    def cpu_seconds(self) -> float:
        """Processor time so far of its processes, to ten milliseconds; the client's is not in it."""


@asynccontextmanager
async def process(
    command: Sequence[str], folder: Path, name: str, environment: Mapping[str, str] = {}, **options: Any
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process, and all that it starts, for as long as the block lasts; what it says goes to `folder`/name.log."""
    with (folder / f"{name}.log").open("wb") as log:
        started = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **ENVIRONMENT, **environment},
            stderr=log,
            **{"stdout": log, **options},
            start_new_session=True,
        )
    try:
        yield started
    finally:
        for how, patience in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, how)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(started.wait(), patience)


class Server:
    """A party that many clients ask at once."""

    name = ""
    pid = 0

    async def paint(self, wanted: Wanted) -> bytes:
        """One image."""
        raise NotImplementedError

    async def closed_loop(self, clients: int, wanted: Sequence[Wanted]) -> list[float]:
        """`clients` callers, each sending the next request as soon as it has its image."""
        left, seconds = iter(wanted), []

        async def caller() -> None:
            for one in left:
                begin = time.perf_counter()
                await self.paint(one)
                seconds.append(time.perf_counter() - begin)

        await asyncio.gather(*(caller() for _ in range(clients)))
        return seconds

    def cpu_seconds(self) -> float:
        """Of its session: the process and all that it started."""
        return cpu_seconds_of(self.pid)


class Ours(Server):
    """`python -m services.generator` as it is deployed."""

    name = "ours"

    def __init__(self, pid: int, stub: Any) -> None:
        """Speak to a process that is ready."""
        self.pid = pid
        self._stub = stub
        self.first_steps: list[float] = []
        """Seconds from each request to the news of its first step."""

    async def paint(self, wanted: Wanted) -> bytes:
        """Follows the stream, progress included."""
        message = pb.GenerateRequest(
            parameters=GenerationParameters(
                prompt=wanted.prompt,
                seed=wanted.seed,
                num_inference_steps=wanted.steps,
                guidance_scale=wanted.guidance,
                width=wanted.size,
                height=wanted.size,
            )
        )
        data, begin, told = b"", time.perf_counter(), False
        async for response in self._stub.Generate(message, timeout=600):
            if not told and response.WhichOneof("event") == "progress":
                told = True
                self.first_steps.append(time.perf_counter() - begin)
            data += response.chunk
        return data


class Loop:
    """The stock pipeline called in a loop, without a server; `at_once` prompts in one call."""

    def __init__(self, name: str, child: asyncio.subprocess.Process, at_once: int) -> None:
        """`child` runs rivals/stock.py and is ready."""
        self.name = name
        self._child = child
        self._at_once = at_once

    async def paint(self, wanted: Wanted) -> bytes:
        """One image."""
        (image,) = await self.paint_list([wanted])
        return image

    async def paint_list(self, wanted: Sequence[Wanted]) -> list[bytes]:
        """Several in one call of the pipeline, as PNG; they may differ in prompt and seed only."""
        return [
            base64.b64decode(image) for image in await self._ask([{**one.as_json(), "png": True} for one in wanted])
        ]

    async def closed_loop(self, clients: int, wanted: Sequence[Wanted]) -> list[float]:
        """Whole lists, one after the other, however many clients; each image takes as long as its list."""
        seconds = []
        for start in range(0, len(wanted), self._at_once):
            some = wanted[start : start + self._at_once]
            begin = time.perf_counter()
            await self._ask([one.as_json() for one in some])
            seconds += [time.perf_counter() - begin] * len(some)
        return seconds

    async def _ask(self, requests: list[dict[str, Any]]) -> Any:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(requests).encode() + b"\n")
        await self._child.stdin.drain()
        return json.loads(await self._child.stdout.readline())

    def cpu_seconds(self) -> float:
        """Of the loop."""
        return cpu_seconds_of(self._child.pid)


@asynccontextmanager
async def stock_loop(model: Path, folder: Path) -> AsyncIterator[tuple[Loop, Loop]]:
    """The stock pipeline one image at a time, and eight in a list; both in one process."""
    command = [sys.executable, str(PROGRAMS / "stock.py"), str(model)]
    pipe = asyncio.subprocess.PIPE
    async with process(command, folder, "stock", stdin=pipe, stdout=pipe, limit=2**24) as child:
        assert child.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            while await child.stdout.readline() != b"ready\n":
                if child.returncode is not None or child.stdout.at_eof():
                    raise RuntimeError("the stock pipeline did not start")
        yield Loop("raw pipe()", child, 1), Loop("pipe() with lists of 8", child, 8)


@asynccontextmanager
async def our_service(model: Path, folder: Path, batch: int) -> AsyncIterator[Ours]:
    """Our generator, warm."""
    address = f"127.0.0.1:{free_port()}"
    environment = {
        "GENERATOR_MODEL": str(model),
        "GENERATOR_MODELS_DIR": str(folder / "models"),
        "GENERATOR_LISTEN": address,
        "GENERATOR_DEVICE": "cpu",
        "GENERATOR_THREADS": "1",
        "GENERATOR_MAX_BATCH": str(batch),
    }
    async with process([sys.executable, "-m", "services.generator"], folder, "ours", environment, cwd=ROOT) as child:
        async with grpc.aio.insecure_channel(address) as channel:
            health: Any = health_pb2_grpc.HealthStub(channel)
            check = health_pb2.HealthCheckRequest(service=SERVICE_NAME)
            await health.Check(check, wait_for_ready=True, timeout=START_SECONDS)
            yield Ours(child.pid, generator_pb2_grpc.GeneratorServiceStub(channel))


def cpu_seconds_of(root: int) -> float:
    """Processor time of a process, of its session and of all that they started, as far as it is still to be seen."""
    ticks, parents, members = {}, {}, {root}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, fields = int(stat.parent.name), stat.read_text().rpartition(") ")[2].split()
            parents[pid] = int(fields[1])  # proc(5): state, ppid, pgrp, session, …
            ticks[pid] = sum(map(int, fields[11:15]))
            if int(fields[3]) == root:
                members.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in members} - members:
        members |= more
    return sum(ticks.get(pid, 0) for pid in members) / os.sysconf("SC_CLK_TCK")
