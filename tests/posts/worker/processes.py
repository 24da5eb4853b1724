"""Workers and APIs as processes of their own."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.posts.conftest import Client, client_of

TIMEOUT = 60.0


class Process:
    """A worker or an API, as a process of its own."""

    def __init__(self, module: str, settings: dict[str, Any], log: Path) -> None:
        self.log = log
        prefix = "POSTS_" if module == "services.posts" else "WORKER_"
        names = {"database_url", "database_wait_seconds", "generator_targets", "storage_target"}
        variables = {("POSTS_" if name in names else prefix) + name.upper(): str(settings[name]) for name in settings}
        with log.open("a") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module], env={**os.environ, **variables}, stderr=stream
            )

    def send(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self._process.wait()

    async def logged(self, text: str) -> None:
        """Wait for a line of the log."""
        async with asyncio.timeout(TIMEOUT):
            while text not in self.log.read_text():
                await asyncio.sleep(0.02)

    async def ended(self) -> int:
        return await asyncio.wait_for(asyncio.to_thread(self._process.wait), TIMEOUT)


class Api(Process):
    """An API process; its address is `target`."""

    target: str

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        async with client_of(self.target) as client:
            await asyncio.wait_for(client.channel.channel_ready(), TIMEOUT)
            yield client
