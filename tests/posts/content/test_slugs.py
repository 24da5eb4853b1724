"""Slugs of posts: each leads to its post for ever, and to no other one."""

import asyncio
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import posts_pb2 as p
from google.protobuf.field_mask_pb2 import FieldMask

from services.posts.content.slugs import ATTEMPTS, candidate, slugify
from tests.posts.conftest import Client, reason, wrong_fields
from tests.posts.content.calls import KEY, refused
from tests.posts.leaves import ScriptedStorage


@pytest.fixture(autouse=True)
def image(storage: ScriptedStorage) -> None:
    storage.put(KEY, b"x", 64, 32)


async def make(idle: Client, title: str = "A title", *, publish: bool = True, slug: str = "") -> p.Post:
    request = p.CreatePostRequest(title=title, featured_image_key=KEY, publish=publish, slug=slug)
    return (await idle.posts.CreatePost(request)).post  # type: ignore[no-any-return]


async def rename(idle: Client, post: p.Post, slug: str) -> p.Post:
    request = p.UpdatePostRequest(id=post.id, update_mask=FieldMask(paths=["slug"]), slug=slug)
    return (await idle.posts.UpdatePost(request)).post  # type: ignore[no-any-return]


async def found(idle: Client, slug: str) -> tuple[str, str]:
    post = (await idle.posts.GetPost(p.GetPostRequest(slug=slug))).post
    return post.id, post.slug


async def test_every_former_slug_leads_to_the_post_under_its_current_slug(idle: Client) -> None:
    post = await make(idle, slug="one")
    for slug in ("two", "three"):
        await rename(idle, post, slug)
    for slug in ("one", "two", "three"):
        assert await found(idle, slug) == (post.id, "three")


async def test_former_slug_of_a_draft_is_not_shown_to_readers(idle: Client) -> None:
    post = await make(idle, slug="one")
    await rename(idle, post, "two")
    await idle.posts.UnpublishPost(p.UnpublishPostRequest(id=post.id))
    assert (await refused(found(idle, "one"))).code() is grpc.StatusCode.NOT_FOUND
    drafts = p.GetPostRequest(slug="one", include_drafts=True)
    assert (await idle.posts.GetPost(drafts)).post.id == post.id


async def test_former_slug_is_no_other_posts(idle: Client) -> None:
    post = await make(idle, "Fox")
    await rename(idle, post, "other")
    assert (await make(idle, "Fox")).slug == "fox-2"
    assert (await make(idle, "Fox")).slug == "fox-3"
    assert reason(await refused(make(idle, slug="fox"))) == "SLUG_TAKEN"
    second = await make(idle, "Second")
    assert reason(await refused(rename(idle, second, "fox"))) == "SLUG_TAKEN"
    assert await found(idle, "fox") == (post.id, "other")
    assert await found(idle, "second") == (second.id, "second")


async def test_numbers_of_former_slugs_count(idle: Client) -> None:
    posts = [await make(idle, "Fox") for _ in range(3)]
    await rename(idle, posts[2], "other")
    assert (await make(idle, "Fox")).slug == "fox-4"


async def test_post_can_take_its_former_slug_back(idle: Client, sql: Any) -> None:
    post = await make(idle, slug="one")
    await rename(idle, post, "two")
    await rename(idle, post, "one")
    assert await found(idle, "two") == (post.id, "one")
    assert [row["slug"] for row in await sql.fetch("SELECT slug FROM post_slugs")] == ["two"]


async def test_slug_that_was_never_public_is_free_again(idle: Client) -> None:
    post = await make(idle, slug="one", publish=False)
    await rename(idle, post, "two")
    assert (await make(idle, slug="one")).slug == "one"


async def test_slug_of_a_post_that_was_taken_back_stays_its_own(idle: Client) -> None:
    post = await make(idle, slug="one")
    await idle.posts.UnpublishPost(p.UnpublishPostRequest(id=post.id))
    await rename(idle, post, "two")
    assert reason(await refused(make(idle, slug="one"))) == "SLUG_TAKEN"


async def test_deleted_post_leaves_its_slugs(idle: Client) -> None:
    post = await make(idle, slug="one")
    await rename(idle, post, "two")
    await idle.posts.DeletePost(p.DeletePostRequest(id=post.id))
    assert (await make(idle, slug="one")).slug == "one"


async def test_slug_that_is_given_away_at_the_same_moment_has_one_owner(idle: Client, sql: Any) -> None:
    for number in range(10):
        post = await make(idle, slug=f"old-{number}")
        renamed, *_ = await asyncio.gather(
            rename(idle, post, f"new-{number}"),
            *(make(idle, slug=f"old-{number}") for _ in range(3)),
            return_exceptions=True,
        )
        assert not isinstance(renamed, BaseException)
        assert await found(idle, f"old-{number}") == (post.id, f"new-{number}")
    assert await sql.fetchval("SELECT count(*) FROM post_slugs JOIN posts USING (slug)") == 0


@pytest.mark.parametrize("form", ["lower", "upper"])
async def test_slug_in_the_form_of_an_id_is_refused(idle: Client, form: str) -> None:
    post = await make(idle)
    slug = getattr(post.id, form)()
    for call in (make(idle, slug=slug), rename(idle, post, slug)):
        error = await refused(call)
        assert (error.code(), wrong_fields(error)) == (grpc.StatusCode.INVALID_ARGUMENT, {"slug"})


async def test_title_in_the_form_of_an_id_gets_a_slug(idle: Client) -> None:
    post = await make(idle)
    assert (await make(idle, post.id)).slug == f"post-{post.id}"


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Crème Brûlée!", "creme-brulee"),
        ("Straße in Łódź", "strasse-in-lodz"),
        ("Новости дня", "novosti-dnya"),
        ("Ελλάδα", "ellada"),
        ("新闻", "xinwen"),
        ("हिन्दी समाचार", "hindi-smacar"),
        ("مرحبا", "mrhb"),
        ("😀🎉", "grinning-tada"),
        ("Don't panic", "dont-panic"),
        ("…", "post"),
        ("covid-19: v2.5", "covid-19-v2-5"),
        ("\u200b\ufffd", "post"),
    ],
    ids=[
        "accents",
        "german",
        "cyrillic",
        "greek",
        "chinese",
        "hindi",
        "arabic",
        "emoji",
        "quote",
        "none",
        "signs",
        "no",
    ],
)
def test_title_in_any_script_becomes_a_slug(title: str, slug: str) -> None:
    assert slugify(title, "post") == slug


def test_slug_keeps_whole_words_within_the_limit() -> None:
    assert slugify("word " * 40, "post").endswith("-word")
    assert len(slugify("字" * 200, "post")) <= 100


async def test_every_candidate_is_within_the_limit(sql: Any) -> None:
    longest = "x" * 100
    await sql.execute("INSERT INTO authors (slug, name, created_by) VALUES ($1, 'x', 'x')", "x" * 90 + "-99999999")
    found = [await candidate(sql, "authors", longest, attempt) for attempt in range(ATTEMPTS)]
    assert found[:2] == [longest, "x" * 90 + "-100000000"]
    assert max(map(len, found)) == 100
    assert len(set(found[-2:])) == 2


async def test_post_that_is_published_again_keeps_its_date(idle: Client) -> None:
    post = await make(idle)
    await idle.posts.UnpublishPost(p.UnpublishPostRequest(id=post.id))
    again = (await idle.posts.PublishPost(p.PublishPostRequest(id=post.id))).post
    assert again.publish_time == post.publish_time


async def test_first_publication_of_a_draft_is_now(idle: Client) -> None:
    draft = await make(idle, publish=False)
    other = await make(idle)
    post = (await idle.posts.PublishPost(p.PublishPostRequest(id=draft.id))).post
    assert post.publish_time.ToDatetime() > other.publish_time.ToDatetime()
