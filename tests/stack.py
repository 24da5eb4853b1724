"""The whole system as a user runs it: `python -m local` in a folder of its own, on a free port."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from local.environment import free_port

START_TIMEOUT_SECONDS = 240.0
STOP_TIMEOUT_SECONDS = 30.0


@dataclass
class Stack:
    """A running system. `output` grows with what it prints."""

    base_url: str
    token: str
    data: Path
    process: subprocess.Popen[str]
    output: list[str]
    stop_seconds: float = 0.0

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
        """The process id of the PostgreSQL that `make run` starts."""
        return int((self.data / "postgres" / "data" / "postmaster.pid").read_text().split("\n")[0])

    def kill(self, name: str) -> None:
        """kill -9 of a process of the Procfile, or of "postgres"."""
        os.kill(self.postgres_process_id() if name == "postgres" else self.process_id(name), signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop as Ctrl-C does; the exit code. `stop_seconds` tells how long it took."""
        begin = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(STOP_TIMEOUT_SECONDS)
        self.stop_seconds = time.monotonic() - begin
        return code


@contextlib.contextmanager
def running(data: Path, environment: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """The system with its data in `data`, ready; it is stopped when the block ends."""
    port = free_port()
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "GATEWAY_", "POSTS_"))},
        "GATEWAY_PORT": str(port),
        "FRONTISPIECE_DATA": str(data),
        **(environment or {}),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "local"],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output: list[str] = []
    ready = threading.Event()
    reader = threading.Thread(target=_read, args=(process, output, ready), daemon=True)
    reader.start()
    try:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not ready.wait(0.1):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the system did not become ready:\n" + "".join(output[-60:]))
        token = (data / "token").read_text().strip()
        yield Stack(f"http://127.0.0.1:{port}", token, data, process, output)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reader.join(5)
        if process.stdout is not None:
            process.stdout.close()


def _read(process: subprocess.Popen[str], output: list[str], ready: threading.Event) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        output.append(line)
        if "Frontispiece is ready" in line:
            ready.set()
