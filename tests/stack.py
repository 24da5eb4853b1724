"""The whole system as a user runs it: `python -m local` in a folder of its own, on a free port."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local.links import READY
from local.ports import free_port

START_TIMEOUT_SECONDS = 240.0
STOP_TIMEOUT_SECONDS = 30.0
COMMAND = (sys.executable, "-m", "local")
FOREIGN = ("AWS_", "GATEWAY_", "POSTS_", "WORKER_")
"""Variables of the machine that the system under test must not read."""


@dataclass
class Stack:
    """A running system. `output` grows with its output."""

    base_url: str
    data: Path
    process: subprocess.Popen[str]
    output: list[str] = field(default_factory=list)
    stop_seconds: float = 0.0

    @property
    def token(self) -> str:
        """The administrator's token."""
        return (self.data / "token").read_text().strip()

    @property
    def authorization(self) -> dict[str, str]:
        """The header that makes a request an editor's."""
        return {"Authorization": f"Bearer {self.token}"}

    def process_id(self, name: str) -> int:
        """The process id of a process of the Procfile. Waits for one that is being started."""
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(FileNotFoundError, ValueError):
                return int((self.data / "run" / f"{name}.pid").read_text())
            if time.monotonic() > deadline:
                raise TimeoutError(f"{name} does not run")
            time.sleep(0.05)

    def postgres_process_id(self) -> int:
        """The process id of the system's own PostgreSQL."""
        return int((self.data / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[0])

    def kill(self, name: str) -> None:
        """kill -9 of a process of the Procfile, or of "postgres"."""
        os.kill(self.postgres_process_id() if name == "postgres" else self.process_id(name), signal.SIGKILL)

    def wait_printed(self, text: str) -> None:
        """Wait for a line of output with `text`. Raises RuntimeError when the system ends before, or takes too long."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not any(text in line for line in self.output):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the system did not print {text!r}:\n" + "".join(self.output[-60:]))
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop as Ctrl-C does; returns the exit code. `stop_seconds` is how long it took."""
        begin = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(STOP_TIMEOUT_SECONDS)
        self.stop_seconds = time.monotonic() - begin
        return code


@contextlib.contextmanager
def starting(data: Path, environment: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """The system with its data in `data`, from the moment that it prints its links until the block ends."""
    port = free_port()
    process = subprocess.Popen(
        COMMAND,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)},
            "GATEWAY_PORT": str(port),
            "FRONTISPIECE_DATA": str(data),
            **(environment or {}),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    stack = Stack(f"http://127.0.0.1:{port}", data, process)
    reader = threading.Thread(target=_read, args=(process, stack.output), daemon=True)
    reader.start()
    try:
        stack.wait_printed("  editor  ")
        yield stack
    finally:
        try:
            stack.stop()
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(5)
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def running(data: Path, environment: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """The system with its data in `data`, ready; it stops when the block ends."""
    with starting(data, environment) as stack:
        stack.wait_printed(READY)
        yield stack


def _read(process: subprocess.Popen[str], output: list[str]) -> None:
    assert process.stdout is not None
    while line := process.stdout.readline():
        output.append(line)
