"""What is derived from a text is made in a process of its own, which no text stops for long."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from frontispiece.posts.v1 import posts_pb2 as p
from google.protobuf.field_mask_pb2 import FieldMask

from services.posts.content.texts import deriving
from services.posts.content.texts.deriving import Derived, Deriving, running
from tests.posts.conftest import Client, StartPosts
from tests.posts.leaves import ScriptedStorage

KEY = "generated/1-x.png"
PICTURE = "![A fox](http://old.example/media/generated/1-x.png)"


@pytest.fixture
async def texts() -> AsyncIterator[Deriving]:
    async with running(("http://old.example/media",)) as found:
        yield found


@pytest.fixture(autouse=True)
def image(storage: ScriptedStorage) -> None:
    storage.put(KEY, b"x", 64, 32)


async def make(client: Client, content: str) -> p.Post:
    request = p.CreatePostRequest(title="Title", featured_image_key=KEY, publish=True, content=content)
    return (await client.posts.CreatePost(request, timeout=60)).post  # type: ignore[no-any-return]


async def read(client: Client, post: p.Post) -> p.Post:
    return (await client.posts.GetPost(p.GetPostRequest(id=post.id), timeout=60)).post  # type: ignore[no-any-return]


async def derived(texts: Deriving, title: str, content: str) -> Derived:
    """As long as it takes."""
    found = await texts.try_derive(title, content, 120)
    assert found is not None
    return found


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.02)


class TestProcess:
    async def test_html_excerpt_and_words(self, texts: Deriving) -> None:
        made = await texts.derive("The Title", f"# Head\n\nSome *words*.\n\n{PICTURE}")
        assert made.excerpt == "Some words."
        assert '<img src="/media/generated/1-x.png"' in made.html
        assert {"the", "title", "head", "some", "words"} <= set(made.lexemes)
        assert made.version == deriving.VERSION

    async def test_other_addresses_hold_from_the_next_text_on(self, texts: Deriving) -> None:
        assert "<img" in (await texts.derive("", PICTURE)).html
        texts.bases = ("http://new.example/media",)
        assert "<img" not in (await texts.derive("", PICTURE)).html

    async def test_many_at_once_get_their_own(self, texts: Deriving) -> None:
        found = await asyncio.gather(*(derived(texts, "", f"text {i}") for i in range(20)))
        assert [one.excerpt for one in found] == [f"text {i}" for i in range(20)]

    async def test_killed_process_is_replaced(self, texts: Deriving) -> None:
        await texts.derive("", "x")
        os.kill(_process(texts).pid, signal.SIGKILL)
        _process(texts).wait()
        assert (await texts.derive("", "again")).excerpt == "again"

    async def test_stopped_process_is_given_up(self, texts: Deriving, monkeypatch: pytest.MonkeyPatch) -> None:
        await texts.derive("", "x")
        stopped = _process(texts)
        os.kill(stopped.pid, signal.SIGSTOP)
        monkeypatch.setattr(deriving, "WRITE_WAIT_SECONDS", 0.05)
        assert await texts.derive("A title", "*later*") == Derived("", "later", ["a", "title"], 0)
        assert stopped.returncode is not None
        assert (await derived(texts, "", "now")).excerpt == "now"

    async def test_caller_that_leaves_spoils_nothing_for_the_next(self, texts: Deriving) -> None:
        await texts.derive("", "x")
        leaving = asyncio.create_task(texts.derive("", "[" * 50_000))
        await asyncio.sleep(0.05)
        leaving.cancel()
        assert (await derived(texts, "", "next")).excerpt == "next"

    async def test_text_that_takes_too_long_becomes_plain(self, texts: Deriving) -> None:
        """With a limit of a moment any text takes too long; the limit is of processor time, not of the clock."""
        program = "from services.posts.content.texts import deriving as d; d.TIME_LIMIT_SECONDS = 0.01; d.main()"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd())])}
        process = subprocess.Popen(
            (sys.executable, "-c", program), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        texts._process = process
        slow = await derived(texts, "", "*a* [" * 10_000)
        assert slow.html.startswith('<p dir="auto">*a* [*a* [')
        assert slow.version == deriving.VERSION
        assert (await derived(texts, "", "*a*")).html == '<p dir="auto"><em>a</em></p>\n'

    async def test_secrets_of_the_service_are_not_there(self, texts: Deriving, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("POSTS_DATABASE_URL", "postgresql://user:secret@host/db")
        await texts.derive("", "x")
        environment = Path(f"/proc/{_process(texts).pid}/environ").read_bytes()
        assert b"secret" not in environment

    async def test_process_ends_with_its_service(self) -> None:
        async with running(()) as texts:
            await texts.derive("", "x")
            process = _process(texts)
        assert process.returncode is not None


def _process(texts: Deriving) -> "subprocess.Popen[bytes]":
    assert texts._process is not None
    return texts._process


class TestPosts:
    async def test_answers_have_html_and_lists_have_the_excerpt(self, idle: Client) -> None:
        post = await make(idle, "Some *words*.")
        assert (post.html, post.excerpt) == ('<p dir="auto">Some <em>words</em>.</p>\n', "Some words.")
        assert await read(idle, post) == post
        (listed,) = (await idle.posts.ListPosts(p.ListPostsRequest(view=p.POST_VIEW_SUMMARY))).posts
        assert (listed.html, listed.excerpt, listed.content) == ("", "Some words.", "")
        (listed,) = (await idle.posts.ListPosts(p.ListPostsRequest())).posts
        assert (listed.html, listed.excerpt, listed.content) == ("", "Some words.", "Some *words*.")

    async def test_change_of_the_text_or_the_title_is_derived(self, idle: Client) -> None:
        post = await make(idle, "Old text")
        for paths, fields in ((["content"], {"content": "New *text*"}), (["title"], {"title": "Headline"})):
            request = p.UpdatePostRequest(id=post.id, update_mask=FieldMask(paths=paths), **fields)
            post = (await idle.posts.UpdatePost(request)).post
        assert post.html == '<p dir="auto">New <em>text</em></p>\n'
        for query, count in (("new headline", 1), ("old", 0), ("title", 0)):
            assert len((await idle.posts.ListPosts(p.ListPostsRequest(query=query))).posts) == count

    async def test_earlier_version_is_made_again_when_it_is_read(self, idle: Client, sql: Any) -> None:
        post = await make(idle, "Some *words*.")
        await sql.execute("UPDATE posts SET derived_version = 0, html = 'old', excerpt = 'old'")
        assert await read(idle, post) == post
        assert await sql.fetchrow("SELECT html, derived_version FROM posts") == (post.html, deriving.VERSION)

    async def test_worker_makes_earlier_versions_again(self, maintained: Client, sql: Any) -> None:
        posts = [await make(maintained, f"Some *words* {i}.") for i in range(50)]
        await sql.execute("UPDATE posts SET derived_version = 0, html = 'old', excerpt = 'old', search = ''")

        async def is_done() -> bool:
            return not await sql.fetchval("SELECT count(*) FROM posts WHERE derived_version = 0")

        await until(is_done)
        made = {row["id"]: (row["html"], row["excerpt"]) for row in await sql.fetch("SELECT * FROM posts")}
        assert {str(key): value for key, value in made.items()} == {p.id: (p.html, p.excerpt) for p in posts}
        assert len((await maintained.posts.ListPosts(p.ListPostsRequest(query="words", page_size=100))).posts) == 50

    async def test_later_version_is_kept(self, idle: Client, sql: Any) -> None:
        """While a new version of the program replaces this one."""
        post = await make(idle, "x")
        await sql.execute("UPDATE posts SET derived_version = $1, html = 'later'", deriving.VERSION + 1)
        assert (await read(idle, post)).html == "later"

    async def test_write_does_not_wait_for_a_text_that_takes_long(
        self, start_posts: StartPosts, sql: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deriving, "WRITE_WAIT_SECONDS", 0.0)
        async with start_posts(generator_targets=()) as client:
            post = await make(client, "Some *words*.")
            assert (post.content, post.excerpt) == ("Some *words*.", "Some words .")

            async def is_done() -> bool:
                return bool(await sql.fetchval("SELECT derived_version = $1 FROM posts", deriving.VERSION))

            await until(is_done)
            assert (await read(client, post)).html == '<p dir="auto">Some <em>words</em>.</p>\n'

    async def test_read_does_not_wait_either(self, idle: Client, sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        post = await make(idle, "Some *words*.\n\n<b>")
        await sql.execute("UPDATE posts SET derived_version = 0, html = '<script>', excerpt = 'old'")
        monkeypatch.setattr(deriving, "WRITE_WAIT_SECONDS", 0.0)
        found = await read(idle, post)
        assert found.html == '<p dir="auto">Some *words*.</p>\n<p dir="auto">&lt;b&gt;</p>\n'
        assert found.excerpt == "Some words . <b>"


@pytest.mark.parametrize("text", ["[" * 100_000, "* a\n" * 25_000], ids=["brackets", "list"])
async def test_event_loop_goes_on_while_a_hostile_text_is_rendered(texts: Deriving, text: str) -> None:
    """While a thread that renders would have the interpreter, the loop here gets its turns: thousands of them."""
    await texts.derive("", "x")
    work = asyncio.create_task(derived(texts, "", text))
    turns = 0
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 1000
