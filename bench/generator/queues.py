"""What one writes around the stock pipeline first: a queue and one worker, which may take several requests at once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from bench.generator.parties import Server, Wanted


class Lists(Protocol):
    """What paints a list of requests."""

    async def paint_list(self, wanted: Sequence[Wanted]) -> list[bytes]:
        """The images in order; the requests differ in prompt and seed only."""

    def cpu_seconds(self) -> float:
        """Processor time so far."""


class Queue(Server):
    """Requests in the order in which they came. With the first go those waiting that are like it, up to `at_once`."""

    def __init__(self, name: str, lists: Lists, at_once: int, window_seconds: float) -> None:
        """Once there is a request, wait `window_seconds` for more unless `at_once` that are alike are there already."""
        self.name = name
        self._lists = lists
        self._at_once = at_once
        self._window_seconds = window_seconds
        self._waiting: list[tuple[Wanted, asyncio.Future[bytes]]] = []
        self._arrived = asyncio.Event()

    async def paint(self, wanted: Wanted) -> bytes:
        """Wait for one's turn."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, future))
        self._arrived.set()
        image: bytes = await future
        return image

    async def work(self) -> None:
        """Paint what waits, for ever. A list that fails fails its requests only."""
        while True:
            await self._arrived.wait()
            if self._window_seconds and len(self._next()) < self._at_once:
                await asyncio.sleep(self._window_seconds)
            taken = [self._waiting[place] for place in self._next()]
            self._waiting = [entry for entry in self._waiting if entry not in taken]
            if not self._waiting:
                self._arrived.clear()
            await self._paint(taken)

    def _next(self) -> list[int]:
        return alike([wanted for wanted, _ in self._waiting])[: self._at_once]

    async def _paint(self, taken: list[tuple[Wanted, "asyncio.Future[bytes]"]]) -> None:
        try:
            images = await self._lists.paint_list([wanted for wanted, _ in taken])
        except Exception as error:
            for _, future in taken:
                if not future.done():  # its caller may have given up
                    future.set_exception(error)
            return
        for (_, future), image in zip(taken, images, strict=True):
            if not future.done():
                future.set_result(image)

    def cpu_seconds(self) -> float:
        """Of what paints."""
        return self._lists.cpu_seconds()


def alike(waiting: Sequence[Wanted]) -> list[int]:
    """The places of the first and of those that may share a call of the pipeline with it."""
    kinds = [(one.size, one.steps, one.guidance) for one in waiting]
    return [place for place, kind in enumerate(kinds) if kind == kinds[0]]


@asynccontextmanager
async def queue(name: str, lists: Lists, at_once: int = 1, window_seconds: float = 0.0) -> AsyncIterator[Queue]:
    """A queue whose worker is at work for as long as the block lasts."""
    made = Queue(name, lists, at_once, window_seconds)
    worker = asyncio.create_task(made.work())
    try:
        yield made
    finally:
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker
