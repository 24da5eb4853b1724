"""`python -m local`: the whole system on this machine, until Ctrl-C."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

from local import environment, procfile
from local.binaries import BinariesNotFoundError
from local.postgres import Postgres, PostgresError
from local.settings import RunSettings
from local.supervisor import StartError, Supervised, run_to_end
from local.unprivileged import Identity
from rpc import logs
from rpc.settings import load

log = logging.getLogger(__name__)

PROCFILE = Path(__file__).parent.parent / "Procfile"

# Those who use others stop first, so that a service is there for as long as somebody may call it. The times add up to
# less than the ten seconds within which everything has to be gone, PostgreSQL included.
STOP_ORDER = ((("gateway", "posts"), 4.0), (("generator", "storage"), 2.0))


async def main(settings: RunSettings) -> None:
    """Start everything, print where it is, stop everything on SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings.data.mkdir(parents=True, exist_ok=True)
    if not environment.port_is_free(settings.gateway_host, settings.gateway_port):
        raise StartError(f"port {settings.gateway_port} is in use; set GATEWAY_PORT to another one")
    async with database(settings) as (database_url, server):
        variables = environment.build(settings, database_url)
        token = variables.get("GATEWAY_TOKEN") or environment.ensure_token(Path(variables["GATEWAY_TOKEN_FILE"]))
        commands = procfile.read(PROCFILE)
        await release(commands.pop(procfile.RELEASE), variables)
        processes = supervised(commands, variables, settings.data)
        watchers = [asyncio.create_task(process.run()) for process in processes.values()]
        if server is not None:
            watchers.append(asyncio.create_task(keep_alive(server)))
        watchers.append(asyncio.create_task(announce(settings, token)))
        try:
            await until(stop, watchers)
        finally:
            await stop_all(processes)
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
    log.info("stopped")


@contextlib.asynccontextmanager
async def database(settings: RunSettings) -> AsyncIterator[tuple[str, Postgres | None]]:
    """The address of the database: the one we were given, or that of a server of our own."""
    if given := settings.database_url.get_secret_value():
        yield given, None
        return
    with Postgres(settings.data / "postgres", binaries_folder=settings.postgres_binaries) as server:
        await server.create_database()
        yield server.url(), server


async def release(command: list[str], variables: dict[str, str]) -> None:
    """Run the migrations. Raises StartError when they fail."""
    code = await run_to_end(command, variables, Identity(os.geteuid()))
    if code != 0:
        raise StartError(f"the database could not be migrated (exit code {code}, see above)")


def supervised(commands: dict[str, list[str]], variables: dict[str, str], data: Path) -> dict[str, Supervised]:
    """The processes of the Procfile, not yet started."""
    folder = data / "run"
    folder.mkdir(exist_ok=True)
    for stale in folder.glob("*.pid"):
        stale.unlink()
    identity = Identity(os.geteuid())
    return {
        name: Supervised(name, command, variables, identity, folder / f"{name}.pid")
        for name, command in commands.items()
    }


async def keep_alive(server: Postgres) -> None:
    """Start PostgreSQL again, on the same port, when it dies."""
    while True:
        await asyncio.sleep(0.2)
        if (code := server.exit_code()) is not None:
            log.warning("PostgreSQL ended, starting it again", extra={"exit_code": code})
            await asyncio.to_thread(server.restart)


async def announce(settings: RunSettings, token: str) -> None:
    """Tell people where to go as soon as everything is ready."""

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"{settings.local_url}/readyz", timeout=2) as response:
                return bool(response.status == 200)
        except OSError:  # nobody listens yet, or a service is not ready (503)
            return False

    while True:
        if await asyncio.to_thread(ready):
            break
        await asyncio.sleep(0.2)
    print(f"\n  Frontispiece is ready.\n\n  site           {settings.base_url}/", flush=True)
    print(f"  editors' desk  {settings.base_url}/hub#token={token}\n  stop           Ctrl-C\n", flush=True)
    await asyncio.Event().wait()


async def until(stop: asyncio.Event, watchers: list[asyncio.Task[None]]) -> None:
    """Wait for `stop`, or for the first watcher that fails, and raise its error."""
    stopped = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopped, *watchers], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        stopped.cancel()


async def stop_all(processes: dict[str, Supervised]) -> None:
    """Stop the processes in order, each group at once; those in no group first."""
    grouped = {name for names, _ in STOP_ORDER for name in names}
    others = tuple(name for name in processes if name not in grouped)
    for names, seconds in ((others, 2.0), *STOP_ORDER):
        await asyncio.gather(*(processes[name].stop(seconds) for name in names if name in processes))


if __name__ == "__main__":
    run_settings = load(RunSettings)
    logs.configure("run", run_settings.log_level, run_settings.log_format)
    try:
        asyncio.run(main(run_settings))
    except (StartError, PostgresError, BinariesNotFoundError) as problem:
        sys.exit(f"frontispiece: {problem}")
