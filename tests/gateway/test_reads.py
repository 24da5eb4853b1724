"""Anonymous reads: what the cache may and may not do, conditional requests, codings, and moved posts."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import brotli
import pytest
from frontispiece.posts.v1 import posts_pb2

from gateway.cache import store
from rpc import errors
from tests.gateway.conftest import assert_problem
from tests.gateway.public_site import Site, post, public_site
from tests.gateway.scripted import EDITOR, TASK_ID, scripted

READS = ("/api/posts", "/api/posts/a-door", "/api/tags", "/api/authors", "/api/categories", "/", "/posts/a-door")


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """Answers are kept for an hour, so that the tests do not depend on the speed of the machine."""
    monkeypatch.setattr(store, "MAX_AGE_SECONDS", 3600.0)
    async with public_site() as made:
        yield made


class TestCache:
    @pytest.mark.parametrize("path", READS)
    async def test_a_read_is_answered_from_the_cache(self, site: Site, path: str) -> None:
        first, second = await site.client.get(path), await site.client.get(path)
        made = len(site.scripts.calls)
        third = await site.client.get(path)
        assert len(site.scripts.calls) == made
        assert first.content == second.content == third.content
        ids = {one.headers["x-request-id"] for one in (first, second, third)}
        assert len(ids) == 3
        volatile = {"x-request-id", "date"}
        kept = [{name: one.headers[name] for name in one.headers if name not in volatile} for one in (first, third)]
        assert kept[0] == kept[1]

    @pytest.mark.parametrize("path", READS)
    async def test_an_editor_is_never_answered_from_the_cache(self, site: Site, path: str) -> None:
        if path.startswith("/api"):
            assert await site.calls(path, 2, **EDITOR) == 2
        await site.client.get(path)
        site.title = "Another door"
        response = await site.client.get(path, headers=EDITOR)
        if "tags" not in path and "categories" not in path:
            assert "Another door" in response.text

    async def test_what_an_editor_reads_is_not_kept(self, site: Site) -> None:
        private = await site.client.get("/api/posts", headers=EDITOR)
        assert private.headers["cache-control"] == "private, no-store"
        public = await site.client.get("/api/posts")
        assert "public" in public.headers["cache-control"]
        assert public.json()["posts"][0]["created_by"] is None

    async def test_any_authorization_header_bypasses_the_cache(self, site: Site) -> None:
        await site.client.get("/api/posts")
        assert await site.calls("/api/posts", 2, authorization="Basic eDp5") == 2
        assert_problem(await site.client.get("/api/posts", headers={"authorization": "Bearer wrong"}), 401)

    async def test_concurrent_readers_share_one_call(self, site: Site) -> None:
        arrived, gate = asyncio.Event(), asyncio.Event()

        async def slow(_: Any) -> posts_pb2.ListPostsResponse:
            arrived.set()
            await gate.wait()
            return posts_pb2.ListPostsResponse(posts=[post()])

        site.scripts.on("ListPosts", slow)
        waiting = [asyncio.create_task(site.client.get("/api/posts")) for _ in range(8)]
        await arrived.wait()
        gate.set()
        responses = await asyncio.gather(*waiting)
        assert {one.status_code for one in responses} == {200}
        assert len(site.scripts.sent("ListPosts")) == 1

    async def test_a_write_through_this_gateway_is_seen_at_once(self, site: Site) -> None:
        await site.client.get("/posts/a-door")
        site.title = "A gate"
        assert (await site.client.post(f"/api/posts/{TASK_ID}/publish", headers=EDITOR)).status_code == 200
        for path in ("/posts/a-door", "/api/posts", "/"):
            assert "A gate" in (await site.client.get(path)).text

    async def test_a_refused_write_keeps_the_cache(self, site: Site) -> None:
        await site.client.get("/api/posts")
        assert (await site.client.post("/api/posts", json={})).status_code == 401
        assert (await site.client.post("/api/posts", json={}, headers=EDITOR)).status_code == 422
        assert await site.calls("/api/posts") == 0

    async def test_a_failed_write_drops_the_cache(self, site: Site) -> None:
        """It may have been done."""

        def lost(_: Any) -> None:
            raise errors.Internal("lost")

        site.scripts.on("PublishPost", lost)
        await site.client.get("/api/posts")
        assert (await site.client.post(f"/api/posts/{TASK_ID}/publish", headers=EDITOR)).status_code == 500
        assert await site.calls("/api/posts") == 1

    async def test_a_change_elsewhere_is_seen(self, site: Site) -> None:
        await site.client.get("/api/posts")
        site.title = "A gate"
        site.changes.put_nowait(None)
        async with asyncio.timeout(20):
            while "A gate" not in (await site.client.get("/api/posts")).text:
                await asyncio.sleep(0.01)

    async def test_without_announcements_an_answer_still_ages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with scripted() as front:
            site = Site(front)
            del front.scripts.methods["WatchChanges"]
            async with site.client:
                await site.client.get("/api/posts")
                site.title = "A gate"
                async with asyncio.timeout(20):
                    while "A gate" not in (await site.client.get("/api/posts")).text:
                        await asyncio.sleep(0.05)

    async def test_errors_are_not_kept(self, site: Site) -> None:
        def fail(_: Any) -> None:
            raise errors.Internal("no")

        answer = site.scripts.methods["ListPosts"]
        site.scripts.on("ListPosts", fail)
        failed = [await site.client.get("/api/posts") for _ in range(2)]
        for one in failed:
            assert one.json()["request_id"] == one.headers["x-request-id"]
        assert (await site.client.get("/")).status_code == 500
        site.scripts.on("ListPosts", answer)
        assert (await site.client.get("/api/posts")).status_code == 200
        assert (await site.client.get("/")).status_code == 200
        for path in ("/api/posts/nobody", "/posts/nobody"):
            assert [(await site.client.get(path)).status_code for _ in range(2)] == [404, 404]
        assert not [key for key in site.context.cache._entries if "nobody" in str(key)]


class TestQueries:
    async def test_the_order_of_a_query_does_not_matter(self, site: Site) -> None:
        await site.client.get("/api/posts?tag=sea&q=door")
        assert await site.calls("/api/posts?q=door&tag=sea") == 0
        assert site.scripts.sent("ListPosts")[0].tag == "sea"
        assert await site.calls("/api/posts?q=door&tag=land") == 1
        assert site.scripts.sent("ListPosts")[1].tag == "land"

    async def test_nonsense_makes_no_entries_for_pages(self, site: Site) -> None:
        await site.client.get("/")
        await site.client.get("/posts/a-door")
        entries = len(site.context.cache)
        for number in range(30):
            assert await site.calls(f"/?utm_source={number}&fbclid=x{number}&q=", 1) == 0
            assert await site.calls(f"/posts/a-door?utm_source={number}", 1) == 0
        assert len(site.context.cache) == entries

    @pytest.mark.parametrize("path", [one for one in READS if one.startswith("/api")])
    async def test_the_api_refuses_unknown_and_repeated_names_with_a_warm_cache(self, site: Site, path: str) -> None:
        await site.client.get(path)
        document = assert_problem(await site.client.get(f"{path}?utm_source=x"), 422, "INVALID_ARGUMENT")
        assert document["errors"] == [{"field": "utm_source", "message": "is not a parameter of this address"}]
        if not path.endswith("a-door"):
            document = assert_problem(await site.client.get(f"{path}?page_token=a&page_token=b"), 422)
            assert document["errors"] == [{"field": "page_token", "message": "must be given once"}]
        assert not [key for key in site.context.cache._entries if "utm" in str(key)]

    async def test_a_path_that_looks_like_a_query_is_a_path(self, site: Site) -> None:
        await site.client.get("/?q=door")
        await site.client.get("/api/posts?tag=sea")
        for path in ("/%3Fq=door", "/api/posts%3Ftag=sea", "/posts/a-door%3Fx"):
            assert (await site.client.get(path)).status_code == 404

    async def test_values_are_checked(self, site: Site) -> None:
        for query in ("page_size=x", "page_size=-1", "tag=" + "x" * 51, "state=gone", "q=%01x"):
            assert_problem(await site.client.get(f"/api/posts?{query}"), 422, "INVALID_ARGUMENT")
        assert_problem(await site.client.get("/api/posts?state=draft"), 401)

    async def test_bytes_that_are_not_utf_8_are_no_error_of_ours(self, site: Site) -> None:
        for path in ("/?q=%ff%fe", "/api/posts?q=%ff", "/posts/%ff", "/api/posts/%ff", "/api/tags?page_token=%ff"):
            assert (await site.client.get(path)).status_code < 500


class TestLists:
    async def test_the_default_is_said(self, site: Site) -> None:
        two = [posts_pb2.Author(id="1", name="Ana"), posts_pb2.Author(id="2", name="Editors", is_default=True)]
        site.scripts.on("ListAuthors", lambda _: posts_pb2.ListAuthorsResponse(authors=two))
        authors = (await site.client.get("/api/authors")).json()["authors"]
        assert [one["is_default"] for one in authors] == [False, True]
        assert (await site.client.get("/api/categories")).json()["categories"][0]["is_default"] is False

    async def test_a_list_of_names_is_bounded_and_has_pages(self, site: Site) -> None:
        def endless(request: posts_pb2.ListTagsRequest) -> posts_pb2.ListTagsResponse:
            tags = [posts_pb2.Tag(name="t")] * request.page_size
            return posts_pb2.ListTagsResponse(tags=tags, next_page_token=request.page_token + "n")

        site.scripts.on("ListTags", endless)
        everything = (await site.client.get("/api/tags")).json()
        assert (len(everything["tags"]), everything["next_page_token"]) == (1000, "n" * 10)
        page = (await site.client.get("/api/tags?page_size=7&page_token=xx")).json()
        assert (len(page["tags"]), page["next_page_token"]) == (7, "xxn")

    async def test_a_list_has_excerpts_and_no_html(self, site: Site) -> None:
        listed = (await site.client.get("/api/posts")).json()["posts"][0]
        assert listed["excerpt"] == "It opens."
        assert "html" not in listed
        assert (await site.client.get("/api/posts/a-door")).json()["html"].startswith("<p>It <em>opens")

    async def test_pages_do_not_ask_for_texts_that_they_do_not_show(self, site: Site) -> None:
        await site.client.get("/")
        await site.client.get("/posts/a-door")
        assert {one.view for one in site.scripts.sent("ListPosts")} == {posts_pb2.POST_VIEW_SUMMARY}


class TestConditional:
    @pytest.mark.parametrize("path", READS)
    @pytest.mark.parametrize("who", [{}, EDITOR], ids=["reader", "editor"])
    async def test_an_etag_gives_304(self, site: Site, path: str, who: dict[str, str]) -> None:
        found = await site.client.get(path, headers=who)
        etag = found.headers["etag"]
        for condition in (etag, f'"x", W/{etag}', "*"):
            response = await site.client.get(path, headers={**who, "if-none-match": condition})
            assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", etag)
            assert response.headers["vary"] == found.headers["vary"]
            assert response.headers["cache-control"] == found.headers["cache-control"]
        assert (await site.client.get(path, headers={**who, "if-none-match": '"x"'})).status_code == 200

    @pytest.mark.parametrize("path", READS)
    async def test_head_is_get_without_a_body(self, site: Site, path: str) -> None:
        for _ in range(2):  # made, and kept
            head = await site.client.head(path)
            assert (head.status_code, head.content) == (200, b"")
        found = await site.client.get(path)
        assert head.headers["content-length"] == str(len(found.content))
        assert head.headers["etag"] == found.headers["etag"]
        assert (await site.client.head(path, headers={"if-none-match": head.headers["etag"]})).status_code == 304

    async def test_a_changed_answer_has_another_etag(self, site: Site) -> None:
        before = {path: (await site.client.get(path)).headers["etag"] for path in ("/api/posts", "/", "/posts/a-door")}
        site.title = "A gate"
        site.context.cache.drop()
        for path, etag in before.items():
            response = await site.client.get(path, headers={"if-none-match": etag})
            assert response.status_code == 200
            assert response.headers["etag"] != etag

    @pytest.mark.parametrize(("coding", "decode"), [("br", brotli.decompress), ("gzip", gzip.decompress)])
    @pytest.mark.parametrize("path", ["/api/posts", "/", "/posts/a-door"])
    async def test_texts_are_compressed_when_asked(self, site: Site, path: str, coding: str, decode: Any) -> None:
        plain = await site.client.get(path)
        for _ in range(2):
            async with site.client.stream("GET", path, headers={"accept-encoding": coding}) as response:
                raw = b"".join([chunk async for chunk in response.aiter_raw()])
            assert response.headers["content-encoding"] == coding
            assert "accept-encoding" in response.headers["vary"].lower()
            assert decode(raw) == plain.content
            assert len(raw) < len(plain.content)
            assert response.headers["etag"].removeprefix("W/") == plain.headers["etag"]
            again = {"accept-encoding": coding, "if-none-match": response.headers["etag"]}
            assert (await site.client.get(path, headers=again)).status_code == 304


class TestMoved:
    """GetPost by a former slug returns the post with its slug of today."""

    @pytest.mark.parametrize("prefix", ["/posts", "/api/posts"])
    @pytest.mark.parametrize("query", ["", "?page=2&x=%20y"])
    async def test_a_former_slug_leads_to_the_post(self, site: Site, prefix: str, query: str) -> None:
        suffix = "" if prefix.startswith("/api") else query
        response = await site.client.get(f"{prefix}/a-gate{suffix}", headers={"host": "evil.example"})
        assert response.status_code == 301
        assert response.headers["location"] == f"a-door{suffix}"
        followed = await site.client.get(f"{prefix}/a-gate{suffix}", follow_redirects=True)
        assert followed.status_code == 200
        assert followed.url.path == f"{prefix}/a-door"
        assert (await site.client.head(f"{prefix}/a-gate")).status_code == 301

    async def test_an_id_does_not_lead_elsewhere(self, site: Site) -> None:
        site.scripts.on("GetPost", lambda _: posts_pb2.GetPostResponse(post=post()))
        assert (await site.client.get(f"/api/posts/{TASK_ID}")).status_code == 200
        assert (await site.client.get(f"/api/posts/{TASK_ID.upper()}")).status_code == 200
