"""Drops the cache when the posts service says that something has changed, whoever changed it."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import grpc
from frontispiece.posts.v1 import posts_pb2

from gateway.cache.store import Cache
from rpc.backoff import Backoff, Retries

if TYPE_CHECKING:
    from frontispiece.posts.v1.posts_pb2_grpc import PostServiceAsyncStub

log = logging.getLogger(__name__)

_CALL_SECONDS = 3600.0
"""A call is opened again after this time, so that it moves to a new backend now and then."""

_RETRY = Backoff(base_seconds=0.1, max_seconds=2.0, jitter="equal")


@contextlib.asynccontextmanager
async def following(posts: "PostServiceAsyncStub", cache: Cache) -> AsyncIterator[None]:
    """Follow the changes until the block ends. While no stream is open, values only age."""
    task = asyncio.create_task(_follow(posts, cache))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _follow(posts: "PostServiceAsyncStub", cache: Cache) -> None:
    retries = Retries(_RETRY)
    while True:
        call = posts.WatchChanges(posts_pb2.WatchChangesRequest(), timeout=_CALL_SECONDS)
        try:
            while await call.read() is not grpc.aio.EOF:
                cache.drop()
                retries.reset()
        except grpc.aio.AioRpcError as error:
            log.debug("changes are not announced now", extra={"code": error.code().name})
        finally:
            call.cancel()
            cache.drop()
        await retries.sleep()
