"""Lists of posts, authors, categories, tags and tasks: filters, order and pages."""

import itertools
import random
import uuid
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import posts_pb2 as p

from rpc import errors
from services.posts.content.texts import deriving
from tests.posts.conftest import Client
from tests.posts.content.calls import change, make, refused


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
