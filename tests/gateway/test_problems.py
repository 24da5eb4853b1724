"""Errors as problem documents, the table of status codes, and the OpenAPI document."""

from typing import Any

import grpc
import httpx2
import pytest

from gateway.errors import HTTP_STATUS, from_rpc, rest_name
from rpc import errors
from rpc.errors import FieldViolation, RpcError
from tests.gateway.conftest import assert_problem
from tests.gateway.scripted import TASK_ID, Scripted, capabilities, scripted
from tests.gateway.streams import until

SECRET = "postgres://user:password@10.1.2.3/db"


class TestTable:
    def test_every_grpc_code_has_an_http_status(self) -> None:
        assert set(HTTP_STATUS) == set(grpc.StatusCode) - {grpc.StatusCode.OK}

    @pytest.mark.parametrize("cls", RpcError.__subclasses__(), ids=lambda cls: cls.__name__)
    async def test_every_code_is_a_problem(self, front: Scripted, cls: type[RpcError]) -> None:
        def refuse(request: Any) -> None:
            raise cls("no", reason="BECAUSE")

        front.scripts.on("GetTask", refuse)
        response = await front.client.get(f"/api/tasks/{TASK_ID}")
        assert_problem(response, HTTP_STATUS[cls.code], "BECAUSE")
        assert ("retry-after" in response.headers) == (response.status_code in (429, 503))

    def test_some_reasons_have_a_status_of_their_own(self) -> None:
        assert from_rpc(errors.AlreadyExists("x")).status == 409
        assert from_rpc(errors.AlreadyExists("x", reason="IDEMPOTENCY_MISMATCH")).status == 422
        assert from_rpc(errors.FailedPrecondition("x")).status == 409
        violation = FieldViolation("author_id", "there is no such author")
        assert from_rpc(errors.FailedPrecondition("x", violations=[violation])).status == 422

    def test_fields_of_messages_get_their_rest_names(self) -> None:
        assert rest_name("parameters.prompt") == "prompt"
        assert rest_name("query") == "q"
        assert rest_name("tags[2]") == "tags[2]"

    async def test_the_violations_of_a_service_are_returned(self, front: Scripted) -> None:
        def refuse(request: Any) -> None:
            raise errors.InvalidArgument.field("parameters.width", "this model paints at most 1024 pixels wide")

        front.scripts.on("CreateTask", refuse)
        document = assert_problem(await front.client.post("/api/tasks", json={"prompt": "x"}), 422)
        assert document["errors"] == [{"field": "width", "message": "this model paints at most 1024 pixels wide"}]


class TestSecrecy:
    async def test_an_exception_in_a_service_is_not_revealed(self, front: Scripted) -> None:
        def fail(request: Any) -> None:
            raise RuntimeError(SECRET)

        front.scripts.on("GetTask", fail)
        document = assert_problem(await front.client.get(f"/api/tasks/{TASK_ID}"), 500, "INTERNAL")
        assert SECRET not in str(document)
        assert "reference" in document["detail"]

    async def test_an_exception_in_the_gateway_is_logged_and_not_revealed(
        self, front: Scripted, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(_: object) -> None:
            raise RuntimeError(SECRET)

        monkeypatch.setattr("gateway.routes.operations.Capabilities.from_messages", fail)
        front.scripts.on("GetCapabilities", lambda _: capabilities())
        document = assert_problem(await front.client.get("/api/capabilities"), 500, "INTERNAL")
        assert SECRET not in str(document)
        assert document["reference"] in document["detail"]
        logged = [record for record in caplog.records if getattr(record, "reference", "") == document["reference"]]
        assert len(logged) == 1

    async def test_addresses_of_services_are_not_revealed(self) -> None:
        async with scripted(posts_target="127.0.0.1:1", request_seconds=2) as front:
            document = assert_problem(await front.client.get("/api/posts"), 503, "UNAVAILABLE")
            assert "127.0.0.1" not in str(document)


class TestAddresses:
    @pytest.mark.parametrize(
        "path", ["/nothing", "/api", "/api/nothing", "/api/posts/a/b/c", "/v1/nothing", "/static/no"]
    )
    async def test_an_unknown_path_is_404(self, reader: httpx2.AsyncClient, path: str) -> None:
        assert_problem(await reader.get(path), 404, "NOT_FOUND")

    async def test_an_unsupported_method_is_405(self, editor: httpx2.AsyncClient) -> None:
        for method, path in (
            ("PUT", "/api/tasks"),
            ("DELETE", "/api/tasks"),
            ("GET", "/api/media/generate-image"),
            ("POST", "/"),
            ("POST", "/healthz"),
            ("POST", f"/api/tasks/{TASK_ID}/events"),
            ("TRACE", "/api/posts"),
        ):
            response = await editor.request(method, path)
            assert_problem(response, 405, "METHOD_NOT_ALLOWED")

    async def test_a_browser_gets_errors_as_pages(self, reader: httpx2.AsyncClient) -> None:
        for path in ("/nothing", "/posts/nothing"):
            response = await reader.get(path, headers={"accept": "text/html,*/*"})
            assert response.status_code == 404
            assert response.headers["content-type"].startswith("text/html")
            assert response.headers["x-request-id"] in response.text
        response = await reader.get("/api/nothing", headers={"accept": "text/html"})
        assert_problem(response, 404)

    async def test_a_page_without_its_service_is_503(self) -> None:
        async with scripted(posts_target="127.0.0.1:1", request_seconds=2) as front:
            for path in ("/", "/posts/a-door"):
                response = await front.client.get(path)
                assert response.status_code == 503
                assert response.headers["content-type"].startswith("text/html")
                assert response.headers["retry-after"]
                assert response.headers["cache-control"] == "no-store"


class TestMetrics:
    async def test_metrics_count_by_route_and_not_by_path(self, front: Scripted) -> None:
        def refuse(request: Any) -> None:
            raise errors.NotFound("no")

        front.scripts.on("GetPost", refuse)
        for number in range(3):
            await front.client.get(f"/api/posts/post-{number}")
        await front.client.get("/nothing")
        await front.client.get("/static/base.css")
        # A request is counted when its handler has ended, which for a file is a moment after its last byte.
        static = 'route="/static",status="200"'
        await until(lambda: static in front.context.metrics.exposition().decode())
        text = (await front.client.get("/metrics")).text
        assert 'gateway_requests_total{method="GET",route="/api/posts/{post}",status="404"} 3.0' in text
        assert 'gateway_requests_total{method="GET",route="unmatched",status="404"} 1.0' in text
        assert 'gateway_request_seconds_count{method="GET",route="/api/posts/{post}"} 3.0' in text
        assert "post-1" not in text
        await until(lambda: "gateway_requests_in_flight 0.0" in front.context.metrics.exposition().decode())
