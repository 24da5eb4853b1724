"""Fixtures that several folders use: a PostgreSQL server, empty databases, the whole system."""

import uuid
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from local.postgres import Postgres
from tests.stack import Stack, running


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL server for the session (of each xdist worker). Without fsync: tests need no durability."""
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
    """The whole system, started once a session as a user starts it; for tests that leave it as they found it."""
    with running(tmp_path_factory.mktemp("stack")) as started:
        yield started
