"""The role of the services: enough for all that they do, and no superuser; history cannot be rewritten."""

import uuid
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest
from frontispiece.posts.v1 import posts_pb2
from google.protobuf.field_mask_pb2 import FieldMask

from local.postgres import Postgres
from rpc import errors
from services.posts.database.migrate import migrate
from tests.posts.conftest import StartPosts, on_server


@pytest.fixture
async def services_url(postgres: Postgres, database_url: str) -> AsyncIterator[str]:
    """A migrated database, by a URL with the role of the services."""
    role = f"services_{uuid.uuid4().hex[:8]}"
    url = urlsplit(database_url)
    services = f"postgresql://{role}:it%27s%20%25s%20secret@127.0.0.1:{url.port}{url.path}"
    assert await migrate(database_url, services) > 0
    assert await migrate(database_url, services) == 0  # and again
    yield services
    await on_server(postgres, f'DROP DATABASE "{url.path[1:]}" WITH (FORCE)', f'DROP ROLE "{role}"')
    await on_server(postgres, f'CREATE DATABASE "{url.path[1:]}"')  # which database_url drops


@pytest.fixture
async def connection(services_url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    opened = await asyncpg.connect(services_url)
    yield opened
    await opened.close()


async def test_the_role_has_no_power_over_the_server(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    row = await connection.fetchrow("SELECT * FROM pg_roles WHERE rolname = current_user")
    assert row is not None
    powers = ("rolsuper", "rolcreaterole", "rolcreatedb", "rolreplication", "rolbypassrls")
    assert not [power for power in powers if row[power]]
    assert await connection.fetchval("SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole") == 0


REFUSED = {
    "program": "COPY schema_migrations FROM PROGRAM 'id'",
    "file": "COPY schema_migrations TO '/tmp/never'",
    "read-file": "SELECT pg_read_file('/etc/passwd')",
    "event": "UPDATE task_events SET actor = 'nobody'",
    "delete-event": "DELETE FROM task_events",
    "revision": "UPDATE post_revisions SET title = 'never'",
    "delete-revision": "DELETE FROM post_revisions",
    "migrations": "DELETE FROM schema_migrations",
    "drop": "DROP TABLE task_events",
    "truncate": "TRUNCATE task_events",
    "alter": "ALTER TABLE task_events DISABLE TRIGGER ALL",
    "create": "CREATE TABLE mine (id int)",
    "role": "CREATE ROLE another SUPERUSER",
    "passwords": "SELECT rolpassword FROM pg_authid",
    "system": "ALTER SYSTEM SET log_statement = 'none'",
}


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
async def test_what_the_services_never_do_is_refused(
    connection: "asyncpg.Connection[asyncpg.Record]", statement: str
) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement)


async def test_services_do_their_work_with_that_role(services_url: str, start_posts: StartPosts) -> None:
    async with start_posts(database_url=services_url) as posts:
        task = await posts.done()
        post = (await posts.approve(task.id, tags=["sea", "night"], publish=True)).post
        updated = await posts.posts.UpdatePost(
            posts_pb2.UpdatePostRequest(id=post.id, title="Renamed", update_mask=FieldMask(paths=["title"])),
            timeout=10,
        )
        assert updated.post.title == "Renamed"
        found = await posts.posts.ListPosts(posts_pb2.ListPostsRequest(tag="sea"), timeout=10)
        assert [item.id for item in found.posts] == [post.id]
        await posts.posts.DeletePost(posts_pb2.DeletePostRequest(id=post.id), timeout=10)  # revisions go with it


async def test_the_role_that_migrates_cannot_be_that_of_the_services(database_url: str) -> None:
    with pytest.raises(errors.FailedPrecondition, match="another one"):
        await migrate(database_url, database_url)


async def test_a_url_without_password_is_refused(database_url: str) -> None:
    with pytest.raises(errors.FailedPrecondition, match="a user and a password"):
        await migrate(database_url, "postgresql://services@127.0.0.1/x")
