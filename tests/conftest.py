"""How the tests are spread over processes, and fixtures that several folders use: PostgreSQL, the whole system."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before PyTorch is imported: several test processes share the cores, and each would start a thread for every core.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import uuid
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from local.postgres import Postgres
from tests.stack import Stack, running

EXPENSIVE = {"stack", "system"}
"""Session fixtures of which there is one for all test processes: tests that use one run in the same process."""


def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: more processes than cores, because many tests wait rather than compute; at most eight."""
    return min(8, (os.cpu_count() or 1) + 1)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group the tests for `--dist loadgroup`. What shares nothing expensive is spread test by test."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None and (group := _group(item)):
            item.add_marker(pytest.mark.xdist_group(group))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Stop when pytest-xdist ignores the groups, as 3.8 does with pytest 9.2: one system a group, not a process."""
    if hasattr(session.config, "workerinput") and session.config.getoption("loadgroup"):
        ignored = [i for i in session.items if i.get_closest_marker("xdist_group") and "@" not in i.nodeid]
        if ignored:
            raise pytest.UsageError(f"pytest-xdist ignores xdist_group: {ignored[0].nodeid}")


def _group(item: pytest.Item) -> str | None:
    definitions = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    if EXPENSIVE & definitions.keys():
        return "stack"
    if any(found[-1].scope in ("class", "module", "package") for found in definitions.values()):
        return item.nodeid.partition("::")[0]
    return None


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL server for the session, one for each test process. Without fsync: tests need no durability."""
    with Postgres(tmp_path_factory.mktemp("postgres"), options={"fsync": "off"}) as server:
        yield server


@pytest.fixture
async def database_url(postgres: Postgres) -> AsyncIterator[str]:
    """The URL of an empty database of the test's own."""
    name = f"test_{uuid.uuid4().hex}"
    await postgres.create_database(name)
    yield postgres.url(name)
    connection = await asyncpg.connect(postgres.url("postgres"))
    try:
        await connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole system, started once as a user starts it; for tests that leave it as they found it."""
    with running(tmp_path_factory.mktemp("stack")) as started:
        yield started
