"""Posts over REST: reading, writing, etags, filters, pages."""

import uuid
from typing import Any

import httpx2
import pytest

from tests.gateway.conftest import assert_problem, publish

UNKNOWN = "00000000-0000-4000-8000-000000000000"


class TestReading:
    async def test_readers_do_not_see_who_changed_a_post(
        self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient
    ) -> None:
        post = await publish(editor, tags=["wood", "paint"], alt_text="A blue door")
        seen = (await reader.get(f"/api/posts/{post['slug']}")).json()
        assert (seen["task_id"], seen["created_by"], seen["updated_by"]) == (None, None, None)
        assert post["created_by"] == post["updated_by"] == "admin"
        same = {key: value for key, value in post.items() if key not in {"task_id", "created_by", "updated_by"}}
        assert same.items() <= seen.items()
        assert sorted(seen["tags"]) == ["paint", "wood"]
        assert uuid.UUID(seen["id"])
        assert uuid.UUID(seen["author"]["id"])
        assert seen["publish_time"].endswith("Z")
        image = seen["featured_image"]
        assert image["url"] == seen["featured_image_url"]
        assert image["alt_text"] == "A blue door"
        assert (image["width"], image["height"]) == (256, 256)

    async def test_a_post_is_found_by_id_and_slug(self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient) -> None:
        post = await publish(editor)
        for name in (post["id"], post["id"].upper(), post["slug"]):
            assert (await reader.get(f"/api/posts/{name}")).json()["id"] == post["id"]

    async def test_a_current_etag_is_304(self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient) -> None:
        post = await publish(editor)
        path = f"/api/posts/{post['slug']}"
        etag = (await reader.get(path)).headers["etag"]
        assert etag.removeprefix("W/") == post["etag"]  # weak, because the client takes gzip
        response = await reader.get(path, headers={"if-none-match": f'"x", {etag}'})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", etag)
        assert (await reader.get(path, headers={"if-none-match": '"x"'})).status_code == 200

    async def test_responses_for_editors_are_not_cached(
        self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient
    ) -> None:
        for path in ("/api/posts", f"/api/posts/{(await publish(editor))['slug']}"):
            public, private = (await reader.get(path)).headers, (await editor.get(path)).headers
            assert "public" in public["cache-control"]
            assert private["cache-control"] == "private, no-store"
            assert "authorization" in public["vary"]

    @pytest.mark.parametrize("name", [UNKNOWN, "no-such-post", "No Such Post", "%2e%2e", "%00", "x" * 150, "é"])
    async def test_an_unknown_post_is_404(
        self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient, name: str
    ) -> None:
        for client in (editor, reader):
            response = await client.get(f"/api/posts/{name}")
            assert_problem(response, 404, "POST_NOT_FOUND")

    async def test_only_editors_see_drafts(self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient) -> None:
        post = await publish(editor, publish=False)
        assert post["state"] == "draft"
        assert post["publish_time"] is None
        assert_problem(await reader.get(f"/api/posts/{post['slug']}"), 404)
        assert_problem(await reader.get(f"/api/posts/{post['id']}"), 404)
        assert (await reader.get(f"/posts/{post['slug']}")).status_code == 404
        assert (await editor.get(f"/api/posts/{post['slug']}")).json()["state"] == "draft"

        async def slugs(client: httpx2.AsyncClient, query: str) -> list[str]:
            found = (await client.get(f"/api/posts?page_size=100{query}")).json()["posts"]
            return [one["slug"] for one in found]

        assert post["slug"] not in await slugs(reader, "")
        assert post["slug"] not in await slugs(editor, "")
        assert post["slug"] in await slugs(editor, "&state=draft")
        assert post["slug"] in await slugs(editor, "&state=any")


class TestLists:
    async def test_each_filter_selects_its_posts(self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient) -> None:
        word = f"w{uuid.uuid4().hex[:12]}"
        author = (await editor.post("/api/authors", json={"name": f"Author {word}"})).json()
        category = (await editor.post("/api/categories", json={"name": f"Shelf {word}"})).json()
        await publish(editor)
        post = await publish(
            editor, title=f"The {word} door", tags=[word], author_id=author["id"], category_id=category["id"]
        )
        for query in (
            {"tag": word},
            {"q": f"door {word}"},
            {"author": author["slug"]},
            {"author": author["id"]},
            {"category": category["slug"]},
            {"category": category["id"]},
            {"tag": word, "q": word, "author": author["slug"], "category": category["slug"], "page_size": "1"},
        ):
            found = (await reader.get("/api/posts", params=query)).json()
            assert [one["id"] for one in found["posts"]] == [post["id"]], query
            assert word in (await reader.get("/", params={k: v for k, v in query.items() if k != "page_size"})).text
        assert word in [tag["name"] for tag in (await reader.get("/api/tags")).json()["tags"]]
        assert author in (await reader.get("/api/authors")).json()["authors"]
        assert category in (await reader.get("/api/categories")).json()["categories"]

    async def test_a_filter_without_matches_is_an_empty_page(self, reader: httpx2.AsyncClient) -> None:
        for query in ({"tag": "no-such-tag"}, {"q": "%_\\'\";--"}, {"author": "nobody"}, {"category": UNKNOWN}):
            response = await reader.get("/api/posts", params=query)
            assert response.json() == {"posts": [], "next_page_token": ""}
            assert (await reader.get("/", params=query)).status_code == 200

    async def test_pages_join_without_gaps_or_repeats(
        self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient
    ) -> None:
        tag = f"t{uuid.uuid4().hex[:12]}"
        made = [(await publish(editor, tags=[tag]))["id"] for _ in range(5)]
        for size in (1, 2, 5, 6):
            seen: list[str] = []
            token = ""
            while True:
                query: dict[str, Any] = {"tag": tag, "page_size": size, "page_token": token}
                page = (await reader.get("/api/posts", params=query)).json()
                seen += [one["id"] for one in page["posts"]]
                token = page["next_page_token"]
                if not token:
                    break
            assert seen == made[::-1]


class TestTasks:
    async def test_tasks_are_listed_by_state_and_page(self, editor: httpx2.AsyncClient) -> None:
        post = await publish(editor)
        page = (await editor.get("/api/tasks?state=approved&page_size=100")).json()
        assert post["task_id"] in [task["id"] for task in page["tasks"]]
        assert {task["state"] for task in page["tasks"]} == {"approved"}
        first = (await editor.get("/api/tasks?page_size=1")).json()
        second = (
            await editor.get("/api/tasks", params={"page_size": 1, "page_token": first["next_page_token"]})
        ).json()
        assert first["tasks"][0]["create_time"] >= second["tasks"][0]["create_time"]
        assert first["tasks"][0]["id"] != second["tasks"][0]["id"]
