"""`python -m bench.queue --json FILE`: how busy the queue keeps a generator, beside clients that ask it directly.

A task goes from PostgreSQL to a dispatcher, to the generator, and its image back through posts to storage, before the
next one is claimed. A device that waits meanwhile earns nothing. The generator is the real one over a device that only
passes the time (device.py): on the CPU everything would share the same cores, and nothing could be seen.
"""

import argparse
import asyncio
import itertools
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from frontispiece.generator.v1 import generator_pb2, generator_pb2_grpc
from frontispiece.posts.v1 import tasks_pb2, tasks_pb2_grpc
from frontispiece.types.v1.generation_pb2 import GenerationParameters

from bench.generator.report import Report, describe_machine, median
from bench.load import stack
from bench.queue import device
from local.ports import free_port

TASK_SECONDS = 120.0
MOST = 1 / (device.STEPS * device.STEP_SECONDS + device.DECODE_SECONDS)
"""Images a second of a device that never waits."""


class Pipeline:
    """A running system, and the two ways to have images painted by it."""

    def __init__(self, posts: grpc.aio.Channel, generator: grpc.aio.Channel) -> None:
        """Speak to both directly."""
        self._tasks = tasks_pb2_grpc.TaskServiceStub(posts)
        self._generator = generator_pb2_grpc.GeneratorServiceStub(generator)
        self._numbers = itertools.count()

    def _prompt(self) -> str:
        return f"a red apple, number {next(self._numbers)}"

    async def directly(self, clients: int, images: int) -> None:
        """Each client asks for the next image as soon as it has one."""
        left = iter(range(images))

        async def client() -> None:
            for _ in left:
                request = generator_pb2.GenerateRequest(parameters=GenerationParameters(prompt=self._prompt()))
                async for _ in self._generator.Generate(request, wait_for_ready=True, timeout=TASK_SECONDS):
                    pass

        await asyncio.gather(*(client() for _ in range(clients)))

    async def through_the_queue(self, images: int) -> None:
        """From the first creation until all tasks await approval. Raises RuntimeError when one ends otherwise."""

        async def task() -> None:
            parameters = GenerationParameters(prompt=self._prompt())
            created = await self._tasks.CreateTask(tasks_pb2.CreateTaskRequest(parameters=parameters), timeout=30)
            watch = tasks_pb2.WatchTaskRequest(task_id=created.task.id)
            async for response in self._tasks.WatchTask(watch, timeout=TASK_SECONDS):
                if response.event.state_change.state == tasks_pb2.TASK_STATE_AWAITING_APPROVAL:
                    return
            raise RuntimeError(f"a task was not painted: {response}")

        await asyncio.gather(*(task() for _ in range(images)))


@asynccontextmanager
async def simulated_device(slots: int) -> AsyncIterator[str]:
    """The address of a generator with a simulated device, in a process of its own."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "bench.queue.device", address, str(slots)]
    process = await asyncio.create_subprocess_exec(*command)
    try:
        yield address
    finally:
        process.terminate()
        await process.wait()


async def measure(report: Report, folder: Path, slots: int, images: int, rounds: int, ahead: list[int]) -> None:
    """Rounds in which each way has a turn, another one first each time."""
    async with simulated_device(slots) as address:
        for number in ahead:
            system = folder / f"ahead-{number}"
            system.mkdir()
            environment = {"POSTS_GENERATOR_TARGETS": address, "WORKER_DISPATCH_AHEAD": str(number)}
            async with (
                stack.own(system, environment) as targets,
                grpc.aio.insecure_channel(targets.hosts["posts"]) as posts,
                grpc.aio.insecure_channel(address) as generator,
            ):
                await _turns(report, Pipeline(posts, generator), slots, images, rounds, number)


async def _turns(report: Report, pipeline: Pipeline, slots: int, images: int, rounds: int, ahead: int) -> None:
    ways: dict[str, Callable[[], Awaitable[None]]] = {
        f"{2 * slots} clients": lambda: pipeline.directly(2 * slots, images),
        f"{slots} client{'s' * (slots > 1)}": lambda: pipeline.directly(slots, images),
        f"the queue, {ahead} ahead": lambda: pipeline.through_the_queue(images),
    }
    await pipeline.through_the_queue(slots)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        names = list(ways)
        first = number % len(names)
        for name in names[first:] + names[:first]:
            begin = time.perf_counter()
            await ways[name]()
            rates[name].append(images / (time.perf_counter() - begin))
    for name, values in rates.items():
        spread = f"the device at work all the time; {min(values) / MOST:.3f} to {max(values) / MOST:.3f}"
        what = f"{slots} slot{'s' * (slots > 1)}, {name}"
        report.add(f"Q{slots}", what, median(values), "images/s", spread, median(values) / MOST)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.queue", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--slots", default="1,8", help="images that share a step, comma-separated")
    parser.add_argument("--ahead", default="1", help="WORKER_DISPATCH_AHEAD, comma-separated")
    parser.add_argument("--images", type=int, default=16, help="images of one turn")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    # Ended as by Ctrl-C: what was started for the measurement must not outlive it.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    report = Report(arguments.json, describe_machine("simulated"), 600)
    ahead = [int(number) for number in arguments.ahead.split(",")]
    for slots in map(int, arguments.slots.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(measure(report, Path(folder), slots, arguments.images, arguments.rounds, ahead))


if __name__ == "__main__":
    main()
