"""`python -m services.posts.worker`: executes the tasks of the queue. Any number of workers may run."""

import asyncio
import sys

from rpc import errors, logs, server
from rpc.settings import announce, load
from services.posts.worker import app
from services.posts.worker.settings import WorkerSettings


async def main(settings: WorkerSettings) -> None:
    """Work until SIGTERM or SIGINT, then release the claimed tasks. Serves health checks meanwhile."""
    stop = asyncio.Event()
    async with app.running(settings) as worker:

        async def stop_work() -> None:
            await stop.wait()
            await worker.dispatcher.stop()

        stopping = asyncio.create_task(stop_work())
        try:
            await server.serve([], settings, is_ready=worker.database.check, stop=stop)
        finally:
            stop.set()
            await stopping


if __name__ == "__main__":
    options = load(WorkerSettings)
    logs.configure("worker", options.log_level, options.log_format)
    announce(options)
    try:
        server.run(main(options))
    except (errors.RpcError, OSError) as error:
        print(f"worker: {error}", file=sys.stderr)
        sys.exit(1)
