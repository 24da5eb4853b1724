"""The hand-written server in two processes with gRPC between them: what the division into services costs.

`python -m bench.reading.split posts PORT` reads rows (DATABASE_URL) and sends messages, `… front PORT` makes JSON of
them (POSTS_TARGET). Nothing else: no interceptors, middleware, log lines.
"""

import asyncio
import os
import sys
from typing import Any

import asyncpg
import grpc
import orjson
import uvicorn
import uvloop
from frontispiece.posts.v1 import posts_pb2, posts_pb2_grpc
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.reading.hand_written import ONE, listing
from gateway.schemas.post_documents import post_document
from services.posts.database import rows


class Posts(posts_pb2_grpc.PostServiceServicer):
    """The two reads."""

    def __init__(self, pool: Any) -> None:
        """Read by `pool`."""
        self._pool = pool

    async def GetPost(self, request: posts_pb2.GetPostRequest, _: Any) -> posts_pb2.GetPostResponse:
        """A post by slug."""
        row = await self._pool.fetchrow(ONE, request.slug)
        return posts_pb2.GetPostResponse(post=posts_pb2.Post(**rows.post(row)))

    async def ListPosts(self, request: posts_pb2.ListPostsRequest, _: Any) -> posts_pb2.ListPostsResponse:
        """The newest posts."""
        statement, values = listing(request.page_size + 1)
        found = await self._pool.fetch(statement, *values)
        return posts_pb2.ListPostsResponse(posts=map(rows.post, found[: request.page_size]), next_page_token="x" * 96)


async def serve(port: int) -> None:
    """Serve the messages until the process ends."""
    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=8, max_size=8) as pool:
        server = grpc.aio.server()
        posts_pb2_grpc.add_PostServiceServicer_to_server(Posts(pool), server)  # type: ignore[abstract]
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()


class Front:
    """The two reads as JSON."""

    def __init__(self) -> None:
        """Connect when the first request comes."""
        self._stub: Any = None

    def stub(self) -> Any:
        """The stub, made in the loop that uses it."""
        if self._stub is None:
            self._stub = posts_pb2_grpc.PostServiceStub(grpc.aio.insecure_channel(os.environ["POSTS_TARGET"]))
        return self._stub

    async def posts(self, _: Request) -> Response:
        """A page of posts."""
        listed = await self.stub().ListPosts(posts_pb2.ListPostsRequest(page_size=20), timeout=10)
        posts = [post_document(one, editor=False) for one in listed.posts]
        body = orjson.dumps({"posts": posts, "next_page_token": listed.next_page_token})
        return Response(body, media_type="application/json")

    async def post(self, request: Request) -> Response:
        """A post."""
        got = await self.stub().GetPost(posts_pb2.GetPostRequest(slug=request.path_params["slug"]), timeout=10)
        document = {**post_document(got.post, editor=False), "html": got.post.html}
        return Response(orjson.dumps(document), media_type="application/json")

    def app(self) -> Starlette:
        """The application."""
        return Starlette(routes=[Route("/api/posts", self.posts), Route("/api/posts/{slug}", self.post)])


if __name__ == "__main__":
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "posts":
        uvloop.install()
        asyncio.run(serve(port))
    else:
        uvicorn.run(Front().app(), port=port, log_level="error", access_log=False, lifespan="off")
