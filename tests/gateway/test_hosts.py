"""The Host header."""

import pytest

from tests.gateway.conftest import assert_problem
from tests.gateway.scripted import Scripted, scripted
from tests.gateway.test_connections import exchange, problem

HOSTS = {"public_base_url": "https://pictures.example:8443/x", "allowed_hosts": "Other.Example, *.cdn.example"}


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: a\r\nhost: a\r\nconnection: close\r\n\r\n",
        b"GET /healthz HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n",
    ],
    ids=["none", "two", "two in HTTP/1.0"],
)
async def test_a_request_without_exactly_one_host_is_refused(front: Scripted, head: bytes) -> None:
    assert problem(await exchange(front, head)) == (400, "MALFORMED_REQUEST")


async def test_http_1_0_needs_no_host(front: Scripted) -> None:
    assert (await exchange(front, b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("host", ["evil.example", "localhost:1", "127.0.0.1", "[::1]:80", "", "müller"])
async def test_without_a_list_any_host_is_served(front: Scripted, host: str) -> None:
    response = await front.client.get("/robots.txt", headers={b"host": host.encode()})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "host", ["pictures.example", "PICTURES.example:1234", "other.example.", "a.b.cdn.example", "other.example:80"]
)
async def test_a_host_of_the_list_is_served(host: str) -> None:
    async with scripted(**HOSTS) as front:
        assert (await front.client.get("/robots.txt", headers={"host": host})).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "pictures.example.evil.example",
        "evilcdn.example",
        "cdn.example",
        "user@pictures.example",
        "pictures.example/",
        "pictures.example:x",
        "evil.example#pictures.example",
        "[::1]",
        "",
    ],
)
async def test_another_host_is_refused(host: str) -> None:
    async with scripted(**HOSTS) as front:
        assert_problem(await front.client.get("/robots.txt", headers={"host": host}), 421, "UNKNOWN_HOST")
        assert_problem(await front.client.post("/api/tasks", json={}, headers={"host": host}), 421, "UNKNOWN_HOST")


async def test_probes_may_use_any_host() -> None:
    async with scripted(**HOSTS) as front:
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await front.client.get(path, headers={"host": "10.1.2.3:8080"})).status_code == 200
