"""Migrations: applied once, by several processes at the same time, and never changed afterwards."""

import asyncio
import os
import subprocess
import sys

import asyncpg
import pytest
from frontispiece.posts.v1.posts_pb2 import CreatePostRequest, FeaturedImage
from frontispiece.types.v1.image_pb2 import StoredImage

from local.postgres import Postgres
from rpc import errors
from services.posts.content.repository import Posts
from services.posts.content.texts.deriving import running as running_texts
from services.posts.database import migrate as module
from services.posts.database.database import connected
from services.posts.database.migrate import Migration, migrate, migrations, require_current
from services.posts.models import NewPost, PostFilter
from tests.posts.conftest import ADDRESSES


def run(name: str, url: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", name],
        env={**os.environ, "POSTS_DATABASE_URL": url, "POSTS_DATABASE_WAIT_SECONDS": "2", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_migrations_are_applied_once(database_url: str) -> None:
    assert await migrate(database_url) == len(migrations())
    assert await migrate(database_url) == 0


async def test_new_database_has_one_author_and_one_category(database_url: str) -> None:
    await migrate(database_url)
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT count(*) FROM authors") == 1
    assert await connection.fetchval("SELECT count(*) FROM categories") == 1
    await connection.close()


async def test_concurrent_processes_apply_each_migration_once(database_url: str) -> None:
    processes = [run("services.posts.database.migrate", database_url) for _ in range(3)]
    outputs = await asyncio.gather(*(asyncio.to_thread(process.communicate) for process in processes))
    assert [process.returncode for process in processes] == [0] * 3, outputs
    assert sum("applied 0001_tables.sql" in output for _, output in outputs) == 1


LATER = Migration(9999, "9999_later.sql", "ALTER TABLE posts ADD COLUMN later integer NOT NULL DEFAULT 7;")


async def test_second_migration_is_applied_while_the_database_is_in_use(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(database_url)
    first = migrations()
    monkeypatch.setattr(module, "migrations", lambda: [*first, LATER])
    async with connected(database_url, "test", size=2, wait_seconds=5) as database, running_texts(()) as texts:
        posts = Posts(database, texts, ADDRESSES)
        with pytest.raises(errors.FailedPrecondition, match=rf"at {first[-1].version}, 9999 is needed"):
            await require_current(database)
        new = NewPost("Before")
        image = FeaturedImage(image=StoredImage(key="k"), image_source="upload")
        before = await posts.create("ada", CreatePostRequest(), new, image)
        before.ClearField("html")  # lists leave it out
        is_migrated = asyncio.Event()

        async def read() -> int:
            count = 0
            while not is_migrated.is_set() or count < 5:
                assert list((await posts.list(PostFilter(), 10, "")).posts) == [before]
                count += 1
            return count

        readers = [asyncio.create_task(read()) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert await migrate(database_url) == 1
        is_migrated.set()
        assert all(await asyncio.gather(*readers))
        await require_current(database)
        assert await database.fetchval("SELECT later FROM posts") == 7
    assert await migrate(database_url) == 0


async def test_migration_that_was_changed_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate(database_url)
    first = migrations()[0]
    monkeypatch.setattr(module, "migrations", lambda: [Migration(first.version, first.name, first.sql + "-- edited")])
    with pytest.raises(errors.FailedPrecondition, match="was changed"):
        await migrate(database_url)


async def test_migration_that_fails_leaves_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Migration(1, "0001_broken.sql", "CREATE TABLE half (id int); SELECT 1/0;")
    monkeypatch.setattr(module, "migrations", lambda: [broken])
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(database_url)
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    assert await connection.fetchval("SELECT count(*) FROM schema_migrations") == 0
    await connection.close()


async def test_old_schema_is_refused_and_newer_one_accepted(database_url: str) -> None:
    async with connected(database_url, "test", size=2, wait_seconds=5) as database:
        with pytest.raises(errors.FailedPrecondition, match=r"services\.posts\.database\.migrate"):
            await require_current(database)
        await migrate(database_url)
        await require_current(database)
        await database.execute("INSERT INTO schema_migrations (version, name, sha256) VALUES (999, 'later', '')")
        await require_current(database)


PROCESSES = {"posts": "services.posts", "worker": "services.posts.worker"}
each_process = pytest.mark.parametrize("name", PROCESSES)


@each_process
async def test_wrong_setting_stops_the_process_and_is_named(name: str) -> None:
    process = run(PROCESSES[name], "mysql://localhost/x")
    _, output = await asyncio.to_thread(process.communicate)
    assert process.returncode == 2
    assert "POSTS_DATABASE_URL" in output


@each_process
async def test_missing_database_stops_the_process_without_showing_the_password(name: str) -> None:
    process = run(
        PROCESSES[name], "postgresql://somebody:hunter2@127.0.0.1:1/nowhere", POSTS_DATABASE_WAIT_SECONDS="0.2"
    )
    _, output = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1
    assert "database does not answer" in output
    assert "hunter2" not in output


async def test_wrong_password_is_reported_without_detail(postgres: Postgres) -> None:
    url = postgres.url("postgres")
    user, _, rest = url.partition("://")[2].partition("@")
    name = user.partition(":")[0]
    process = run("services.posts", f"postgresql://{name}:hunter2@{rest}", POSTS_DATABASE_WAIT_SECONDS="0")
    _, output = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1
    assert output.splitlines()[-1] == "posts: the database refuses our user or password"


@each_process
async def test_process_refuses_a_database_that_was_not_migrated(database_url: str, name: str) -> None:
    process = run(PROCESSES[name], database_url)
    _, output = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1
    assert "services.posts.database.migrate" in output


def test_migrations_are_numbered_without_gaps_or_twins() -> None:
    """Two branches may each add the next number: git sees no conflict in that."""
    found = [migration.version for migration in migrations()]
    assert found == list(range(1, len(found) + 1))


INSERT_POST = """
INSERT INTO posts (id, slug, state, title, content, featured_image, author_id, category_id, created_by, updated_by,
    publish_time, search)
SELECT gen_random_uuid(), $1, 'published', 'T', '# x', $2, (SELECT id FROM authors), (SELECT id FROM categories),
    'x', 'x', now(), ''
RETURNING id
"""

OLD_IMAGE = '{"image": {"key": "generated/1-x.png", "url": "http://old.example/media/generated/1-x.png"}}'


async def of_the_first_release(url: str, monkeypatch: pytest.MonkeyPatch) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection to a database with the tables of 0.1.0; the next `migrate` applies the rest."""
    with monkeypatch.context() as first:
        everything = migrations()
        first.setattr(module, "migrations", lambda: everything[:1])
        await migrate(url)
    return await asyncpg.connect(url)


async def test_former_slugs_are_found_in_the_revisions(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The post that had one last gets it; a slug that a post has now is no former one."""
    connection = await of_the_first_release(database_url, monkeypatch)
    one, two = [await connection.fetchval(INSERT_POST, slug, OLD_IMAGE) for slug in ("one", "two")]
    for post_id, version, slug in ((one, 1, "old"), (one, 2, "two"), (two, 1, "old"), (two, 2, "older")):
        await connection.execute(
            "INSERT INTO post_revisions SELECT id, $2, $3, title, content, featured_image, author_id, category_id,"
            " tags, updated_by, clock_timestamp() FROM posts WHERE id = $1",
            *(post_id, version, slug),
        )
    await migrate(database_url)
    rows = await connection.fetch("SELECT slug, post_id FROM post_slugs")
    assert {row["slug"]: row["post_id"] for row in rows} == {"old": two, "older": two}
    assert await connection.fetchval("SELECT count(*) FROM posts WHERE first_publish_time = publish_time") == 2
    await connection.close()


async def test_tags_that_differ_in_case_are_joined(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the spellings the most used stays; a post that has several keeps the place of its first."""
    connection = await of_the_first_release(database_url, monkeypatch)
    tags = ["Sea", "sea", "SEA", "Émile", "émile", "ﬁsh", "fish", "alone", "a  b", "A b"]
    await connection.execute("INSERT INTO tags (name) SELECT unnest($1::text[])", tags)
    for number, names in enumerate((["sea", "alone", "SEA"], ["Sea", "émile"], ["sea"], ["ﬁsh", "fish"], ["A b"])):
        post_id = await connection.fetchval(INSERT_POST, f"post-{number}", OLD_IMAGE)
        await connection.execute(
            "INSERT INTO post_tags SELECT $1, g.id, n.position"
            " FROM unnest($2::text[]) WITH ORDINALITY n (name, position) JOIN tags g USING (name)",
            post_id,
            names,
        )
    assert await migrate(database_url) == len(migrations()) - 1
    rows = await connection.fetch("SELECT tags, excerpt FROM posts ORDER BY slug")
    assert [row["tags"] for row in rows] == [["sea", "alone"], ["sea", "émile"], ["sea"], ["fish"], ["A b"]]
    assert {row["excerpt"] for row in rows} == {"x"}
    identities = {row["name"]: row["identity"] for row in await connection.fetch("SELECT * FROM tags")}
    assert identities == {"sea": "sea", "émile": "émile", "fish": "fish", "alone": "alone", "A b": "a b"}
    counts = {row["name"]: row["post_count"] for row in await connection.fetch("SELECT * FROM tags")}
    assert counts == {"sea": 3, "émile": 1, "fish": 1, "alone": 1, "A b": 1}
    await connection.close()
