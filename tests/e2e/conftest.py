"""A running system: the one at BASE_URL (with FRONTISPIECE_TOKEN), else one started for the session."""

import os
from collections.abc import AsyncIterator

import httpx2
import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder is marked e2e."""
    for item in items:
        if "/e2e/" in str(item.path):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def system(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The address and the administrator's token."""
    if base_url := os.environ.get("BASE_URL"):
        token = os.environ.get("FRONTISPIECE_TOKEN", "")
        if not token:
            pytest.fail("BASE_URL is set: set FRONTISPIECE_TOKEN too")
        return base_url.rstrip("/"), token
    stack = request.getfixturevalue("stack")
    return stack.base_url, stack.token


@pytest.fixture
async def editor(system: tuple[str, str]) -> AsyncIterator[httpx2.AsyncClient]:
    """A client with the token."""
    base_url, token = system
    async with httpx2.AsyncClient(
        base_url=base_url, headers={"Authorization": f"Bearer {token}"}, timeout=120
    ) as client:
        yield client


@pytest.fixture
async def reader(system: tuple[str, str]) -> AsyncIterator[httpx2.AsyncClient]:
    """A client without a token: the public."""
    async with httpx2.AsyncClient(base_url=system[0], timeout=30) as client:
        yield client
