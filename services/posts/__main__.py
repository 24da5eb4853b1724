"""`python -m services.posts`: settings, then resources, then the server."""

import asyncio
import sys

from rpc import errors, logs, server
from rpc.settings import announce, load
from services.posts import app
from services.posts.settings import PostsSettings


async def main(settings: PostsSettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    async with app.running(settings) as running:

        async def stop_work() -> None:
            await stop.wait()
            await running.stop()

        stopping = asyncio.create_task(stop_work())
        try:
            await server.serve(running.services, settings, is_ready=running.database.check, stop=stop)
        finally:
            stop.set()
            await stopping


if __name__ == "__main__":
    wanted = load(PostsSettings)
    logs.configure("posts", wanted.log_level, wanted.log_format)
    announce(wanted)
    try:
        server.run(main(wanted))
    except (errors.RpcError, OSError) as error:
        print(f"posts: {error}", file=sys.stderr)
        sys.exit(1)
