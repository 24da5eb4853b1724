"""Posts: created, read, changed, published, deleted."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import posts_pb2 as p
from frontispiece.types.v1.image_pb2 import StoredImage
from google.protobuf.field_mask_pb2 import FieldMask

from tests.posts.conftest import BASE, Client, reason
from tests.posts.content.calls import KEY, change, make, refused
from tests.posts.leaves import ScriptedStorage


@pytest.mark.usefixtures("images")
class TestCreate:
    async def test_post_is_complete(self, idle: Client, taxonomy: dict[str, str], storage: ScriptedStorage) -> None:
        post = await make(idle, taxonomy, "Hello", tags=["b", "a", "b"], content="x\r\ny")
        image = post.featured_image
        expected = StoredImage()
        expected.CopyFrom(storage.images[KEY].image)
        expected.url = f"{BASE}/media/{KEY}"
        assert image.image == expected
        assert image.image_source == "upload"
        assert image.alt_text == "Hello"
        assert list(post.tags) == ["b", "a"]
        assert post.content == "x\ny"
        assert (post.created_by, post.updated_by, post.task_id) == ("ada", "ada", "")
        assert post.etag
        for request in (
            p.GetPostRequest(id=post.id),
            p.GetPostRequest(id=post.id.upper()),
            p.GetPostRequest(slug="hello"),
        ):
            assert (await idle.posts.GetPost(request)).post == post

    async def test_repeated_request_creates_one_post(self, idle: Client, taxonomy: dict[str, str], sql: Any) -> None:
        posts = await asyncio.gather(*(make(idle, taxonomy, request_id="key") for _ in range(20)))
        assert len({post.id for post in posts}) == 1
        assert await sql.fetchval("SELECT count(*) FROM posts") == 1
        error = await refused(make(idle, taxonomy, "Other", request_id="key"))
        assert (error.code(), reason(error)) == (grpc.StatusCode.ALREADY_EXISTS, "IDEMPOTENCY_MISMATCH")
        await idle.posts.DeletePost(p.DeletePostRequest(id=posts[0].id))
        assert reason(await refused(make(idle, taxonomy, request_id="key"))) == "POST_DELETED"

    async def test_author_category_and_image_must_exist(self, idle: Client, taxonomy: dict[str, str]) -> None:
        stranger = str(uuid.uuid4())
        for fields, why in (
            ({"author_id": stranger}, "AUTHOR_NOT_FOUND"),
            ({"category_id": stranger}, "CATEGORY_NOT_FOUND"),
            ({"featured_image_key": "generated/none.png"}, "IMAGE_NOT_FOUND"),
        ):
            error = await refused(make(idle, taxonomy, **fields))
            assert (error.code(), reason(error)) == (grpc.StatusCode.FAILED_PRECONDITION, why)
        error = await refused(make(idle, taxonomy, featured_image_key="../../etc/passwd"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT

    async def test_slug_belongs_to_one_post(self, idle: Client, taxonomy: dict[str, str]) -> None:
        await make(idle, taxonomy, slug="mine")
        error = await refused(make(idle, taxonomy, slug="mine"))
        assert (error.code(), reason(error)) == (grpc.StatusCode.ALREADY_EXISTS, "SLUG_TAKEN")

    async def test_titles_in_any_language_get_slugs(self, idle: Client, taxonomy: dict[str, str]) -> None:
        slugs = [
            (await make(idle, taxonomy, title)).slug
            for title in ("Crème Brûlée!", "灯台", "灯台", "x" * 200, "Don't panic", "word " * 40)
        ]
        assert slugs[:3] == ["creme-brulee", "dengtai", "dengtai-2"]
        assert slugs[3] == "x" * 100
        assert slugs[4] == "dont-panic"
        assert len(slugs[5]) <= 100
        assert slugs[5].endswith("word")


@pytest.mark.usefixtures("images")
class TestChange:
    async def test_only_fields_in_the_mask_change(self, idle: Client, taxonomy: dict[str, str], sql: Any) -> None:
        post = await make(idle, taxonomy, "Old", tags=["a", "b"], content="text")
        changed = await change(idle, post.id, "title", "tags", title="New", tags=["c"], content="ignored")
        assert (changed.title, list(changed.tags), changed.content) == ("New", ["c"], "text")
        assert (changed.slug, changed.created_by, changed.updated_by) == ("old", "ada", "bo")
        assert changed.etag != post.etag
        (revision,) = await sql.fetch("SELECT * FROM post_revisions")
        assert (revision["title"], revision["tags"], revision["updated_by"]) == ("Old", ["a", "b"], "ada")

    async def test_every_field_can_change(self, idle: Client, taxonomy: dict[str, str]) -> None:
        post = await make(idle, taxonomy)
        author = (await idle.posts.CreateAuthor(p.CreateAuthorRequest(name="Bo"))).author
        category = (await idle.posts.CreateCategory(p.CreateCategoryRequest(name="Sea"))).category
        changed = await change(
            idle,
            post.id,
            *("content", "slug", "author_id", "category_id", "featured_image_key", "alt_text"),
            content="c",
            slug="s",
            author_id=author.id,
            category_id=category.id,
            featured_image_key="generated/2-y.png",
            alt_text="alt",
        )
        assert (changed.content, changed.slug) == ("c", "s")
        assert (changed.author, changed.category) == (author, category)
        assert changed.featured_image.image.key == "generated/2-y.png"
        assert changed.featured_image.alt_text == "alt"

    async def test_one_of_several_editors_with_one_etag_wins(
        self, idle: Client, taxonomy: dict[str, str], sql: Any
    ) -> None:
        post = await make(idle, taxonomy)
        calls = [change(idle, post.id, "title", etag=post.etag, title=f"By {i}") for i in range(8)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        failed = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
        assert len(failed) == 7
        assert {(error.code(), reason(error)) for error in failed} == {(grpc.StatusCode.ABORTED, "ETAG_MISMATCH")}
        assert await sql.fetchval("SELECT count(*) FROM post_revisions") == 1

    async def test_every_write_refuses_an_old_etag(self, idle: Client, taxonomy: dict[str, str]) -> None:
        post = await make(idle, taxonomy, publish=True)
        current = await change(idle, post.id, "title", title="Changed")
        for call in (
            idle.posts.PublishPost(p.PublishPostRequest(id=post.id, etag=post.etag)),
            idle.posts.UnpublishPost(p.UnpublishPostRequest(id=post.id, etag=post.etag)),
            idle.posts.DeletePost(p.DeletePostRequest(id=post.id, etag=post.etag)),
            change(idle, post.id, "title", etag=post.etag, title="Again"),
        ):
            error = await refused(call)
            assert (error.code(), reason(error)) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
        assert (await idle.posts.GetPost(p.GetPostRequest(id=post.id))).post == current
        request = p.UnpublishPostRequest(id=post.id, etag=current.etag)
        unpublished = (await idle.posts.UnpublishPost(request)).post
        await idle.posts.DeletePost(p.DeletePostRequest(id=post.id, etag=unpublished.etag))

    async def test_taken_slug_is_refused(self, idle: Client, taxonomy: dict[str, str], sql: Any) -> None:
        await make(idle, taxonomy, slug="mine")
        post = await make(idle, taxonomy, slug="yours")
        assert reason(await refused(change(idle, post.id, "slug", slug="mine"))) == "SLUG_TAKEN"
        assert await sql.fetchval("SELECT count(*) FROM post_revisions") == 0
        assert (await change(idle, post.id, "slug", slug="yours")).slug == "yours"

    async def test_publish_and_unpublish(self, idle: Client, taxonomy: dict[str, str]) -> None:
        post = await make(idle, taxonomy, publish=False)
        by_slug = p.GetPostRequest(slug=post.slug)
        assert (await refused(idle.posts.GetPost(by_slug))).code() is grpc.StatusCode.NOT_FOUND
        assert (await idle.posts.GetPost(p.GetPostRequest(slug=post.slug, include_drafts=True))).post == post
        published = (await idle.posts.PublishPost(p.PublishPostRequest(id=post.id))).post
        assert published.HasField("publish_time")
        again = (await idle.posts.PublishPost(p.PublishPostRequest(id=post.id))).post
        assert again == published
        assert (await idle.posts.GetPost(by_slug)).post == published
        draft = (await idle.posts.UnpublishPost(p.UnpublishPostRequest(id=post.id))).post
        assert not draft.HasField("publish_time")
        assert draft.state == p.POST_STATE_DRAFT

    async def test_delete_removes_revisions(self, idle: Client, taxonomy: dict[str, str], sql: Any) -> None:
        post = await make(idle, taxonomy, tags=["a"])
        await change(idle, post.id, "title", title="x")
        await idle.posts.DeletePost(p.DeletePostRequest(id=post.id))
        for table in ("posts", "post_revisions", "post_tags"):
            assert await sql.fetchval(f"SELECT count(*) FROM {table}") == 0
        error = await refused(idle.posts.DeletePost(p.DeletePostRequest(id=post.id)))
        assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_unknown_ids_are_not_found(idle: Client) -> None:
    mask = FieldMask(paths=["title"])
    for name in (str(uuid.uuid4()), "nonsense", ""):
        for call in (
            idle.posts.GetPost(p.GetPostRequest(id=name)),
            idle.posts.GetPost(p.GetPostRequest(slug=name)),
            idle.posts.UpdatePost(p.UpdatePostRequest(id=name, update_mask=mask, title="x")),
            idle.posts.PublishPost(p.PublishPostRequest(id=name)),
            idle.posts.UnpublishPost(p.UnpublishPostRequest(id=name)),
            idle.posts.DeletePost(p.DeletePostRequest(id=name)),
        ):
            assert (await refused(call)).code() is grpc.StatusCode.NOT_FOUND
