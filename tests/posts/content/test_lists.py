"""Lists of posts, authors, categories, tags and tasks: filters, order and pages."""

import asyncio
import itertools
import random
import uuid
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import posts_pb2 as p
from google.protobuf.field_mask_pb2 import FieldMask

from rpc import errors
from services.posts.content import deriving
from tests.posts.conftest import Client, reason, wrong_fields
from tests.posts.leaves import ScriptedStorage

KEY = "generated/1-x.png"


@pytest.fixture
def images(storage: ScriptedStorage) -> str:
    """Two stored images; the key of the first."""
    for name in (KEY, "generated/2-y.png"):
        storage.put(name, b"x", 64, 32)
    return KEY


@pytest.fixture
async def taxonomy(idle: Client) -> dict[str, str]:
    """The ids of the first author and category."""
    (author,) = (await idle.posts.ListAuthors(p.ListAuthorsRequest())).authors
    (category,) = (await idle.posts.ListCategories(p.ListCategoriesRequest())).categories
    return {"author_id": author.id, "category_id": category.id}


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


@pytest.mark.usefixtures("images")
class TestList:
    async def titles(self, idle: Client, **fields: Any) -> set[str]:
        return {post.title for post in (await idle.posts.ListPosts(p.ListPostsRequest(**fields))).posts}

    async def test_filters(self, idle: Client, taxonomy: dict[str, str]) -> None:
        author = (await idle.posts.CreateAuthor(p.CreateAuthorRequest(name="Bo"))).author
        category = (await idle.posts.CreateCategory(p.CreateCategoryRequest(name="Sea"))).category
        await make(idle, taxonomy, "One", tags=["x"], content="the quick brown fox")
        await make(idle, {**taxonomy, "author_id": author.id}, "Two", tags=["x", "y"], content="a Lighthouse at dusk")
        await make(idle, {**taxonomy, "category_id": category.id}, "Three", publish=False, content="DÉJÀ vu's fox")
        for fields, wanted in (
            ({}, {"One", "Two", "Three"}),
            ({"state": p.POST_STATE_DRAFT}, {"Three"}),
            ({"state": p.POST_STATE_PUBLISHED}, {"One", "Two"}),
            ({"tag": "x"}, {"One", "Two"}),
            ({"tag": "y"}, {"Two"}),
            ({"tag": " X "}, {"One", "Two"}),
            ({"tag": "z"}, set()),
            ({"author": "bo"}, {"Two"}),
            ({"author": author.id}, {"Two"}),
            ({"category": "sea"}, {"Three"}),
            ({"category": "nowhere"}, set()),
            ({"query": "fox"}, {"One", "Three"}),
            ({"query": "FOX brown"}, {"One"}),
            ({"query": "light"}, {"Two"}),
            ({"query": "two dusk"}, {"Two"}),
            ({"query": "déjà"}, {"Three"}),
            ({"query": "DEJA"}, {"Three"}),
            ({"query": "hous"}, set()),
            ({"query": "  "}, {"One", "Two", "Three"}),
            ({"query": "!!!"}, set()),
            ({"query": "'; DROP TABLE posts; --"}, set()),
            ({"query": "fox' | ' & !(:*"}, {"One", "Three"}),
            ({"query": "fox", "tag": "x", "state": p.POST_STATE_PUBLISHED}, {"One"}),
        ):
            assert await self.titles(idle, **fields) == wanted, fields

    async def test_every_combination_of_filters_on_every_page(self, idle: Client, taxonomy: dict[str, str]) -> None:
        """Random posts, some changed, unpublished or deleted: each list has what a look at every post gives."""
        seed = random.randrange(2**32)
        print("seed", seed)
        chance = random.Random(seed)
        authors = [(await idle.posts.CreateAuthor(p.CreateAuthorRequest(name=name))).author for name in "AB"]
        categories = [(await idle.posts.CreateCategory(p.CreateCategoryRequest(name=name))).category for name in "CD"]

        def fields() -> dict[str, Any]:
            return {
                "author_id": chance.choice(authors).id,
                "category_id": chance.choice(categories).id,
                "tags": chance.sample(["x", "y", "z"], chance.randint(0, 3)),
                "content": chance.choice(["red fox", "blue fox", "red sea"]),
            }

        posts = [await make(idle, taxonomy, f"Post {i}", **fields(), publish=chance.random() < 0.7) for i in range(40)]
        for post in chance.sample(posts, 12):
            await change(idle, post.id, "author_id", "category_id", "tags", "content", **fields())
        for post in chance.sample(posts, 8):
            await idle.posts.UnpublishPost(p.UnpublishPostRequest(id=post.id))
            if chance.random() < 0.5:
                await idle.posts.PublishPost(p.PublishPostRequest(id=post.id))
        for post in chance.sample(posts, 4):
            await idle.posts.DeletePost(p.DeletePostRequest(id=post.id))
        everything = await self.whole(idle, page_size=100)
        assert len(everything) == 36
        times = [(post.publish_time if post.HasField("publish_time") else post.create_time) for post in everything]
        stamps = [(time.seconds, time.nanos) for time in times]
        assert stamps == sorted(stamps, reverse=True)
        states = (p.POST_STATE_UNSPECIFIED, p.POST_STATE_PUBLISHED, p.POST_STATE_DRAFT)
        for state, tag, author, category, query in itertools.product(
            states,
            ("", "x", "nothing"),
            ("", "a", authors[1].id, "nobody"),
            ("", categories[0].id.upper(), "d"),
            ("", "fox", "red"),
        ):
            expected = [
                post.id
                for post in everything
                if state in (p.POST_STATE_UNSPECIFIED, post.state)
                and (not tag or tag in post.tags)
                and author in ("", post.author.slug, post.author.id)
                and category.lower() in ("", post.category.slug, post.category.id)
                and query in post.content
            ]
            request = {"state": state, "tag": tag, "author": author, "category": category, "query": query}
            listed = await self.whole(idle, **request, page_size=chance.choice([3, 7, 50]))
            assert [post.id for post in listed] == expected, request
        published = [post for post in everything if post.state == p.POST_STATE_PUBLISHED]
        counts = {tag: sum(tag in post.tags for post in published) for tag in "xyz"}
        tags = (await idle.posts.ListTags(p.ListTagsRequest())).tags
        assert {tag.name: tag.post_count for tag in tags} == {tag: count for tag, count in counts.items() if count}
        assert [(-tag.post_count, tag.name) for tag in tags] == sorted((-tag.post_count, tag.name) for tag in tags)

    async def whole(self, idle: Client, **fields: Any) -> list[Any]:
        """The posts of all pages."""
        found, token = [], ""
        while True:
            page = await idle.posts.ListPosts(p.ListPostsRequest(**fields, page_token=token))
            found += page.posts
            token = page.next_page_token
            if not token:
                return found

    async def test_a_summary_has_no_content(self, idle: Client, taxonomy: dict[str, str]) -> None:
        await make(idle, taxonomy, "One", content="text")
        request = p.ListPostsRequest(view=p.POST_VIEW_SUMMARY)
        (post,) = (await idle.posts.ListPosts(request)).posts
        assert (post.title, post.content) == ("One", "")

    async def test_names_are_in_the_order_of_people(self, idle: Client) -> None:
        for name in ("Zoe", "adam", "Ärla", "Ben", "Émile", "Иван", "анна", "Яна", "adam", "Łukasz", "ßa"):
            await idle.posts.CreateAuthor(p.CreateAuthorRequest(name=name, slug=f"s{uuid.uuid4().hex[:8]}"))
        names, token = [], ""
        while True:
            page = await idle.posts.ListAuthors(p.ListAuthorsRequest(page_size=2, page_token=token))
            names += [author.name for author in page.authors]
            token = page.next_page_token
            if not token:
                break
        assert names == [
            *("adam", "adam", "Ärla", "Ben", "Editorial team", "Émile", "Łukasz", "ßa", "Zoe"),
            *("анна", "Иван", "Яна"),
        ]

    async def test_search_follows_a_change(self, idle: Client, taxonomy: dict[str, str]) -> None:
        post = await make(idle, taxonomy, "One", content="old")
        await change(idle, post.id, "content", content="new")
        assert await self.titles(idle, query="old") == set()
        assert await self.titles(idle, query="new one") == {"One"}

    async def test_longest_content_with_most_words(
        self, idle: Client, taxonomy: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each a different one, in four-byte letters, so that the index of words is as large as it gets."""
        monkeypatch.setattr(deriving, "WRITE_WAIT_SECONDS", 120.0)  # no worker runs that would do it later
        letters = [chr(0x10400 + n) for n in range(40)]
        words = [a + b + c for a in letters for b in letters for c in letters][:25_000]
        post = await make(idle, taxonomy, "Long", content=" ".join(words))
        assert len(post.content) == 99_999
        assert await self.titles(idle, query=words[7]) == {"Long"}

    async def test_paging_is_stable_while_posts_are_added(self, idle: Client, taxonomy: dict[str, str]) -> None:
        """Posts that were there at the first page are listed once each, whatever is added meanwhile."""
        seed = random.randrange(2**32)
        print("seed", seed)
        chance = random.Random(seed)
        before = [(await make(idle, taxonomy, f"Post {i}")).id for i in range(25)]
        seen: list[str] = []
        token = ""
        while True:
            size = chance.randint(1, 7)
            page = await idle.posts.ListPosts(p.ListPostsRequest(page_size=size, page_token=token))
            seen += [post.id for post in page.posts]
            assert len(page.posts) <= size
            token = page.next_page_token
            if not token:
                break
            for _ in range(chance.randint(0, 3)):
                await make(idle, taxonomy, "Newcomer")
        assert seen == before[::-1]

    async def test_page_token_belongs_to_its_list_and_filter(self, idle: Client, taxonomy: dict[str, str]) -> None:
        for _ in range(3):
            await make(idle, taxonomy, tags=["x"])
        token = (await idle.posts.ListPosts(p.ListPostsRequest(page_size=1, tag="x"))).next_page_token
        assert token
        assert (await idle.posts.ListPosts(p.ListPostsRequest(page_size=1, tag="x", page_token=token))).posts
        for call in (
            idle.posts.ListPosts(p.ListPostsRequest(tag="y", page_token=token)),
            idle.posts.ListPosts(p.ListPostsRequest(page_token=token)),
            idle.posts.ListAuthors(p.ListAuthorsRequest(page_token=token)),
            idle.posts.ListPosts(p.ListPostsRequest(tag="x", page_token=token[:-4])),
            idle.posts.ListPosts(p.ListPostsRequest(tag="x", page_token="x" * 5000)),
        ):
            assert (await refused(call)).code() is grpc.StatusCode.INVALID_ARGUMENT

    async def test_page_size_is_limited_to_a_hundred(self, idle: Client, taxonomy: dict[str, str], sql: Any) -> None:
        post = await make(idle, taxonomy)
        await sql.execute(
            "INSERT INTO authors (slug, name, created_by) SELECT 'a-' || n, 'Author ' || n, 'x'"
            " FROM generate_series(1, 150) n"
        )
        pages = await idle.posts.ListAuthors(p.ListAuthorsRequest(page_size=1000))
        assert len(pages.authors) == 100
        rest = await idle.posts.ListAuthors(p.ListAuthorsRequest(page_size=1000, page_token=pages.next_page_token))
        names = [author.name for author in (*pages.authors, *rest.authors)]
        assert len(names) == len(set(names)) == 151
        assert len((await idle.posts.ListAuthors(p.ListAuthorsRequest())).authors) == 20
        assert post.id

    async def test_tags_are_ordered_by_use(self, idle: Client, taxonomy: dict[str, str]) -> None:
        await make(idle, taxonomy, tags=["a", "b", "c"])
        await make(idle, taxonomy, tags=["b", "c"])
        await make(idle, taxonomy, tags=["d", "c"], publish=False)
        seen: list[tuple[str, int]] = []
        token = ""
        while True:
            page = await idle.posts.ListTags(p.ListTagsRequest(page_size=1, page_token=token))
            seen += [(tag.name, tag.post_count) for tag in page.tags]
            token = page.next_page_token
            if not token:
                break
        assert seen == [("b", 2), ("c", 2), ("a", 1)]


async def test_authors_and_categories_are_created_and_listed(idle: Client) -> None:
    async def author(name: str, slug: str = "") -> p.Author:
        return (await idle.posts.CreateAuthor(p.CreateAuthorRequest(name=name, slug=slug))).author  # type: ignore[no-any-return]

    assert (await author("Ada Lovelace")).slug == "ada-lovelace"
    assert (await author("Ada Lovelace")).slug == "ada-lovelace-2"
    assert (await author("Ada Lovelace", "ada")).slug == "ada"
    error = await refused(author("Ada", "ada"))
    assert (error.code(), reason(error)) == (grpc.StatusCode.ALREADY_EXISTS, "SLUG_TAKEN")
    error = await refused(author("Ada", "12345678-1234-1234-1234-123456789abc"))
    assert (error.code(), wrong_fields(error)) == (grpc.StatusCode.INVALID_ARGUMENT, {"slug"})
    names = [one.name for one in (await idle.posts.ListAuthors(p.ListAuthorsRequest())).authors]
    assert names == ["Ada Lovelace", "Ada Lovelace", "Ada Lovelace", "Editorial team"]
    await idle.posts.CreateCategory(p.CreateCategoryRequest(name="海", slug="sea"))
    names = [one.name for one in (await idle.posts.ListCategories(p.ListCategoriesRequest())).categories]
    assert sorted(names) == ["General", "海"]


async def test_names_in_any_script_get_slugs_and_numbers(idle: Client) -> None:
    names = ("Новости", "Статьи", "新闻", "新闻", "😀", "...", "…")
    slugs = [(await idle.posts.CreateCategory(p.CreateCategoryRequest(name=name))).category.slug for name in names]
    assert slugs == ["novosti", "stati", "xinwen", "xinwen-2", "grinning", "category", "category-2"]


async def test_many_at_once_with_one_name_get_different_slugs(idle: Client) -> None:
    made = await asyncio.gather(
        *(idle.posts.CreateAuthor(p.CreateAuthorRequest(name="Анна Петрова")) for _ in range(8))
    )
    assert len({response.author.slug for response in made}) == 8


async def test_first_author_and_category_are_the_default_wherever_they_are_shown(idle: Client, images: str) -> None:
    """Not the first by name."""
    author = (await idle.posts.CreateAuthor(p.CreateAuthorRequest(name="Aaron"))).author
    category = (await idle.posts.CreateCategory(p.CreateCategoryRequest(name="Aardvarks"))).category
    assert (author.is_default, category.is_default) == (False, False)
    authors = (await idle.posts.ListAuthors(p.ListAuthorsRequest())).authors
    categories = (await idle.posts.ListCategories(p.ListCategoriesRequest())).categories
    assert [(one.name, one.is_default) for one in authors] == [("Aaron", False), ("Editorial team", True)]
    assert [(one.name, one.is_default) for one in categories] == [("Aardvarks", False), ("General", True)]
    plain = (await idle.posts.CreatePost(p.CreatePostRequest(title="T", featured_image_key=images))).post
    assert (plain.author, plain.category) == (authors[1], categories[1])
    chosen = await make(idle, {"author_id": author.id, "category_id": category.id})
    assert (chosen.author, chosen.category) == (author, category)


async def test_tasks_are_listed_newest_first_while_tasks_are_added(idle: Client) -> None:
    from frontispiece.posts.v1 import tasks_pb2 as t

    before = [(await idle.create(f"number {i}")).id for i in range(15)]
    await idle.tasks.CancelTask(t.CancelTaskRequest(task_id=before[3]))
    seen: list[str] = []
    token = ""
    while True:
        page = await idle.tasks.ListTasks(t.ListTasksRequest(page_size=4, page_token=token))
        seen += [task.id for task in page.tasks]
        token = page.next_page_token
        if not token:
            break
        await idle.create("newcomer")
    assert seen == before[::-1]
    cancelled = await idle.tasks.ListTasks(t.ListTasksRequest(state=t.TASK_STATE_CANCELLED))
    assert [task.id for task in cancelled.tasks] == [before[3]]


def test_forged_tokens_are_refused() -> None:
    import base64
    import json

    from services.posts.database import paging

    good = paging.page([1, 2], paging.cursor(1, "", "x"), lambda _: (5, str(uuid.uuid4()))).next_page_token
    version, of_filter, value, tie = json.loads(base64.urlsafe_b64decode(good))
    assert paging.cursor(1, good, "x").sort == 5
    for forged in (
        [2, of_filter, value, tie],
        [version, "0", value, tie],
        [version, of_filter, "5", tie],
        [version, of_filter, True, tie],
        [version, of_filter, 2**200, tie],
        [version, of_filter, value, "x"],
        [version, of_filter, value, 7],
        [version, of_filter, value],
        {},
        "x",
    ):
        token = base64.urlsafe_b64encode(json.dumps(forged).encode()).decode()
        with pytest.raises(errors.InvalidArgument):
            paging.cursor(1, token, "x")
    for bad in ("\u0000", "\ud800"):
        token = base64.urlsafe_b64encode(json.dumps([version, of_filter, 5, bad]).encode()).decode()
        with pytest.raises(errors.InvalidArgument):
            paging.cursor(1, token, "x", tie=str)
