"""A PostgreSQL that crashes on demand: `python -m tests.posts.worker.crashing FOLDER NAME`, a crash for each line read.

In a process of its own, because a process in which gRPC runs cannot start one: gRPC's threads survive a fork, and a
process with threads may not enter a user namespace.
"""

import asyncio
import subprocess
import sys
from pathlib import Path

from local.postgres import Postgres


class CrashingPostgres:
    """The other end: starts the process, and speaks with it."""

    def __init__(self, folder: Path, database: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder), database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[3],
        )
        self.url = self._line()

    def crash(self) -> None:
        """Restart at once, without a checkpoint. Returns when it accepts connections again."""
        assert self._process.stdin is not None
        self._process.stdin.write("crash\n")
        self._process.stdin.flush()
        self._line()

    def stop(self) -> None:
        """Stop it."""
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, "PostgreSQL did not start"
        return line


def main() -> None:
    """Serve until the input ends."""
    with Postgres(Path(sys.argv[1])) as server:
        asyncio.run(server.create_database(sys.argv[2]))
        print(server.url(sys.argv[2]), flush=True)
        for _ in sys.stdin:
            server.restart(immediate=True)
            print("restarted", flush=True)


if __name__ == "__main__":
    main()
