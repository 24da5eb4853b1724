"""Calls of editors, as the tests of posts make them."""

from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import posts_pb2 as p
from google.protobuf.field_mask_pb2 import FieldMask

from tests.posts.conftest import Client

KEY = "generated/1-x.png"


async def make(idle: Client, taxonomy: dict[str, str], title: str = "A title", **fields: Any) -> Any:
    request = p.CreatePostRequest(**{**taxonomy, "title": title, "featured_image_key": KEY, "publish": True, **fields})
    return (await idle.posts.CreatePost(request, metadata=[("x-principal", "ada")])).post


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


async def change(idle: Client, post_id: str, *paths: str, etag: str = "", **fields: Any) -> Any:
    request = p.UpdatePostRequest(id=post_id, etag=etag, update_mask=FieldMask(paths=paths), **fields)
    return (await idle.posts.UpdatePost(request, metadata=[("x-principal", "bo")])).post
