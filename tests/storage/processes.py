"""The storage service as a process that tests can kill."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from rpc.channel import open_channel
from tests.s3_server import free_ports
from tests.storage.conftest import IMAGES, Client


class StorageProcess:
    """`python -m services.storage`, always on the same port."""

    def __init__(self, **environment: str) -> None:
        self.address = f"127.0.0.1:{free_ports(1)[0]}"
        self._environment = {**os.environ, "STORAGE_LISTEN": self.address, **environment}
        self._process: asyncio.subprocess.Process | None = None
        self.log = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Client]:
        """Start the process, wait until it serves, and kill it at the end."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.storage", env=self._environment, stderr=asyncio.subprocess.PIPE
        )
        drain = None
        try:
            await self._read_until("serving")
            drain = asyncio.create_task(self._read_until(""))
            async with open_channel(self.address, services=[IMAGES]) as channel:
                await channel.channel_ready()
                yield Client(channel)
        finally:
            if self._process.returncode is None:
                self._process.kill()
            await self._process.wait()
            if drain is not None:
                await drain

    @property
    def pid(self) -> int | None:
        """Its id."""
        return self._process.pid if self._process else None

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()

    async def terminate(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return await self._process.wait()

    async def _read_until(self, word: str) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        async with asyncio.timeout(None if not word else 60):
            while line := (await self._process.stderr.readline()).decode():
                self.log += line
                if word and word in line:
                    return
        if word:
            raise RuntimeError(f"storage ended:\n{self.log}")
