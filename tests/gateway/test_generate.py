"""generate-image: waiting, not waiting, failures, idempotency."""

import asyncio
import time
import uuid
from typing import Any

import httpx2
import pytest
from frontispiece.posts.v1 import tasks_pb2

from gateway.routes.generate import preference
from rpc import errors
from tests.gateway.conftest import SMALL, assert_mismatch, assert_problem, paint
from tests.gateway.scripted import TASK_ID, Scripted, event, scripted, task, task_image
from tests.gateway.streams import forever, until

PATH = "/api/media/generate-image"
BODY = {"prompt": "a door"}
LONG = {**SMALL, "num_inference_steps": 80, "candidate_count": 4}
DONE = tasks_pb2.TASK_STATE_AWAITING_APPROVAL


class TestWaiting:
    async def test_the_response_contains_the_image(self, editor: httpx2.AsyncClient) -> None:
        body = await paint(editor, seed=5, candidate_count=2, num_inference_steps=7)
        assert body["state"] == "awaiting_approval"
        assert (body["width"], body["height"], body["seed"]) == (256, 256, 5)
        assert body["image_source"] == "sdxl-local"
        assert [(image["seed"], image["num_inference_steps"]) for image in body["images"]] == [(5, 7), (6, 7)]
        assert body["image_url"] == body["images"][0]["url"]
        assert body["queue_position"] is None
        read = (await editor.get(f"/api/tasks/{body['task_id']}")).json()
        assert read["images"] == body["images"]

    async def test_a_size_that_the_model_does_not_support_is_422(self, editor: httpx2.AsyncClient) -> None:
        response = await editor.post(PATH, json={**SMALL, "width": 512})
        assert response.status_code == 422
        assert response.json()["detail"] == "width: must be 256, the only value of this model; is 512"

    @pytest.mark.parametrize("prefer", ["respond-async", "RESPOND-ASYNC", "wait=0", "foo, respond-async; bar, wait=0"])
    async def test_respond_async_returns_202_at_once(self, editor: httpx2.AsyncClient, prefer: str) -> None:
        response = await editor.post(PATH, json=LONG, headers={"prefer": prefer})
        assert response.status_code == 202
        body = response.json()
        assert response.headers["location"] == f"/api/tasks/{body['task_id']}"
        assert response.headers["preference-applied"] in {"respond-async", "wait=0"}
        assert response.headers["retry-after"]
        assert (body["image_url"], body["images"]) == (None, [])
        assert (await editor.get(response.headers["location"])).status_code == 200
        assert (await editor.post(f"/api/tasks/{body['task_id']}/cancel")).status_code == 200

    async def test_the_wait_ends_with_202(self, editor: httpx2.AsyncClient) -> None:
        began = time.monotonic()
        response = await editor.post(PATH, json=LONG, headers={"prefer": "wait=1"})
        assert response.status_code == 202
        assert 1 <= time.monotonic() - began < 20
        await editor.post(f"/api/tasks/{response.json()['task_id']}/cancel")

    async def test_the_task_continues_after_a_disconnect(self, editor: httpx2.AsyncClient) -> None:
        task_id = str(uuid.uuid4())
        body = {**SMALL, "num_inference_steps": 40, "task_id": task_id}
        with pytest.raises(httpx2.ReadTimeout):
            await editor.post(PATH, json=body, timeout=httpx2.Timeout(10, read=0.2))
        await until_state(editor, task_id, "awaiting_approval")

    def test_the_prefer_header_sets_the_wait(self) -> None:
        assert preference("", 55) == (55, "")
        assert preference("wait=10", 55) == (10, "wait=10")
        assert preference("wait=100", 55) == (55, "wait=100")
        assert preference('wait="7"', 55)[0] == 7
        assert preference("respond-async, wait=5", 55) == (5, "wait=5")  # RFC 7240 4.3: asynchronously after 5 s
        assert preference("respond-async", 55) == (0, "respond-async")
        assert preference("return=minimal", 55) == (55, "")
        assert preference("wait=-1, wait=x", 55) == (55, "")


async def until_state(editor: httpx2.AsyncClient, task_id: str, state: str) -> None:
    """Follow a task to its end, and see which it is."""
    async with editor.stream("GET", f"/api/tasks/{task_id}/events") as response:
        assert response.status_code == 200
        await response.aread()
    assert (await editor.get(f"/api/tasks/{task_id}")).json()["state"] == state


class TestOnce:
    async def test_the_same_key_and_body_create_one_task(self, editor: httpx2.AsyncClient) -> None:
        headers = {"idempotency-key": str(uuid.uuid4()), "prefer": "respond-async"}
        answers = await asyncio.gather(*(editor.post(PATH, json=SMALL, headers=headers) for _ in range(50)))
        assert {answer.status_code for answer in answers} <= {200, 202}
        assert len({answer.json()["task_id"] for answer in answers}) == 1

    async def test_the_same_key_with_another_body_is_refused(self, editor: httpx2.AsyncClient) -> None:
        headers = {"idempotency-key": "k" * 255, "prefer": "respond-async"}
        first = await editor.post(PATH, json=SMALL, headers=headers)
        assert first.is_success
        other = await editor.post(PATH, json={**SMALL, "seed": 9}, headers=headers)
        assert_mismatch(assert_problem(other, 422, "IDEMPOTENCY_MISMATCH"))
        assert (await editor.post(PATH, json=SMALL, headers=headers)).json()["task_id"] == first.json()["task_id"]

    async def test_the_same_task_id_creates_one_task(self, editor: httpx2.AsyncClient) -> None:
        body = {**SMALL, "task_id": str(uuid.uuid4()).upper()}
        answers = [await editor.post("/api/tasks", json=body) for _ in range(2)]
        assert [answer.json()["id"] for answer in answers] == [body["task_id"].lower()] * 2
        response = await editor.post("/api/tasks", json={**body, "seed": 9})
        document = assert_problem(response, 422, "IDEMPOTENCY_MISMATCH")
        assert [error["field"] for error in document["errors"]] == ["task_id"]

    @pytest.mark.parametrize("key", ["", "k" * 256, "two words", "é"])
    async def test_an_invalid_idempotency_key_is_refused(self, editor: httpx2.AsyncClient, key: str) -> None:
        response = await editor.post(PATH, json=SMALL, headers={"idempotency-key": key.encode()})
        document = assert_problem(response, 422, "INVALID_ARGUMENT")
        assert [error["field"].lower() for error in document["errors"]] == ["idempotency-key"]

    async def test_a_retry_after_a_lost_response_has_the_same_request_id(self, front: Scripted) -> None:
        """The gateway's own retries carry the same request id."""
        attempts = iter([errors.Unavailable("answer lost"), None])

        def create(request: Any) -> Any:
            if error := next(attempts):
                raise error
            return tasks_pb2.CreateTaskResponse(task=task())

        front.scripts.on("CreateTask", create)
        assert (await front.client.post("/api/tasks", json=BODY)).status_code == 201
        sent = [request.request_id for request in front.scripts.sent("CreateTask")]
        assert len(sent) == 2
        assert sent[0] == sent[1] != ""

    async def test_a_decision_is_retried_with_the_same_request_id(self, front: Scripted) -> None:
        def refuse(request: Any) -> None:
            raise errors.Unavailable("answer lost")

        for method, path, body in (
            ("ApproveTask", f"/api/tasks/{TASK_ID}/approve", {"title": "A door"}),
            ("RejectTask", f"/api/tasks/{TASK_ID}/reject", {}),
            ("RetryTask", f"/api/tasks/{TASK_ID}/retry", None),
        ):
            front.scripts.on(method, refuse)
            assert_problem(await front.client.post(path, json=body), 503, "UNAVAILABLE")
            sent = [request.request_id for request in front.scripts.sent(method)]
            assert len(sent) > 1
            assert len(set(sent)) == 1
            assert sent[0]
            await front.client.post(path, json=body, headers={"idempotency-key": "mine"})
            assert front.scripts.sent(method)[-1].request_id == "mine"

    async def test_a_method_that_is_not_idempotent_is_not_retried(self, front: Scripted) -> None:
        def refuse(request: Any) -> None:
            raise errors.Unavailable("answer lost")

        front.scripts.on("CreateAuthor", refuse)
        response = await front.client.post("/api/authors", json={"name": "A. Name"})
        assert_problem(response, 503, "UNAVAILABLE")
        assert response.headers["retry-after"]
        assert len(front.scripts.sent("CreateAuthor")) == 1


class TestFailing:
    @pytest.mark.parametrize(
        ("reason", "status"),
        [
            ("INVALID_ARGUMENT", 422),
            ("STOCK_NOT_FOUND", 422),
            ("GENERATOR_UNAVAILABLE", 502),
            ("IMAGE_INVALID", 502),
            ("INTERNAL", 502),
        ],
    )
    async def test_a_failed_task_is_a_problem_with_its_reason(self, front: Scripted, reason: str, status: int) -> None:
        error = tasks_pb2.TaskError(reason=reason, message="the paint ran out")
        failed = task(tasks_pb2.TASK_STATE_FAILED, last_sequence=2, error=error)
        front.scripts.on("CreateTask", lambda _: tasks_pb2.CreateTaskResponse(task=failed))
        document = assert_problem(await front.client.post(PATH, json=BODY), status, reason)
        assert document["detail"] == "the paint ran out"
        assert document["task_id"] == TASK_ID
        assert document["state"] == "failed"

    async def test_the_fields_in_the_reason_of_a_failed_task_are_named(self, front: Scripted) -> None:
        message = "parameters.width: must be at most 512; it is 1024; parameters.loras[0].name: must be one of ink, oil"
        error = tasks_pb2.TaskError(reason="INVALID_ARGUMENT", message=message)
        failed = task(tasks_pb2.TASK_STATE_FAILED, last_sequence=2, error=error)
        front.scripts.on("CreateTask", lambda _: tasks_pb2.CreateTaskResponse(task=failed))
        document = assert_problem(await front.client.post(PATH, json=BODY), 422, "INVALID_ARGUMENT")
        assert document["errors"] == [
            {"field": "width", "message": "must be at most 512; it is 1024"},
            {"field": "loras[0].name", "message": "must be one of ink, oil"},
        ]
        assert document["detail"] == message.replace("parameters.", "")

    async def test_a_stock_photo_without_an_api_key_is_422(self, editor: httpx2.AsyncClient) -> None:
        response = await editor.post(PATH, json={"prompt": "a door", "use_generation": False})
        document = assert_problem(response, 422, "STOCK_NOT_CONFIGURED")
        assert "PEXELS_API_KEY" in document["detail"]
        assert "task_id" not in document  # refused before a task is created

    async def test_a_cancelled_task_is_409(self, front: Scripted) -> None:
        front.scripts.on("CreateTask", lambda _: tasks_pb2.CreateTaskResponse(task=task()))

        async def watch(request: Any) -> Any:
            yield event(2, tasks_pb2.TASK_STATE_CANCELLED, terminal=True)

        front.scripts.on("WatchTask", watch)
        assert_problem(await front.client.post(PATH, json=BODY), 409, "TASK_CANCELLED")

    async def test_the_wait_survives_a_failed_call_and_reads_the_task_from_its_events(self, front: Scripted) -> None:
        front.scripts.on("CreateTask", lambda _: tasks_pb2.CreateTaskResponse(task=task()))

        async def watch(request: Any) -> Any:
            if request.after_sequence == 1:
                yield event(2, tasks_pb2.TASK_STATE_GENERATING)
                raise errors.Unavailable("restarting")
            yield event(3, image=task_image())
            yield event(4, DONE, terminal=True)

        front.scripts.on("WatchTask", watch)
        response = await front.client.post(PATH, json=BODY)
        assert (response.status_code, response.json()["image_url"]) == (200, "http://x/media/generated/1-x.png")
        assert [request.after_sequence for request in front.scripts.sent("WatchTask")] == [1, 2]
        assert front.scripts.sent("GetTask") == []  # the events have said all

    async def test_a_full_queue_is_429_with_retry_after(self, front: Scripted) -> None:
        def refuse(request: Any) -> None:
            raise errors.ResourceExhausted("the queue is full", reason="QUEUE_FULL", retry_after_seconds=6.2)

        front.scripts.on("CreateTask", refuse)
        response = await front.client.post(PATH, json=BODY)
        assert_problem(response, 429, "QUEUE_FULL")
        assert response.headers["retry-after"] == "7"

    async def test_shutdown_ends_the_wait_with_202(self) -> None:
        async with scripted() as front:
            front.scripts.on("CreateTask", lambda _: tasks_pb2.CreateTaskResponse(task=task()))
            front.scripts.on("GetTask", lambda _: tasks_pb2.GetTaskResponse(task=task()))

            async def watch(request: Any) -> Any:
                yield event(1, tasks_pb2.TASK_STATE_QUEUED)
                await asyncio.Event().wait()

            front.scripts.on("WatchTask", watch)
            waiting = asyncio.create_task(front.client.post(PATH, json=BODY))
            await until(lambda: front.scripts.sent("WatchTask"))
            front.http.stop()
            response = await asyncio.wait_for(waiting, 5)
            assert response.status_code == 202
            assert response.json()["task_id"] == TASK_ID


async def test_calls_that_wait_above_the_limit_are_429_and_make_no_task() -> None:
    async with scripted(max_event_streams=2) as front:
        forever(front)
        front.scripts.on("CreateTask", lambda _: tasks_pb2.CreateTaskResponse(task=task()))
        waiting = [asyncio.create_task(front.client.post(PATH, json=BODY)) for _ in range(2)]
        await until(lambda: front.context.waiting_calls == 2)
        refused = await front.client.post(PATH, json=BODY)
        assert_problem(refused, 429, "TOO_MANY_WAITING")
        assert len(front.scripts.sent("CreateTask")) == 2
        assert (await front.client.post(PATH, json=BODY, headers={"prefer": "respond-async"})).status_code == 202
        for call in waiting:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
