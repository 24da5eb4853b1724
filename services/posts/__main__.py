"""`python -m services.posts`: the API for tasks and posts. Any number of processes may run."""

import asyncio
import sys

from rpc import errors, logs, server
from rpc.settings import announce, load
from services.posts import app
from services.posts.settings import PostsSettings


async def main(settings: PostsSettings) -> None:
    """Serve until SIGTERM or SIGINT, then end the event streams."""
    stop = asyncio.Event()
    async with app.running(settings) as running:

        async def end_streams() -> None:
            await stop.wait()
            running.end_streams()

        stopping = asyncio.create_task(end_streams())
        try:
            await server.serve(running.services, settings, is_ready=running.database.check, stop=stop)
        finally:
            stop.set()
            await stopping


if __name__ == "__main__":
    options = load(PostsSettings)
    logs.configure("posts", options.log_level, options.log_format)
    announce(options)
    try:
        server.run(main(options))
    except (errors.RpcError, OSError) as error:
        print(f"posts: {error}", file=sys.stderr)
        sys.exit(1)
