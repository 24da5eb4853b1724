"""All processes of the system: started together, supervised, and stopped in order.

The gateway starts first, so that the links are printed before anything slow begins. The generator and storage start
next, while PostgreSQL starts and its schema is migrated. The processes that use the database start after that.
"""

import asyncio
import contextlib
import logging
import secrets
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from pathlib import Path

from local import environment, links, procfile, unprivileged
from local.postgres import Postgres
from local.settings import RunSettings
from local.supervisor import StartError, Supervised, run_to_end

log = logging.getLogger(__name__)

PROCFILE = Path(__file__).parent.parent / "Procfile"
CHECK = (sys.executable, "-m", "local.checks")
SERVICES_ROLE = "frontispiece_services"
GATEWAY = "gateway"
DATABASE_USERS = ("posts", "worker")

# Callers stop before the services that they call. The times add up to less than ten seconds, PostgreSQL included.
STOP_ORDER = (((GATEWAY, *DATABASE_USERS), 4.0), (("generator", "storage"), 2.0))
KEEP_ALIVE_SECONDS = 0.2


class System:
    """The processes of the Procfile, and a PostgreSQL server unless the settings name one."""

    def __init__(self, settings: RunSettings) -> None:
        """Prepare; nothing is started. The folder of data exists."""
        self._settings = settings
        self._variables = environment.build(settings)
        self._identity = unprivileged.of_services(settings.data)
        commands = procfile.read(PROCFILE)
        self._migrate = commands.pop(procfile.RELEASE)
        folder = settings.data / "run"
        for stale in folder.glob("*.pid"):
            stale.unlink()
        self._processes = {
            name: Supervised(name, command, folder / f"{name}.pid", self._identity)
            for name, command in commands.items()
        }
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = asyncio.Event()
        self._errors: list[BaseException] = []

    def stop(self) -> None:
        """Make run() stop everything and return."""
        self._stop.set()

    async def run(self) -> None:
        """Run everything until stop(). Raises StartError, PostgresError or BinariesNotFoundError."""
        try:
            self._spawn(self._start())
            self._spawn(self._use_database())
            self._spawn(self._report())
            await self._stop.wait()
        finally:
            await self._stop_all()
        if self._errors:
            raise self._errors[0]

    async def _start(self) -> None:
        """Start the processes that do not use the database."""
        self._run(GATEWAY, self._variables)
        await links.gateway_responds(self._settings)
        for name in self._processes:
            if name != GATEWAY and name not in DATABASE_USERS:
                self._run(name, self._variables)

    async def _report(self) -> None:
        """Print the links, unless a setting is wrong."""
        if await run_to_end(CHECK, self._variables) != 0:
            raise StartError("a setting is wrong (see above)")
        await links.report(self._settings, self._variables)

    async def _use_database(self) -> None:
        """Start PostgreSQL, migrate the schema, and start the processes that use it."""
        async with _database(self._settings) as (urls, server):
            variables = {**self._variables, **urls}
            code = await run_to_end(self._migrate, environment.of_process(procfile.RELEASE, variables), self._identity)
            if code != 0:
                raise StartError(f"the database could not be migrated (exit code {code}, see above)")
            if services := urls.get("POSTS_SERVICES_DATABASE_URL"):
                variables["POSTS_DATABASE_URL"] = services
            for name in DATABASE_USERS:
                self._run(name, variables)
            while True:
                await asyncio.sleep(KEEP_ALIVE_SECONDS)
                if server is not None and server.exit_code() is not None:
                    log.warning("PostgreSQL ended; restarting it", extra={"exit_code": server.exit_code()})
                    await asyncio.to_thread(server.restart)

    def _run(self, name: str, variables: Mapping[str, str]) -> None:
        if name in self._processes:
            self._spawn(self._processes[name].run(environment.of_process(name, variables)))

    def _named(self, names: Sequence[str]) -> list[Supervised]:
        return [self._processes[name] for name in names if name in self._processes]

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._on_done)
        self._tasks.append(task)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._errors.append(error)
            self._stop.set()

    async def _stop_all(self) -> None:
        """Stop the processes in order, each group at once, then PostgreSQL."""
        for names, seconds in STOP_ORDER:
            await asyncio.gather(*(process.stop(seconds) for process in self._named(names)))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def _database(settings: RunSettings) -> AsyncIterator[tuple[dict[str, str], Postgres | None]]:
    """The variables with the URLs of the database: those of the settings, or of a server that runs during the block.

    On a server of our own the services have a role of their own, with a new password at each start.
    """
    if given := settings.database_url.get_secret_value():
        urls = {"POSTS_DATABASE_URL": given}
        if services := settings.services_database_url.get_secret_value():
            urls["POSTS_SERVICES_DATABASE_URL"] = services
        yield urls, None
        return
    server = Postgres(settings.data / "postgres", binaries_folder=settings.postgres_binaries)
    starting = asyncio.create_task(asyncio.to_thread(server.start))
    try:
        await asyncio.shield(starting)
        await server.create_database()
        services = server.url(user=SERVICES_ROLE, password=secrets.token_urlsafe(24))
        yield {"POSTS_DATABASE_URL": server.url(), "POSTS_SERVICES_DATABASE_URL": services}, server
    finally:
        await asyncio.wait([starting])  # a thread cannot be cancelled: without this, the server could outlive us
        await asyncio.to_thread(server.stop)
