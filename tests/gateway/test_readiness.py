"""Start and readiness: what the gateway serves while other services are not ready."""

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator

import httpx2
import pytest
from grpc_health.v1 import health_pb2
from playwright.async_api import Browser, expect

from gateway.clients import GENERATOR
from tests.gateway.browsing import MILLISECONDS
from tests.gateway.conftest import assert_problem
from tests.gateway.scripted import TOKEN, Scripted, scripted

NOWHERE = "127.0.0.1:1"


async def load_model(front: Scripted, done: bool) -> None:
    """Set the health that a generator has while it loads its model, and after."""
    statuses = health_pb2.HealthCheckResponse
    status = statuses.SERVING if done else statuses.NOT_SERVING
    await front.leaf.health.set(GENERATOR.full_name, status)


@pytest.fixture
async def alone() -> AsyncIterator[Scripted]:
    """A gateway that reaches no service."""
    targets = {"posts_target": NOWHERE, "storage_target": NOWHERE, "generator_target": NOWHERE}
    async with scripted(request_seconds=2, **targets) as made:
        yield made


class TestReadiness:
    async def test_the_gateway_is_ready_when_all_services_are(self, reader: httpx2.AsyncClient) -> None:
        response = await reader.get("/readyz")
        assert (response.status_code, response.json()) == (200, {"ready": True, "failing": {}, "message": "ready"})

    async def test_an_unreachable_service_is_named(self) -> None:
        async with scripted(storage_target="127.0.0.1:1") as front:
            response = await front.client.get("/readyz")
            assert response.status_code == 503
            assert set(response.json()["failing"]) == {"storage"}
            assert (await front.client.get("/healthz")).status_code == 200

    async def test_a_draining_service_is_not_ready(self, front: Scripted) -> None:
        assert (await front.client.get("/readyz")).status_code == 200
        await front.leaf.set_ready(False)
        while (response := await front.client.get("/readyz")).status_code == 200:
            pass
        assert set(response.json()["failing"]) == {"posts", "storage", "generator"}
        await front.leaf.set_ready(True)
        async with httpx2.AsyncClient(base_url=front.base_url) as client:
            while (await client.get("/readyz")).status_code != 200:
                pass

    async def test_the_model_is_loading_until_the_generator_serves(self, front: Scripted) -> None:
        await load_model(front, False)
        response = await front.client.get("/readyz")
        assert response.status_code == 503
        expected = {"ready": False, "failing": {"generator": "NOT_SERVING"}, "message": "the model is loading"}
        assert response.json() == expected
        await load_model(front, True)
        while (response := await front.client.get("/readyz")).status_code != 200:
            pass
        assert response.json()["message"] == "ready"

    async def test_a_generator_that_does_not_answer_yet_is_loading(self) -> None:
        async with scripted(generator_target=NOWHERE) as front:
            document = (await front.client.get("/readyz")).json()
            assert (document["failing"], document["message"]) == ({"generator": "UNAVAILABLE"}, "the model is loading")

    async def test_a_generator_that_went_away_is_not_loading(self, front: Scripted) -> None:
        assert (await front.client.get("/readyz")).status_code == 200
        await front.leaf.server.stop(None)
        while (response := await front.client.get("/readyz")).status_code == 200:
            pass
        document = response.json()
        assert document["message"] == "posts is not ready; storage is not ready; generator is not ready"

    async def test_the_services_are_asked_once_for_many_readers(self, front: Scripted) -> None:
        asked = 0
        probe = front.context.clients.health["posts"]

        class Counted:
            async def Check(self, *arguments: object, **keywords: object) -> object:
                nonlocal asked
                asked += 1
                return await probe.balanced.Check(*arguments, **keywords)

        front.context.clients.health["posts"] = dataclasses.replace(probe, balanced=Counted())
        began = time.monotonic()
        await asyncio.gather(*(front.client.get("/readyz") for _ in range(50)))
        assert 1 <= asked <= 1 + int(time.monotonic() - began)


class TestStart:
    async def test_pages_are_served_while_no_service_is_reachable(self, alone: Scripted) -> None:
        for path in ("/hub", "/docs", "/healthz", "/openapi.json", "/static/editor.js", "/robots.txt"):
            assert (await alone.client.get(path)).status_code == 200, path

    async def test_the_front_page_reloads_itself_until_posts_are_there(self, alone: Scripted) -> None:
        response = await alone.client.get("/")
        assert response.status_code == 503
        assert f'http-equiv="refresh" content="{response.headers["retry-after"]}"' in response.text

    async def test_calls_fail_with_a_problem_that_says_when_to_retry(self, alone: Scripted) -> None:
        response = await alone.client.get("/api/capabilities")
        assert_problem(response, 503, "UNAVAILABLE")
        assert response.headers["retry-after"]

    async def test_the_editor_page_notices_that_the_model_is_loaded(
        self, editor_page: Scripted, browser: Browser
    ) -> None:
        await load_model(editor_page, False)
        context = await browser.new_context()
        context.set_default_timeout(MILLISECONDS)
        page = await context.new_page()
        await page.goto(f"{editor_page.base_url}/hub#token={TOKEN}")
        await expect(page.locator("#load")).to_have_text("the model is loading")
        await expect(page.get_by_text("The model is loading. New tasks wait in the queue until then.")).to_be_visible()
        await expect(page.get_by_label("Prompt", exact=True)).to_be_editable()
        await load_model(editor_page, True)
        await expect(page.locator("#load")).to_have_text("cuda: free")
        await expect(page.locator("#not-ready")).to_be_hidden()
        await expect(page.locator("#parameters #seed")).to_be_attached()
        await context.close()
