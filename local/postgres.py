"""A PostgreSQL server that runs as a child of this process and keeps its data in one folder."""

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self
from urllib.parse import quote

import asyncpg

from local import binaries
from local.ports import free_port
from local.unprivileged import Identity, choose_identity, launched

log = logging.getLogger(__name__)

USER = "frontispiece"
START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 6.0

_STATUS_LINE = 7  # of postmaster.pid: "starting", "ready" or "stopping"


class PostgresError(RuntimeError):
    """The server cannot be started."""


class Postgres:
    """One server.

        folder/data       the database cluster (mode 0700)
        folder/password   the superuser's password (mode 0600)
        folder/lock       locked while the server runs, so that it has one owner at a time
        folder/log        the server's output

    The server listens on 127.0.0.1 only and requires a SCRAM password. It is a child of this process. On Linux it ends
    when this process ends, even by kill -9. `options` are server settings, such as {"fsync": "off"} for tests.
    """

    def __init__(self, folder: Path, *, options: Mapping[str, str] | None = None, binaries_folder: str = "") -> None:
        """Prepare; nothing is started. `binaries_folder` overrides the search for PostgreSQL's programs."""
        self._folder = folder.resolve()
        self._data = self._folder / "data"
        self._options = dict(options or {})
        self._binaries_folder = binaries_folder
        self._lock: IO[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    @property
    def process_id(self) -> int:
        """The server's process id. Raises PostgresError unless it was started."""
        if self._process is None:
            raise PostgresError("PostgreSQL was not started")
        return self._process.pid

    def url(self, database: str = USER, *, user: str = USER, password: str = "") -> str:
        """The URL of a database, for asyncpg or psql. By default that of the owner, who is a superuser."""
        password = password or (self._folder / "password").read_text()
        return f"postgresql://{user}:{quote(password)}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start, and return once connections are accepted. Raises PostgresError or BinariesNotFoundError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            found = binaries.find(self._data, self._binaries_folder)
            identity = choose_identity([self._folder, found.folder], self._data)
            if not (self._data / "PG_VERSION").exists():
                self._initialise(found.folder, identity)
            self._remove_stale_pid_file()
            self._launch(found.folder, identity)
        except BaseException:
            self._release_lock()
            raise

    def stop(self) -> None:
        """Stop. Running statements are rolled back; committed transactions are on disk."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)  # "fast" shutdown
            try:
                process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                log.warning("PostgreSQL did not stop in time; it will recover at the next start")
                process.send_signal(signal.SIGQUIT)  # "immediate" shutdown
                process.wait(STOP_TIMEOUT_SECONDS)
        self._release_lock()

    def exit_code(self) -> int | None:
        """The exit code of a server that ended by itself; None while it runs."""
        return self._process.poll() if self._process else None

    def restart(self, *, immediate: bool = False) -> None:
        """Stop and start on the same port. `immediate`: without a checkpoint; the start recovers as after a crash."""
        port = self.port
        if immediate and self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(STOP_TIMEOUT_SECONDS)
        self.stop()
        self.port = port
        self.start()

    async def create_database(self, name: str = USER) -> None:
        """Create a database unless it exists."""
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()

    def _take_lock(self) -> None:
        lock = (self._folder / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise PostgresError(f"another Frontispiece uses {self._folder}; stop it or set FRONTISPIECE_DATA") from None
        self._lock = lock

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _initialise(self, programs: Path, identity: Identity) -> None:
        log.info("initialising the database", extra={"folder": str(self._data)})
        shutil.rmtree(self._data, ignore_errors=True)  # left by an initdb that was interrupted
        self._data.mkdir(mode=0o700)
        password = self._folder / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24))
        if identity.user is not None:
            os.chown(self._data, identity.user.pw_uid, identity.user.pw_gid)
            os.chown(password, identity.user.pw_uid, identity.user.pw_gid)
        command = [str(programs / "initdb"), "-D", str(self._data), "-U", USER, "-E", "UTF8", "--no-locale"]
        command += ["--auth=scram-sha-256", f"--pwfile={password}", "--data-checksums"]
        result = subprocess.run(
            launched(command, signal.SIGINT, identity),
            env=_environment(),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            shutil.rmtree(self._data, ignore_errors=True)
            raise PostgresError(f"initdb failed: {result.stderr.strip()}")

    def _remove_stale_pid_file(self) -> None:
        """Remove a postmaster.pid that a crash left.

        If the process that it names is a server of this folder that outlived its owner, stop it. Otherwise the pid now
        belongs to an unrelated process, which must not be touched; PostgreSQL itself would refuse to start. We hold the
        lock, so no other owner uses the folder.
        """
        pid_file = self._data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n")[0])
        except (FileNotFoundError, ValueError):
            return
        if str(self._data) not in _command_line(pid):
            pid_file.unlink(missing_ok=True)
            return
        log.warning("stopping a PostgreSQL that outlived its owner", extra={"server_pid": pid})
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        _wait_until(lambda: not _command_line(pid), STOP_TIMEOUT_SECONDS)
        pid_file.unlink(missing_ok=True)

    def _launch(self, programs: Path, identity: Identity) -> None:
        self.port = self.port or free_port()
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "100",
            "shared_buffers": "64MB",
            "log_min_messages": "warning",
            **self._options,
        }
        command = [str(programs / "postgres"), "-D", str(self._data), "-p", str(self.port)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self._folder / "log").open("ab") as output:
            self._process = subprocess.Popen(
                launched(command, signal.SIGINT, identity),
                env=_environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in a terminal reaches only us, and we stop the processes in order
            )
        self._await_ready(self._process)

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        pid_file = self._data / "postmaster.pid"

        def ready() -> bool:
            if process.poll() is not None:
                tail = (self._folder / "log").read_text(errors="replace").splitlines()[-5:]
                raise PostgresError("PostgreSQL did not start: " + " | ".join(tail))
            try:
                lines = pid_file.read_text().split("\n")
                # A stale file may say "ready" too, so the pid must be our child's.
                return int(lines[0]) == process.pid and lines[_STATUS_LINE].strip() == "ready"
            except (FileNotFoundError, IndexError, ValueError):
                return False

        if not _wait_until(ready, START_TIMEOUT_SECONDS):
            self.stop()
            raise PostgresError(f"PostgreSQL was not ready within {START_TIMEOUT_SECONDS:.0f} s")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _command_line(pid: int) -> str:
    """The command line of a process; empty for a zombie or a process that does not exist."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    return subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout


def _wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
