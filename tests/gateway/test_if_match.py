"""If-Match on every write: what another caller has changed meanwhile is not changed."""

import uuid
from typing import Any

import httpx2
import pytest

from tests.gateway.conftest import assert_problem, paint, publish

OLD = '"0"'


def writes(post: dict[str, Any], task_id: str) -> list[tuple[str, str, dict[str, Any] | None]]:
    """Every write that honours If-Match, with a body that would be accepted."""
    path = f"/api/posts/{post['id']}"
    return [
        ("PATCH", path, {"title": "Another title"}),
        ("POST", f"{path}/unpublish", None),
        ("POST", f"{path}/publish", None),
        ("DELETE", path, None),
        ("POST", f"/api/tasks/{task_id}/approve", {"title": f"Once {uuid.uuid4().hex[:8]}"}),
        ("POST", f"/api/tasks/{task_id}/reject", {}),
        ("POST", f"/api/tasks/{task_id}/cancel", None),
        ("POST", f"/api/tasks/{task_id}/retry", None),
    ]


async def test_every_write_with_an_old_etag_is_412_and_says_the_current_one(editor: httpx2.AsyncClient) -> None:
    post, task_id = await publish(editor), (await paint(editor))["task_id"]
    before = [(await editor.get(f"/api/posts/{post['id']}")).json(), (await editor.get(f"/api/tasks/{task_id}")).json()]
    for method, path, body in writes(post, task_id):
        response = await editor.request(method, path, json=body, headers={"if-match": OLD})
        document = assert_problem(response, 412, "ETAG_MISMATCH")
        current = before["/tasks/" in path]["etag"]
        assert document["etag"].strip('"').partition("-")[0] == current.strip('"').partition("-")[0], path
        assert response.headers["etag"] == document["etag"]
    after = [(await editor.get(f"/api/posts/{post['id']}")).json(), (await editor.get(f"/api/tasks/{task_id}")).json()]
    assert after == before


@pytest.mark.parametrize("weak", ["", "W/"], ids=["strong", "weak"])
async def test_a_write_with_the_current_etag_is_done_and_returns_the_next_one(
    editor: httpx2.AsyncClient, weak: str
) -> None:
    post, task_id = await publish(editor), (await paint(editor))["task_id"]
    path, etag = f"/api/posts/{post['id']}", post["etag"]
    for method, address, body in writes(post, task_id)[:3]:
        response = await editor.request(method, address, json=body, headers={"if-match": weak + etag})
        assert response.status_code == 200, response.text
        assert response.headers["etag"] == response.json()["etag"] != etag
        etag = response.headers["etag"]
    assert (await editor.delete(path, headers={"if-match": weak + etag})).status_code == 204
    task = await editor.get(f"/api/tasks/{task_id}", headers={"accept-encoding": "identity"})  # gzip makes it weak
    assert task.headers["etag"] == task.json()["etag"]
    response = await editor.post(f"/api/tasks/{task_id}/reject", headers={"if-match": weak + task.headers["etag"]})
    assert (response.status_code, response.json()["state"]) == (200, "rejected")
    assert response.headers["etag"] == response.json()["etag"] != task.headers["etag"]


async def test_a_star_matches_everything_and_a_list_is_refused(editor: httpx2.AsyncClient) -> None:
    post = await publish(editor)
    path = f"/api/posts/{post['id']}"
    response = await editor.patch(path, json={"title": "A"}, headers={"if-match": f'{post["etag"]}, "9"'})
    assert assert_problem(response, 422)["errors"] == [{"field": "If-Match", "message": "must be one etag"}]
    assert (await editor.patch(path, json={"title": "B"}, headers={"if-match": "*"})).status_code == 200


async def test_a_created_task_and_post_have_their_etag(editor: httpx2.AsyncClient) -> None:
    response = await editor.post("/api/tasks", json={"prompt": "a door", "num_inference_steps": 2})
    assert response.headers["etag"] == response.json()["etag"]
    key = (await publish(editor))["featured_image"]["key"]
    response = await editor.post("/api/posts", json={"title": "A door", "featured_image_key": key})
    assert response.headers["etag"] == response.json()["etag"]


async def test_a_post_without_author_and_category_gets_the_first_ones(editor: httpx2.AsyncClient) -> None:
    other = await publish(editor)
    names = {"title": "A door", "featured_image_key": other["featured_image"]["key"]}
    for more in ({}, {"author_id": None, "category_id": None}):
        response = await editor.post("/api/posts", json={**names, **more})
        assert response.status_code == 201, response.text
        assert [response.json()[name]["id"] for name in ("author", "category")] == [
            other["author"]["id"],  # an approval without them has the first ones too
            other["category"]["id"],
        ]


async def test_a_task_says_which_image_was_approved(editor: httpx2.AsyncClient) -> None:
    task = await paint(editor, candidate_count=2)
    path = f"/api/tasks/{task['task_id']}"
    assert (await editor.get(path)).json()["approved_image_index"] is None
    body = {"title": f"Second {uuid.uuid4().hex[:8]}", "image_index": 1}
    approved = (await editor.post(f"{path}/approve", json=body)).json()
    assert approved["task"]["approved_image_index"] == 1
    assert approved["post"]["featured_image"]["key"] == task["images"][1]["key"]
