"""Writing posts over REST: creating, changing, approving, deleting."""

import uuid
from typing import Any

import httpx2
import pytest

from tests.gateway.conftest import assert_mismatch, assert_problem, paint, publish, wrong_fields

UNKNOWN = "00000000-0000-4000-8000-000000000000"


class TestWriting:
    async def test_a_change_leaves_other_fields_unchanged(self, editor: httpx2.AsyncClient) -> None:
        post = await publish(editor)
        response = await editor.patch(f"/api/posts/{post['id']}", json={"title": "Another door", "tags": []})
        assert response.status_code == 200
        changed = response.json()
        assert (changed["title"], changed["tags"]) == ("Another door", [])
        assert changed["content"] == post["content"]
        assert changed["etag"] != post["etag"]
        assert response.headers["etag"] == changed["etag"]
        assert (await editor.patch(f"/api/posts/{post['slug']}", json={"content": ""})).json()["content"] == ""

    async def test_a_change_with_an_old_etag_is_412(self, editor: httpx2.AsyncClient) -> None:
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
            ({"slug": "A x"}, "slug"),
            ({"author_id": "x"}, "author_id"),
            ({"state": "published"}, "state"),
            ({"id": UNKNOWN}, "id"),
            ({"featured_image_key": "../../etc/passwd\0"}, "featured_image_key"),
        ],
    )
    async def test_an_invalid_change_is_refused_with_its_field(
        self, editor: httpx2.AsyncClient, body: dict[str, Any], name: str
    ) -> None:
        response = await editor.patch(f"/api/posts/{UNKNOWN}", json=body)
        assert wrong_fields(assert_problem(response, 422)) == {name}

    async def test_a_post_is_created_published_unpublished_and_deleted(
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

    async def test_unknown_references_are_refused(self, editor: httpx2.AsyncClient) -> None:
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

    async def test_writes_to_unknown_ids_are_404(self, editor: httpx2.AsyncClient) -> None:
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

    async def test_a_slug_can_be_used_once(self, editor: httpx2.AsyncClient) -> None:
        slug = f"s-{uuid.uuid4().hex[:10]}"
        for path in ("/api/authors", "/api/categories"):
            assert (await editor.post(path, json={"name": "A. Name", "slug": slug})).status_code == 201
            assert_problem(await editor.post(path, json={"name": "B. Name", "slug": slug}), 409)
            for body in ({}, {"name": ""}, {"name": "n" * 101}, {"name": "x", "id": UNKNOWN}):
                assert_problem(await editor.post(path, json=body), 422)
