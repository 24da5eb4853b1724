"""Migrations: twice, at once, and never changed afterwards."""

import asyncio
import os
import subprocess
import sys

import asyncpg
import pytest

from local.postgres import Postgres
from rpc import errors
from services.posts import migrate as module
from services.posts.database import connected
from services.posts.migrate import Migration, migrate, migrations, require_current


def run(name: str, url: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", name],
        env={**os.environ, "POSTS_DATABASE_URL": url, "POSTS_DATABASE_WAIT_SECONDS": "2", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_twice_is_once(database_url: str) -> None:
    assert await migrate(database_url) == len(migrations())
    assert await migrate(database_url) == 0


async def test_a_fresh_database_holds_one_author_and_one_category(database_url: str) -> None:
    await migrate(database_url)
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT count(*) FROM authors") == 1
    assert await connection.fetchval("SELECT count(*) FROM categories") == 1
    await connection.close()


async def test_four_processes_at_once(database_url: str) -> None:
    processes = [run("services.posts.migrate", database_url) for _ in range(4)]
    outputs = await asyncio.gather(*(asyncio.to_thread(process.communicate) for process in processes))
    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert sum("applied 0001_record.sql" in output for _, output in outputs) == 1


async def test_one_that_was_changed_afterwards_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate(database_url)
    first = migrations()[0]
    monkeypatch.setattr(module, "migrations", lambda: [Migration(first.version, first.name, first.sql + "-- edited")])
    with pytest.raises(errors.FailedPrecondition, match="was changed"):
        await migrate(database_url)


async def test_one_that_fails_leaves_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Migration(1, "0001_broken.sql", "CREATE TABLE half (id int); SELECT 1/0;")
    monkeypatch.setattr(module, "migrations", lambda: [broken])
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(database_url)
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    assert await connection.fetchval("SELECT count(*) FROM schema_migrations") == 0
    await connection.close()


async def test_an_old_schema_is_refused_and_a_newer_one_is_not(database_url: str) -> None:
    async with connected(database_url, "test", size=2, wait_seconds=5) as database:
        with pytest.raises(errors.FailedPrecondition, match=r"services\.posts\.migrate"):
            await require_current(database)
        await migrate(database_url)
        await require_current(database)
        await database.execute("INSERT INTO schema_migrations (version, name, sha256) VALUES (999, 'later', '')")
        await require_current(database)


async def test_a_wrong_setting_stops_the_process_and_is_named() -> None:
    process = run("services.posts", "mysql://localhost/x")
    _, output = await asyncio.to_thread(process.communicate)
    assert process.returncode == 2
    assert "POSTS_DATABASE_URL" in output


async def test_a_missing_database_stops_the_process_without_its_password(postgres: Postgres) -> None:
    process = run("services.posts", "postgresql://somebody:hunter2@127.0.0.1:1/nowhere")
    _, output = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1
    assert "database does not answer" in output
    assert "hunter2" not in output


async def test_a_wrong_password_is_said_in_plain_words(postgres: Postgres) -> None:
    url = postgres.url("postgres")
    user, _, rest = url.partition("://")[2].partition("@")
    name = user.partition(":")[0]
    process = run("services.posts", f"postgresql://{name}:hunter2@{rest}")
    _, output = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1
    assert output.splitlines()[-1] == "posts: the database refuses our user or password"


async def test_the_service_refuses_a_database_that_was_not_migrated(database_url: str) -> None:
    process = run("services.posts", database_url)
    _, output = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1
    assert "services.posts.migrate" in output


def test_migrations_are_numbered_without_gaps_or_twins() -> None:
    """Two branches may each add the next number: git sees no conflict in that."""
    found = [migration.version for migration in migrations()]
    assert found == list(range(1, len(found) + 1))
