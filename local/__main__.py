"""`python -m local`: run the whole system on this machine until Ctrl-C."""

import asyncio
import logging
import signal
import sys

from local import folders, ports
from local.binaries import BinariesNotFoundError
from local.postgres import PostgresError
from local.settings import RunSettings
from local.supervisor import StartError
from local.system import System
from rpc import logs
from rpc.settings import load

log = logging.getLogger(__name__)


async def main(settings: RunSettings) -> None:
    """Start everything, print the links, and stop everything on SIGINT or SIGTERM. Raises StartError."""
    if reason := ports.problem(settings.gateway_host, settings.gateway_port):
        raise StartError(reason)
    folders.prepare(settings.data)
    system = System(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, system.stop)
    await system.run()
    log.info("stopped")


if __name__ == "__main__":
    run_settings = load(RunSettings)
    logs.configure("run", run_settings.log_level, run_settings.log_format)
    try:
        asyncio.run(main(run_settings))
    except (StartError, PostgresError, BinariesNotFoundError) as problem:
        sys.exit(f"frontispiece: {problem}")
