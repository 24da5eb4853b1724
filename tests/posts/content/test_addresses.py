"""Another port, domain or CDN: every URL is one of now, in messages, in the column of the table, and in texts."""

import asyncio
from typing import Any

import pytest
from frontispiece.posts.v1 import posts_pb2 as p
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.storage.v1 import images_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from rpc.image_urls import ImageUrls
from services.posts.content.addresses import Addresses
from tests.posts.conftest import Client, StartPosts
from tests.posts.leaves import ScriptedStorage

HOME = "http://127.0.0.1:8080"
OTHER_PORT = {"public_base_url": "http://127.0.0.1:9000"}
DOMAIN = {"public_base_url": "https://pictures.example/blog"}
CDN = {**DOMAIN, "s3_bucket": "images", "cdn_base_url": "https://cdn.example"}
OTHER_CDN = {**CDN, "cdn_base_url": "", "cloudfront_domain": "d111.cloudfront.net"}

BASES = [
    ({}, f"{HOME}/media"),
    (OTHER_PORT, "http://127.0.0.1:9000/media"),
    (DOMAIN, "https://pictures.example/blog/media"),
    (CDN, "https://cdn.example"),
    (OTHER_CDN, "https://d111.cloudfront.net"),
    ({}, f"{HOME}/media"),
]


async def urls_of(client: Client, task_id: str) -> dict[str, str]:
    """The URLs that a caller is given, each with the key of its image."""
    found = {}
    task = await client.get(task_id)
    (listed,) = (await client.tasks.ListTasks(t.ListTasksRequest())).tasks
    post = (await client.posts.GetPost(p.GetPostRequest(id=task.post_id))).post
    (summary,) = (await client.posts.ListPosts(p.ListPostsRequest(view=p.POST_VIEW_SUMMARY))).posts
    images = [event.image.image for event in await client.events(task_id) if event.HasField("image")]
    images += [one.image for one in (*task.images, *listed.images)]
    images += [one.featured_image.image for one in (post, summary)]
    for number, image in enumerate(images):
        found[f"{number} {image.url}"] = image.key
    return found


async def rewritten(sql: Any, base: str) -> None:
    """Wait until no row has an address that does not begin with `base`."""
    async with asyncio.timeout(90):
        while await sql.fetchval("SELECT count(*) FROM posts WHERE NOT starts_with(featured_image_url, $1)", base):
            await asyncio.sleep(0.02)


async def test_every_url_follows_the_settings(start_posts: StartPosts, sql: Any, storage: ScriptedStorage) -> None:
    storage.backend = images_pb2.IMAGE_BACKEND_S3
    task_id, etags = "", []
    for settings, base in BASES:
        async with start_posts(**settings) as client:
            if not task_id:
                task_id = (await client.done()).id
                await client.approve(task_id)
            for described, key in (await urls_of(client, task_id)).items():
                assert described.partition(" ")[2] == f"{base}/{key}"
            await rewritten(sql, base + "/")
            post = (await client.posts.ListPosts(p.ListPostsRequest())).posts[0]
            etags.append(post.etag)
            # An etag that was read before the change is still that of this version.
            request = p.PublishPostRequest(id=post.id, etag=etags[0])
            assert (await client.posts.PublishPost(request)).post.etag == post.etag
    assert etags[0] == etags[-1]
    assert len(set(etags)) == len(BASES) - 1


async def test_texts_follow_the_settings(start_posts: StartPosts, sql: Any, storage: ScriptedStorage) -> None:
    key = "generated/1-x.png"
    storage.put(key, b"x", 64, 32)
    text = (
        "![a]({0}/media/generated/1-x.png) [b]({0}/posts/b) {0}/elsewhere http://127.0.0.1:80/media/generated/1-x.png"
    )
    async with start_posts() as client:
        request = p.CreatePostRequest(title="One", content=text.format(HOME), featured_image_key=key)
        post = (await client.posts.CreatePost(request)).post
    former = HOME
    for settings, site in (
        (OTHER_PORT, OTHER_PORT["public_base_url"]),
        (CDN, DOMAIN["public_base_url"]),
        ({}, HOME),
    ):
        async with start_posts(**settings) as client:
            expected = text.format(site).replace(f"{site}/elsewhere", f"{HOME}/elsewhere")
            async with asyncio.timeout(90):
                while await sql.fetchval("SELECT content FROM posts") != expected:
                    await asyncio.sleep(0.02)
            # What is written later with an address of before, by a page that was open meanwhile.
            update = p.UpdatePostRequest(
                id=post.id, update_mask=FieldMask(paths=["content"]), content=f"{former}/media/generated/1-x.png"
            )
            changed = (await client.posts.UpdatePost(update)).post
            assert changed.content == f"{site}/media/generated/1-x.png"
            update.content = expected
            await client.posts.UpdatePost(update)
        former = site


async def test_images_that_stay_on_a_disk_keep_addresses_of_the_gateway(
    start_posts: StartPosts, sql: Any, storage: ScriptedStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CDN is turned on: it has no copy of what was stored before."""
    monkeypatch.setattr("services.posts.worker.maintenance.IN_BUCKET_SECONDS", 0.05)
    async with start_posts() as client:
        task_id = (await client.done()).id
        await client.approve(task_id)
    async with start_posts(**CDN) as client:
        await rewritten(sql, "https://pictures.example/blog/media/")
        for described, key in (await urls_of(client, task_id)).items():
            assert described.partition(" ")[2] == f"https://pictures.example/blog/media/{key}"


async def test_an_image_in_the_spool_is_at_the_gateway_until_it_has_moved(
    start_posts: StartPosts, storage: ScriptedStorage, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.posts.worker.maintenance.IN_BUCKET_SECONDS", 0.05)
    storage.backend = images_pb2.IMAGE_BACKEND_SPOOL
    async with start_posts(**CDN) as client:
        task = await client.done()
        post = (await client.approve(task.id)).post
        assert not post.featured_image.image.in_bucket
        assert post.featured_image.image.url.startswith("https://pictures.example/blog/media/generated/")
        for image in storage.images.values():
            image.backend = images_pb2.IMAGE_BACKEND_S3
        async with asyncio.timeout(90):
            while (found := (await client.get(task.id)).images[0].image).in_bucket is False:
                await asyncio.sleep(0.02)
            assert found.url == f"https://cdn.example/{found.key}"
            while (
                now := (await client.posts.GetPost(p.GetPostRequest(id=post.id))).post
            ).featured_image.image.in_bucket is False:
                await asyncio.sleep(0.02)
        assert now.featured_image.image.url == found.url
        assert now.etag != post.etag
        assert await sql.fetchval("SELECT featured_image_url FROM posts") == found.url


def test_bases_of_images() -> None:
    addresses = Addresses(
        ImageUrls("https://a.example", "https://cdn.example"),
        "https://a.example",
        (("https://old.example/blog", False), ("https://old-cdn.example", True)),
    )
    assert set(addresses.image_bases) == {
        "https://a.example/media",
        "https://cdn.example",
        "https://old.example/blog/media",
        "https://old-cdn.example",
    }
    assert addresses.rewritten("https://old-cdn.example/generated/1.png https://old-cdn.example/x") == (
        "https://a.example/media/generated/1.png https://old-cdn.example/x"
    )
