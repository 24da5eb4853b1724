"""Caches are told of every change of what they show, by whichever process made it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import posts_pb2 as p
from google.protobuf.field_mask_pb2 import FieldMask

from services.posts.content import change_feed
from tests.posts.conftest import Client, StartPosts, reason
from tests.posts.leaves import ScriptedStorage

KEY = "generated/1-x.png"


@contextlib.asynccontextmanager
async def watching(client: Client) -> AsyncIterator[Any]:
    """A stream whose first message has come."""
    call = client.posts.WatchChanges(p.WatchChangesRequest())
    await call.read()
    yield call
    call.cancel()


async def test_each_change_is_announced_to_every_process(start_posts: StartPosts, storage: ScriptedStorage) -> None:
    storage.put(KEY, b"x", 64, 32)
    async with start_posts(worker=False) as one, start_posts(worker=False) as other:
        created = p.CreatePostRequest(title="One", featured_image_key=KEY, tags=["x"])
        post = (await one.posts.CreatePost(created)).post
        for change in (
            lambda: one.posts.CreateAuthor(p.CreateAuthorRequest(name="Bo")),
            lambda: one.posts.CreateCategory(p.CreateCategoryRequest(name="Sea")),
            lambda: one.posts.CreatePost(created),
            lambda: one.posts.PublishPost(p.PublishPostRequest(id=post.id)),
            lambda: one.posts.UpdatePost(
                p.UpdatePostRequest(id=post.id, title="Two", update_mask=FieldMask(paths=["title"]))
            ),
            lambda: one.posts.UpdatePost(
                p.UpdatePostRequest(id=post.id, tags=["y"], update_mask=FieldMask(paths=["tags"]))
            ),
            lambda: one.posts.UnpublishPost(p.UnpublishPostRequest(id=post.id)),
            lambda: one.posts.DeletePost(p.DeletePostRequest(id=post.id)),
        ):
            async with watching(other) as call, watching(one) as own:
                await change()
                for stream in (call, own):
                    async with asyncio.timeout(5):
                        assert await stream.read() == p.WatchChangesResponse()


async def test_what_no_page_shows_is_not_announced(idle: Client, sql: Any, storage: ScriptedStorage) -> None:
    storage.put(KEY, b"x", 64, 32)
    await idle.posts.CreatePost(p.CreatePostRequest(title="One", featured_image_key=KEY))
    await idle.create()
    async with watching(idle) as call:
        waiting = asyncio.ensure_future(call.read())
        while (await asyncio.wait([waiting], timeout=1.0))[0]:  # the notification of the new post may come late
            waiting = asyncio.ensure_future(call.read())
        await sql.execute("UPDATE posts SET image_keep_at = clock_timestamp()")
        await idle.create()
        done, _ = await asyncio.wait([waiting], timeout=0.5)
        assert not done
        await sql.execute("UPDATE posts SET version = version + 1")
        async with asyncio.timeout(5):
            assert await waiting == p.WatchChangesResponse()


async def test_a_lost_connection_to_the_database_counts_as_a_change(idle: Client, sql: Any) -> None:
    async with watching(idle) as call:
        await sql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'posts-listener'"
        )
        async with asyncio.timeout(10):
            assert await call.read() == p.WatchChangesResponse()


async def test_the_streams_end_when_the_process_stops_and_their_number_is_limited(
    start_posts: StartPosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_feed, "MAX_STREAMS", 2)
    async with start_posts(worker=False) as client:
        async with watching(client) as one, watching(client):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await client.posts.WatchChanges(p.WatchChangesRequest()).read()
            assert reason(raised.value) == "TOO_MANY_STREAMS"
            client.app.end_streams()
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                while True:
                    await one.read()
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
