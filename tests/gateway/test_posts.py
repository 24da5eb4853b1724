"""Posts over REST: reading, writing, versions, filters, pages."""

import uuid
from typing import Any

import httpx2
import pytest

from tests.gateway.conftest import assert_mismatch, assert_problem, paint, publish, wrong_fields

UNKNOWN = "00000000-0000-4000-8000-000000000000"


class TestReading:
    async def test_the_public_sees_the_post_but_not_who_handled_it(
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

    async def test_by_id_too(self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient) -> None:
        post = await publish(editor)
        for name in (post["id"], post["id"].upper(), post["slug"]):
            assert (await reader.get(f"/api/posts/{name}")).json()["id"] == post["id"]

    async def test_a_reader_who_has_it_gets_nothing_again(
        self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient
    ) -> None:
        post = await publish(editor)
        path = f"/api/posts/{post['slug']}"
        etag = (await reader.get(path)).headers["etag"]
        response = await reader.get(path, headers={"if-none-match": f'"x", W/{etag}'})
        assert (response.status_code, response.content, response.headers["etag"]) == (304, b"", etag)
        assert (await reader.get(path, headers={"if-none-match": '"x"'})).status_code == 200

    async def test_caches_keep_editors_and_readers_apart(
        self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient
    ) -> None:
        for path in ("/api/posts", f"/api/posts/{(await publish(editor))['slug']}"):
            public, private = (await reader.get(path)).headers, (await editor.get(path)).headers
            assert "public" in public["cache-control"]
            assert private["cache-control"] == "private, no-store"
            assert "authorization" in public["vary"]

    @pytest.mark.parametrize("name", [UNKNOWN, "no-such-post", "No Such Post", "%2e%2e", "%00", "x" * 150, "é"])
    async def test_what_is_not_there(self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient, name: str) -> None:
        for client in (editor, reader):
            response = await client.get(f"/api/posts/{name}")
            assert_problem(response, 404, "POST_NOT_FOUND")

    async def test_drafts_are_for_editors(self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient) -> None:
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
    async def test_each_filter_narrows(self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient) -> None:
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

    async def test_nothing_matches(self, reader: httpx2.AsyncClient) -> None:
        for query in ({"tag": "no-such-tag"}, {"q": "%_\\'\";--"}, {"author": "nobody"}, {"category": UNKNOWN}):
            response = await reader.get("/api/posts", params=query)
            assert response.json() == {"posts": [], "next_page_token": ""}
            assert (await reader.get("/", params=query)).status_code == 200

    async def test_pages_join_up(self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient) -> None:
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


class TestWriting:
    async def test_a_change_changes_what_it_names(self, editor: httpx2.AsyncClient) -> None:
        post = await publish(editor)
        response = await editor.patch(f"/api/posts/{post['id']}", json={"title": "Another door", "tags": []})
        assert response.status_code == 200
        changed = response.json()
        assert (changed["title"], changed["tags"]) == ("Another door", [])
        assert changed["content"] == post["content"]
        assert changed["etag"] != post["etag"]
        assert response.headers["etag"] == changed["etag"]
        assert (await editor.patch(f"/api/posts/{post['slug']}", json={"content": ""})).json()["content"] == ""

    async def test_of_two_editors_the_second_is_told(self, editor: httpx2.AsyncClient) -> None:
        post = await publish(editor)
        path, seen = f"/api/posts/{post['id']}", {"if-match": post["etag"]}
        assert (await editor.patch(path, json={"title": "First"}, headers=seen)).status_code == 200
        assert_problem(await editor.patch(path, json={"title": "Second"}, headers=seen), 412, "ETAG_MISMATCH")
        assert (await editor.get(path)).json()["title"] == "First"
        assert (await editor.patch(path, json={"title": "Third"}, headers={"if-match": "*"})).status_code == 200

    @pytest.mark.parametrize(
        ("body", "name"),
        [
            ({}, ""),
            ({"title": ""}, "title"),
            ({"title": None}, "title"),
            ({"title": "t" * 201}, "title"),
            ({"content": "c" * 100_001}, "content"),
            ({"tags": None}, "tags"),
            ({"tags": ["x"] * 9}, "tags"),
            ({"slug": "-x"}, "slug"),
            ({"author_id": "x"}, "author_id"),
            ({"state": "published"}, "state"),
            ({"id": UNKNOWN}, "id"),
            ({"featured_image_key": "../../etc/passwd\0"}, "featured_image_key"),
        ],
    )
    async def test_a_wrong_change_names_its_field(
        self, editor: httpx2.AsyncClient, body: dict[str, Any], name: str
    ) -> None:
        response = await editor.patch(f"/api/posts/{UNKNOWN}", json=body)
        assert wrong_fields(assert_problem(response, 422)) == {name}

    async def test_made_published_taken_back_and_deleted(
        self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient
    ) -> None:
        other = await publish(editor)
        body = {
            "title": "A second look",
            "featured_image_key": other["featured_image"]["key"],
            "author_id": other["author"]["id"],
            "category_id": other["category"]["id"],
            "slug": f"look-{uuid.uuid4().hex[:8]}",
        }
        key = {"idempotency-key": str(uuid.uuid4())}
        response = await editor.post("/api/posts", json=body, headers=key)
        assert response.status_code == 201, response.text
        post = response.json()
        path = response.headers["location"]
        assert path == f"/api/posts/{body['slug']}"
        assert post["state"] == "draft"
        assert (await editor.post("/api/posts", json=body, headers=key)).json()["id"] == post["id"]
        assert_problem(await editor.post("/api/posts", json=body), 409)  # the slug is taken
        assert (await editor.post(f"{path}/publish")).json()["state"] == "published"
        assert (await reader.get(path)).status_code == 200
        assert (await editor.post(f"{path}/unpublish")).json()["state"] == "draft"
        assert (await reader.get(path)).status_code == 404
        response = await editor.delete(path)
        assert (response.status_code, response.content) == (204, b"")
        assert_problem(await editor.get(path), 404)
        assert_problem(await editor.delete(path), 404)
        assert (await reader.get(f"/api/posts/{other['slug']}")).status_code == 200

    async def test_an_approval_is_repeated_with_its_key(self, editor: httpx2.AsyncClient) -> None:
        task_id = (await paint(editor))["task_id"]
        path, key = f"/api/tasks/{task_id}/approve", {"idempotency-key": str(uuid.uuid4())}
        body = {"title": f"Once {uuid.uuid4().hex[:8]}", "tags": ["b", "a"]}
        first = await editor.post(path, json=body, headers=key)
        assert first.status_code == 200, first.text
        assert (await editor.post(path, json=body, headers=key)).json() == first.json()
        response = await editor.post(path, json={**body, "tags": []}, headers=key)
        assert_mismatch(assert_problem(response, 422, "IDEMPOTENCY_MISMATCH"))
        for headers in ({}, {"idempotency-key": str(uuid.uuid4())}):
            assert_problem(await editor.post(path, json=body, headers=headers), 409, "ALREADY_DECIDED")

    async def test_what_is_referred_to_must_be_there(self, editor: httpx2.AsyncClient) -> None:
        other = await publish(editor)
        good = {
            "title": "A second look",
            "featured_image_key": other["featured_image"]["key"],
            "author_id": other["author"]["id"],
            "category_id": other["category"]["id"],
        }
        for name, value in (
            ("author_id", UNKNOWN),
            ("category_id", UNKNOWN),
            ("featured_image_key", "generated/no.png"),
        ):
            response = await editor.post("/api/posts", json={**good, name: value})
            assert response.status_code in (409, 422), response.text
            assert_problem(response, response.status_code)

    async def test_unknown_ids_are_never_a_success(self, editor: httpx2.AsyncClient) -> None:
        for name in (UNKNOWN, "no-such-post"):
            for method, path, body in (
                ("PATCH", f"/api/posts/{name}", {"title": "x"}),
                ("DELETE", f"/api/posts/{name}", None),
                ("POST", f"/api/posts/{name}/publish", None),
                ("POST", f"/api/posts/{name}/unpublish", None),
            ):
                assert_problem(await editor.request(method, path, json=body), 404, "POST_NOT_FOUND")
        for name in (UNKNOWN, "no-such-task", "%2e%2e"):
            for verb, body in (("approve", {"title": "x"}), ("reject", {}), ("cancel", None), ("retry", None)):
                assert_problem(await editor.post(f"/api/tasks/{name}/{verb}", json=body), 404, "TASK_NOT_FOUND")
            assert_problem(await editor.get(f"/api/tasks/{name}"), 404)

    async def test_names_are_taken_once(self, editor: httpx2.AsyncClient) -> None:
        slug = f"s-{uuid.uuid4().hex[:10]}"
        for path in ("/api/authors", "/api/categories"):
            assert (await editor.post(path, json={"name": "A. Name", "slug": slug})).status_code == 201
            assert_problem(await editor.post(path, json={"name": "B. Name", "slug": slug}), 409)
            for body in ({}, {"name": ""}, {"name": "n" * 101}, {"name": "x", "id": UNKNOWN}):
                assert_problem(await editor.post(path, json=body), 422)


class TestTasks:
    async def test_lists_by_state_and_page(self, editor: httpx2.AsyncClient) -> None:
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
