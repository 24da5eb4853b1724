"""Keeps processes running: starts them, restarts them when they end, stops them."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from local.unprivileged import SAME, Identity, home, launched

log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 0.2
MAX_BACKOFF_SECONDS = 10.0
HEALTHY_AFTER_SECONDS = 20.0

BAD_SETTINGS_EXIT_CODE = 2


class StartError(RuntimeError):
    """A process cannot start with its settings; a second attempt would not help."""


class Supervised:
    """One process that runs for as long as the system does.

    `pid_file` holds its process id while it runs, for people and tests that want to signal it.
    """

    def __init__(self, name: str, command: Sequence[str], pid_file: Path, identity: Identity = SAME) -> None:
        """Prepare; nothing is started. The process runs as `identity`."""
        self.name = name
        self._command = list(command)
        self._pid_file = pid_file
        self._identity = identity
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def run(self, environment: Mapping[str, str]) -> None:
        """Start the process, and restart it until stop(). Raises StartError when it rejects its settings."""
        failures = 0
        while not self._stopping:
            begin = time.monotonic()
            code = await self._run_once(environment)
            if self._stopping:
                return
            if code == BAD_SETTINGS_EXIT_CODE:
                raise StartError(f"{self.name} rejects its settings (see above)")
            failures = 1 if time.monotonic() - begin > HEALTHY_AFTER_SECONDS else failures + 1
            delay = _restart_delay(failures)
            log.warning("%s ended; restarting it", self.name, extra={"exit_code": code, "in_seconds": round(delay, 1)})
            await asyncio.sleep(delay)

    async def _run_once(self, environment: Mapping[str, str]) -> int:
        self._process = await _start(self._command, environment, self._identity)
        self._pid_file.write_text(f"{self._process.pid}\n")
        if self._stopping:  # stop() was called while the process was being created
            self._signal(signal.SIGTERM)
        try:
            return await self._process.wait()
        finally:
            self._pid_file.unlink(missing_ok=True)

    async def stop(self, timeout_seconds: float) -> None:
        """Send SIGTERM, and SIGKILL if the process still runs after `timeout_seconds`."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), timeout_seconds)
        except TimeoutError:
            log.warning("%s did not stop within %.0f s and is killed", self.name, timeout_seconds)
            self._signal(signal.SIGKILL)
            await process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


def _restart_delay(failures: int) -> float:
    """Seconds before the next start, after that many failures in succession."""
    from rpc.backoff import Backoff  # it imports gRPC, which would delay the first start of every process

    return Backoff(FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS, jitter="equal").delay(failures)


async def run_to_end(command: Sequence[str], environment: Mapping[str, str], identity: Identity = SAME) -> int:
    """Run a command to its end as `identity`; returns its exit code."""
    process = await _start(command, environment, identity)
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


async def _start(
    command: Sequence[str], environment: Mapping[str, str], identity: Identity
) -> asyncio.subprocess.Process:
    # In a session of its own: Ctrl-C in the terminal reaches only us, and we stop the processes in order.
    return await asyncio.create_subprocess_exec(
        *launched(command, signal.SIGTERM, identity),
        env={**environment, **home(identity)},
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
