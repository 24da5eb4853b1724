"""The one path, as a user walks it: a prompt becomes the picture of a published post."""

import hashlib
import io
import os
import uuid
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.e2e import events

PROMPT = "a lighthouse at dusk"
SMALL = {"use_generation": True, "num_inference_steps": 4}


async def paint(editor: httpx2.AsyncClient, **parameters: Any) -> dict[str, Any]:
    """Make an image and wait for it. Where the wait limit passes (202) ask again with the same key: it is one task."""
    key = {"Idempotency-Key": str(uuid.uuid4())}
    body = {"prompt": PROMPT, **SMALL, **parameters}
    response = await editor.post("/api/media/generate-image", json=body, headers=key)
    for _ in range(4):
        if response.status_code != 202:
            break
        response = await editor.post("/api/media/generate-image", json=body, headers=key)
    assert response.status_code == 200, response.text
    painted: dict[str, Any] = response.json()
    return painted


async def start(editor: httpx2.AsyncClient, **parameters: Any) -> str:
    """Begin a task and do not wait; its id."""
    response = await editor.post(
        "/api/media/generate-image",
        json={"prompt": PROMPT, **SMALL, **parameters},
        headers={"Prefer": "respond-async"},
    )
    assert response.status_code == 202, response.text
    task_id: str = response.json()["task_id"]
    assert response.headers["location"].endswith(f"/api/tasks/{task_id}")
    return task_id


async def approval(editor: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    """A complete approval with the author and category that every database has."""
    author = (await editor.get("/api/authors")).json()["authors"][0]
    category = (await editor.get("/api/categories")).json()["categories"][0]
    return {
        "title": f"A lighthouse {uuid.uuid4().hex[:8]}",
        "content": "It stands where the land ends.",
        "author_id": author["id"],
        "category_id": category["id"],
        "tags": ["sea", "light"],
        **fields,
    }


class TestGenerate:
    async def test_the_generated_image_is_served(self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient) -> None:
        body = await paint(editor, seed=7)
        assert uuid.UUID(body["task_id"])
        assert body["image_source"] in ("sdxl-local", "sdxl-s3")
        assert body["seed"] == 7
        response = await reader.get(body["image_url"], follow_redirects=True)
        assert response.status_code == 200
        assert response.headers["content-type"] == "image/png"
        with Image.open(io.BytesIO(response.content)) as picture:
            picture.load()
            assert picture.size == (body["width"], body["height"])
            assert max(high - low for low, high in picture.convert("RGB").getextrema()) > 0
        assert hashlib.sha256(response.content).hexdigest() == body["images"][0]["sha256"]

    async def test_the_image_shows_what_the_prompt_says(
        self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient
    ) -> None:
        capabilities = (await editor.get("/api/capabilities")).json()
        if "BASE_URL" in os.environ and capabilities["models"][0]["id"] != "house":
            pytest.skip("what another model than the house's paints is not ours to judge")
        body = await paint(editor, prompt="a red apple on a blue background", num_inference_steps=20)
        response = await reader.get(body["image_url"], follow_redirects=True)
        with Image.open(io.BytesIO(response.content)) as picture:
            colours = np.asarray(picture.convert("RGB"), dtype=int)
        corners = colours[[[8], [-9]], [8, -9]]
        assert (corners[..., 2] > corners[..., 0] + 60).all(), corners
        apple = colours[colours.shape[0] * 5 // 8, colours.shape[1] // 2]
        assert apple[0] > apple[2] + 60, apple

    async def test_the_same_seed_gives_the_same_image(self, editor: httpx2.AsyncClient) -> None:
        first, second = await paint(editor, seed=11), await paint(editor, seed=11)
        other = await paint(editor, seed=12)
        hashes = [body["images"][0]["sha256"] for body in (first, second, other)]
        assert hashes[0] == hashes[1] != hashes[2]

    async def test_candidates_have_consecutive_seeds(self, editor: httpx2.AsyncClient) -> None:
        body = await paint(editor, seed=100, candidate_count=3)
        assert [image["seed"] for image in body["images"]] == [100, 101, 102]
        assert len({image["sha256"] for image in body["images"]}) == 3

    async def test_an_idempotency_key_creates_one_task(self, editor: httpx2.AsyncClient) -> None:
        key = {"Idempotency-Key": str(uuid.uuid4())}
        body = {"prompt": PROMPT, **SMALL}
        first = await editor.post("/api/media/generate-image", json=body, headers=key)
        again = await editor.post("/api/media/generate-image", json=body, headers=key)
        assert first.json()["task_id"] == again.json()["task_id"]
        other = await editor.post("/api/media/generate-image", json={**body, "prompt": "a door"}, headers=key)
        assert other.status_code in (409, 422)
        assert other.headers["content-type"].startswith("application/problem+json")


class TestEvents:
    async def test_progress_step_by_step_and_one_terminal_event(self, editor: httpx2.AsyncClient) -> None:
        task_id = await start(editor, num_inference_steps=12)
        seen = await events.collect(editor, task_id)
        steps = [event.data["step"] for event in seen if event.kind == "progress"]
        assert steps
        assert steps == sorted(steps)
        assert all(event.data["total_steps"] == 12 for event in seen if event.kind == "progress")
        assert [event.data["terminal"] for event in seen].count(True) == 1
        assert seen[-1].data["terminal"] is True
        assert seen[-1].kind == "awaiting_approval"
        stored = [event.id for event in seen if event.id is not None]
        assert stored == list(range(1, len(stored) + 1))

    async def test_reconnecting_loses_and_repeats_no_event(self, editor: httpx2.AsyncClient) -> None:
        task_id = await start(editor, num_inference_steps=8)
        whole = [event for event in await events.collect(editor, task_id) if event.id is not None]
        for cut in range(len(whole) + 1):
            head = [
                event
                for event in await events.collect(editor, task_id, stop_after=cut)
                if event.id is not None and event.id <= cut
            ]
            tail = [event for event in await events.collect(editor, task_id, after=cut) if event.id is not None]
            assert [event.id for event in head + tail] == [event.id for event in whole]
            assert [event.kind for event in head + tail] == [event.kind for event in whole]


class TestApprove:
    async def test_the_post_is_public_and_complete(
        self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient
    ) -> None:
        body = await paint(editor)
        wanted = await approval(editor)
        response = await editor.post(f"/api/tasks/{body['task_id']}/approve", json=wanted)
        assert response.status_code in (200, 201), response.text
        slug = response.json()["post"]["slug"]
        post = (await reader.get(f"/api/posts/{slug}")).json()
        assert post["title"] == wanted["title"]
        assert post["featured_image_url"] == body["image_url"]
        assert post["author"]["id"] == wanted["author_id"]
        assert post["category"]["id"] == wanted["category_id"]
        assert sorted(post["tags"]) == ["light", "sea"]
        listed = (await reader.get("/api/posts")).json()
        assert slug in [entry["slug"] for entry in listed["posts"]]
        page = await reader.get("/")
        assert wanted["title"] in page.text
        page = await reader.get(f"/posts/{slug}")
        assert page.status_code == 200
        assert wanted["title"] in page.text

    async def test_a_draft_is_not_public_until_published(
        self, editor: httpx2.AsyncClient, reader: httpx2.AsyncClient
    ) -> None:
        body = await paint(editor)
        wanted = await approval(editor, publish=False)
        response = await editor.post(f"/api/tasks/{body['task_id']}/approve", json=wanted)
        post = response.json()["post"]
        assert (await reader.get(f"/api/posts/{post['slug']}")).status_code == 404
        assert (await editor.post(f"/api/posts/{post['id']}/publish")).status_code == 200
        assert (await reader.get(f"/api/posts/{post['slug']}")).status_code == 200
        assert (await editor.post(f"/api/posts/{post['id']}/unpublish")).status_code == 200
        assert (await reader.get(f"/api/posts/{post['slug']}")).status_code == 404

    async def test_only_the_first_decision_counts(self, editor: httpx2.AsyncClient) -> None:
        body = await paint(editor)
        wanted = await approval(editor)
        first = await editor.post(f"/api/tasks/{body['task_id']}/approve", json=wanted)
        second = await editor.post(f"/api/tasks/{body['task_id']}/approve", json=wanted)
        third = await editor.post(f"/api/tasks/{body['task_id']}/reject", json={})
        assert first.is_success
        assert (second.status_code, third.status_code) == (409, 409)

    async def test_a_rejected_task_has_no_post(self, editor: httpx2.AsyncClient) -> None:
        body = await paint(editor)
        response = await editor.post(f"/api/tasks/{body['task_id']}/reject", json={"comment": "too dark"})
        assert response.status_code == 200
        task = (await editor.get(f"/api/tasks/{body['task_id']}")).json()
        assert task["state"] == "rejected"
        assert task["post_id"] is None


class TestControl:
    async def test_cancel_and_retry(self, editor: httpx2.AsyncClient) -> None:
        task_id = await start(editor, num_inference_steps=80)
        response = await editor.post(f"/api/tasks/{task_id}/cancel")
        assert response.status_code == 200
        seen = await events.collect(editor, task_id)
        assert seen[-1].kind == "cancelled"
        assert (await editor.post(f"/api/tasks/{task_id}/retry")).status_code == 200
        assert (await editor.post(f"/api/tasks/{task_id}/cancel")).status_code == 200

    async def test_stock_photos_need_a_key(self, editor: httpx2.AsyncClient) -> None:
        capabilities = (await editor.get("/api/capabilities")).json()
        if capabilities["stock_available"]:
            pytest.skip("this deployment has a Pexels key: asking would spend its quota")
        response = await editor.post("/api/media/generate-image", json={"prompt": PROMPT, "use_generation": False})
        assert response.status_code >= 400
        assert "PEXELS_API_KEY" in response.text


class TestManners:
    @pytest.mark.parametrize(
        "path",
        [
            "/api/tasks",
            "/api/media/generate-image",
            "/api/posts",
            "/api/authors",
            "/api/categories",
            "/api/tasks/00000000-0000-4000-8000-000000000000/approve",
        ],
    )
    async def test_writes_need_the_token(self, reader: httpx2.AsyncClient, path: str) -> None:
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            response = await reader.post(path, json={}, headers=headers)
            assert response.status_code == 401
            assert "www-authenticate" in response.headers

    async def test_invalid_input_is_refused_with_field_and_limit(self, editor: httpx2.AsyncClient) -> None:
        response = await editor.post(
            "/api/media/generate-image", json={"prompt": "x" * 2001, "use_generation": True, "width": 257}
        )
        assert response.status_code in (400, 422)
        fields = {error["field"]: error["message"] for error in response.json()["errors"]}
        assert "2000" in fields["prompt"].replace(",", "")
        assert "8" in fields["width"]

    async def test_health_readiness_metrics_and_documentation_are_public(self, reader: httpx2.AsyncClient) -> None:
        for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/hub", "/"):
            assert (await reader.get(path)).status_code == 200, path
        assert "/api/media/generate-image" in (await reader.get("/openapi.json")).json()["paths"]
