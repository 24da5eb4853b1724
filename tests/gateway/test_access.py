"""Access: the token, its file, other origins, and headers."""

import asyncio
import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from gateway.app import create_app
from gateway.clients import open_clients
from gateway.middleware.access import ANONYMOUS, Authenticator
from gateway.settings import GatewaySettings
from gateway.token_file import TokenFileError, admin_token, hub_link
from rpc import errors
from tests.gateway.conftest import assert_problem
from tests.gateway.scripted import EDITOR, Scripted, scripted
from tests.stack import Stack

ID = "00000000-0000-4000-8000-000000000000"
READS = {"GET", "HEAD", "OPTIONS"}
EDITORS_READ = {"/api/tasks", "/api/tasks/{task_id}", "/api/tasks/{task_id}/events", "/api/capabilities"}
WRONG = [
    None,
    "Bearer",
    "Bearer wrong",
    "Bearer wrong wrong",
    "Basic YWRtaW46YWRtaW4=",
    "Token x",
    "bearer\tx",
    "Bearer \xe9\xff",
]


def routes(of: FastAPI) -> Iterator[tuple[str, str]]:
    """Every method and path of an application, whatever made the route."""
    waiting = list(of.routes)
    while waiting:
        route = waiting.pop()
        inner = getattr(getattr(route, "original_router", None), "routes", None)
        if inner is not None:
            waiting.extend(inner)
            continue
        if isinstance(route, Mount):  # static files, which can only be read
            assert isinstance(route.app, StaticFiles)
            continue
        assert isinstance(route, Route), f"{route} is of a kind that this test does not know"
        for method in route.methods or {"GET", "POST"}:
            yield method, route.path


@pytest.fixture
async def app() -> FastAPI:
    settings = GatewaySettings()
    async with open_clients(settings) as clients:
        return create_app(settings, clients, "x" * 20)


class TestToken:
    async def test_every_write_needs_the_token(self, app: FastAPI, reader: httpx2.AsyncClient) -> None:
        writes = [(method, path) for method, path in routes(app) if method not in READS]
        assert len(writes) > 12
        for method, path in writes:
            address = re.sub(r"{\w+(:path)?}", ID, path)
            for value in WRONG:
                headers = {"authorization": value.encode("latin-1")} if value is not None else {}
                response = await reader.request(method, address, headers=headers, content=b"{")
                assert_problem(response, 401)
                assert response.headers["www-authenticate"].startswith("Bearer")

    async def test_reads_of_editors_need_the_token(self, app: FastAPI, reader: httpx2.AsyncClient) -> None:
        for method, path in routes(app):
            if method != "GET":
                continue
            response = await reader.get(re.sub(r"{\w+(:path)?}", ID, path))
            assert (response.status_code == 401) == (path in EDITORS_READ), path

    async def test_a_wrong_token_is_refused_on_public_reads(self, reader: httpx2.AsyncClient) -> None:
        response = await reader.get("/api/posts", headers={"authorization": "Bearer wrong"})
        assert_problem(response, 401, "INVALID_TOKEN")

    async def test_listing_drafts_needs_the_token(self, reader: httpx2.AsyncClient) -> None:
        for state in ("draft", "any"):
            assert_problem(await reader.get(f"/api/posts?state={state}"), 401)

    async def test_openapi_says_which_routes_need_the_token(self, reader: httpx2.AsyncClient) -> None:
        document = (await reader.get("/openapi.json")).json()
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                needed = {"token": []} in operation.get("security", []) and {} not in operation["security"]
                assert needed == (method != "get" or path in EDITORS_READ), (method, path)

    def test_the_bearer_scheme_ignores_case_and_other_schemes_are_anonymous(self) -> None:
        authenticator = Authenticator("secret-of-sixteen")
        assert authenticator.principal("bearer secret-of-sixteen") == "admin"
        assert authenticator.principal("BEARER  secret-of-sixteen ") == "admin"
        assert authenticator.principal("Basic abc") == ANONYMOUS
        with pytest.raises(errors.Unauthenticated):
            authenticator.principal("Bearer secret-of-sixteem")

    async def test_the_services_get_principal_and_request_id(self, front: Scripted) -> None:
        seen: list[dict[str, str]] = []

        def refuse(request: object) -> None:
            from rpc import context

            seen.append({"principal": context.principal.get(), "request_id": context.request_id.get()})
            raise errors.NotFound("no")

        front.scripts.on("GetPost", refuse)
        await front.client.get("/api/posts/a-door", headers={"x-request-id": "r-1"})
        async with httpx2.AsyncClient(base_url=front.base_url) as anonymous:
            await anonymous.get("/api/posts/a-door", headers={"x-request-id": "r-2"})
        assert seen == [
            {"principal": "admin", "request_id": "r-1"},
            {"principal": "anonymous", "request_id": "r-2"},
        ]


class TestTokenFile:
    def test_a_missing_file_is_created_with_mode_0600(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "token"
        token = admin_token(GatewaySettings(token_file=path))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(token) >= 32
        assert [entry.name for entry in path.parent.iterdir()] == ["token"]

    def test_an_existing_file_is_read(self, tmp_path: Path) -> None:
        settings = GatewaySettings(token_file=tmp_path / "token")
        assert admin_token(settings) == admin_token(settings)

    async def test_concurrent_processes_create_one_token(self, tmp_path: Path) -> None:
        settings = GatewaySettings(token_file=tmp_path / "token")
        made = await asyncio.gather(*(asyncio.to_thread(admin_token, settings) for _ in range(16)))
        assert len(set(made)) == 1

    @pytest.mark.parametrize("content", ["", "short", "sixteen chars and spaces", "é" * 20])
    def test_an_invalid_token_is_refused_with_the_name_of_its_file(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "token"
        path.write_text(content)
        with pytest.raises(TokenFileError, match=str(path)):
            admin_token(GatewaySettings(token_file=path))

    def test_a_token_in_the_settings_takes_precedence(self, tmp_path: Path) -> None:
        settings = GatewaySettings.model_validate({"token": "t" * 16, "token_file": tmp_path / "token"})
        assert admin_token(settings) == "t" * 16
        assert not (tmp_path / "token").exists()

    def test_the_hub_link_has_the_token_in_its_fragment(self) -> None:
        assert hub_link("http://example.org", "abc") == "http://example.org/hub#token=abc"


PREFLIGHT = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}


class TestOtherOrigins:
    async def test_no_origin_is_allowed_by_default(self, stack: Stack, reader: httpx2.AsyncClient) -> None:
        for origin in ("https://evil.example", "null", stack.base_url):
            response = await reader.get("/api/posts", headers={"origin": origin})
            assert "access-control-allow-origin" not in response.headers
            response = await reader.options("/api/tasks", headers={"origin": origin, **PREFLIGHT})
            assert_problem(response, 405, "METHOD_NOT_ALLOWED")
            assert "access-control-allow-origin" not in response.headers

    async def test_only_listed_origins_are_allowed(self) -> None:
        async with scripted(cors_origins="https://good.example, http://localhost:3000/") as front:
            for origin in ("https://good.example", "http://localhost:3000"):
                response = await front.client.options("/api/tasks", headers={"origin": origin, **PREFLIGHT})
                assert response.status_code == 200
                assert response.headers["access-control-allow-origin"] == origin
                assert "authorization" in response.headers["access-control-allow-headers"]
                assert "access-control-allow-credentials" not in response.headers
                response = await front.client.get("/api/tasks/x", headers={"origin": origin})
                assert response.headers["access-control-allow-origin"] == origin  # errors can be read too
                assert "origin" in response.headers["vary"].lower()
            for origin in (
                "https://evil.example",
                "null",
                "https://good.example.evil.example",
                "https://good.example:444",
                "http://good.example",
                "https://sub.good.example",
            ):
                response = await front.client.options("/api/tasks", headers={"origin": origin, **PREFLIGHT})
                assert response.status_code == 400
                assert "access-control-allow-origin" not in response.headers
                response = await front.client.get("/healthz", headers={"origin": origin})
                assert "access-control-allow-origin" not in response.headers
                assert "origin" in response.headers["vary"].lower()

    async def test_options_without_preflight_headers_is_not_allowed(self, reader: httpx2.AsyncClient) -> None:
        assert_problem(await reader.options("/api/tasks"), 405, "METHOD_NOT_ALLOWED")


class TestHeaders:
    async def test_every_response_has_security_headers(self, reader: httpx2.AsyncClient) -> None:
        for path in ("/", "/hub", "/docs", "/api/posts", "/healthz", "/nothing", "/static/base.css", "/posts/nothing"):
            headers = (await reader.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["referrer-policy"]
            assert headers["cache-control"]
            assert "frame-ancestors 'none'" in headers["content-security-policy"]
            assert "unsafe-inline" not in headers["content-security-policy"]
            assert "server" not in headers

    async def test_a_valid_request_id_is_returned_and_an_invalid_one_replaced(self, reader: httpx2.AsyncClient) -> None:
        response = await reader.get("/healthz", headers={"x-request-id": "abc-123"})
        assert response.headers["x-request-id"] == "abc-123"
        for value in ("two words", "x" * 129, "é"):
            response = await reader.get("/healthz", headers={"x-request-id": value.encode()})
            assert response.headers["x-request-id"] not in {value, ""}
            assert len(response.headers["x-request-id"]) == 36

    async def test_no_response_contains_the_token(self, front: Scripted) -> None:
        secret = EDITOR["authorization"].removeprefix("Bearer ")
        for path in ("/metrics", "/openapi.json", "/hub", "/docs", "/readyz", "/nothing"):
            response = await front.client.get(path)
            assert secret not in response.text + json.dumps(dict(response.headers))
