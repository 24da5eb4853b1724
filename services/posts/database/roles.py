"""The role of the services: it reads and writes the record, owns nothing and rewrites no history."""

import logging
from urllib.parse import unquote

import asyncpg

from rpc import errors
from services.posts.database.address import parse

log = logging.getLogger(__name__)

APPEND_ONLY = ("task_events", "post_revisions")
"""Tables that the services read and add to. Rows go only with their task or post, which the owner's foreign keys do."""

EXISTS = "SELECT 1 FROM pg_roles WHERE rolname = $1"
ADMINISTERS = "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user"
LOGIN = "SELECT format('%s ROLE %I LOGIN PASSWORD %L', $1::text, $2::text, $3::text)"

# In one transaction, so that running services never miss a right.
RIGHTS = """
SELECT format($statements$
REVOKE ALL ON ALL TABLES IN SCHEMA %2$I FROM %1$I;
GRANT CONNECT ON DATABASE %3$I TO %1$I;
GRANT USAGE ON SCHEMA %2$I TO %1$I;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %2$I TO %1$I;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA %2$I TO %1$I;
REVOKE INSERT, UPDATE, DELETE ON schema_migrations FROM %1$I;
$statements$, $1::text, current_schema(), current_database())
"""
KEEP_HISTORY = "SELECT format('REVOKE UPDATE, DELETE ON %I FROM %I', $1::text, $2::text)"


def credentials(url: str) -> tuple[str, str]:
    """The role and the password in a URL. Raises FailedPrecondition if one is missing."""
    authority = parse(url).url.partition("://")[2].partition("?")[0].partition("/")[0]
    role, _, password = authority.rpartition("@")[0].partition(":")
    if not role or not password:
        raise errors.FailedPrecondition(
            "POSTS_SERVICES_DATABASE_URL needs a user and a password", reason="SETTING_INVALID"
        )
    return unquote(role), unquote(password)


async def grant(connection: "asyncpg.Connection[asyncpg.Record]", role: str, password: str) -> None:
    """Give `role` what the services need and nothing else. Creates it if it is missing, and sets its password.

    A role that may not administer others leaves an existing role's password as it is. Raises FailedPrecondition if the
    role has more rights than that: one that owns the tables cannot be restricted.
    """
    if role == await connection.fetchval("SELECT current_user"):
        raise errors.FailedPrecondition(
            "POSTS_SERVICES_DATABASE_URL names the role that migrates; it needs another one", reason="SETTING_INVALID"
        )
    exists = await connection.fetchval(EXISTS, role)
    async with connection.transaction():
        if await connection.fetchval(ADMINISTERS) or not exists:
            verb = "ALTER" if exists else "CREATE"
            await connection.execute(await connection.fetchval(LOGIN, verb, role, password))
        await connection.execute(await connection.fetchval(RIGHTS, role))
        for table in APPEND_ONLY:
            await connection.execute(await connection.fetchval(KEEP_HISTORY, table, role))
    log.info("the services use the role %s", role)
