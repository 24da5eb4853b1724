"""`python -m services.posts.database.migrate`: apply the missing migrations. Several processes may run it at once."""

import asyncio
import hashlib
import logging
import re
import sys
from dataclasses import dataclass
from importlib import resources

import asyncpg

from rpc import errors, logs, settings
from services.posts.database import database, roles
from services.posts.database.failures import translated
from services.posts.database.merge_tags import merge_tags
from services.posts.settings import MigrationSettings

log = logging.getLogger(__name__)

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

# The number only has to be unique: the first eight bytes of sha256("frontispiece migrations").
_LOCK = int.from_bytes(hashlib.sha256(b"frontispiece migrations").digest()[:8], "big", signed=True)

CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    apply_time timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
LOCK = "SELECT pg_advisory_lock($1)"
UNLOCK = "SELECT pg_advisory_unlock($1)"
APPLIED = "SELECT version, sha256 FROM schema_migrations"
RECORD = "INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3)"
STEPS = {2: merge_tags}
"""What a migration does that SQL cannot, after its file, in its transaction."""

EXISTS = "SELECT to_regclass('schema_migrations') IS NOT NULL"
NEWEST = "SELECT coalesce(max(version), 0) FROM schema_migrations"


@dataclass(frozen=True)
class Migration:
    """One numbered SQL file."""

    version: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Hash of the text, hex. An applied file must not change."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """All migrations of this version of the program, in order."""
    files = resources.files("services.posts.database.migrations").iterdir()
    found = [
        Migration(int(match[1]), file.name, file.read_text(encoding="utf-8"))
        for file in files
        if (match := _FILE_NAME.fullmatch(file.name))
    ]
    return sorted(found, key=lambda migration: migration.version)


async def migrate(url: str, services_url: str = "") -> int:
    """Apply the missing files, each in its own transaction; the number of files.

    Then give the role in `services_url` the rights of the services, if a URL is given. Raises FailedPrecondition if an
    applied file was changed, Unavailable if the database does not answer.
    """
    connection = await database.connect(url, "posts-migrate")
    try:
        with translated():
            # Held by the session: the server releases it if this process dies.
            await connection.execute(LOCK, _LOCK)
            try:
                count = await _apply(connection)
                if services_url:
                    await roles.grant(connection, *roles.credentials(services_url))
                return count
            finally:
                await connection.execute(UNLOCK, _LOCK)
    finally:
        await connection.close()


async def _apply(connection: "asyncpg.Connection[asyncpg.Record]") -> int:
    await connection.execute(CREATE_TABLE)
    applied = {row["version"]: row["sha256"] for row in await connection.fetch(APPLIED)}
    count = 0
    for migration in migrations():
        known = applied.get(migration.version)
        if known is not None:
            if known != migration.sha256:
                raise errors.FailedPrecondition(
                    f"{migration.name} was changed after it was applied", reason="MIGRATION_CHANGED"
                )
            continue
        async with connection.transaction():
            await connection.execute(migration.sql)
            if step := STEPS.get(migration.version):
                await step(connection)
            await connection.execute(RECORD, migration.version, migration.name, migration.sha256)
        log.info("applied %s", migration.name)
        count += 1
    return count


async def require_current(opened: database.Database) -> None:
    """Raise FailedPrecondition if the schema is older than this program. A newer schema is accepted."""
    newest = await opened.fetchval(NEWEST) if await opened.fetchval(EXISTS) else 0
    needed = migrations()[-1].version
    if newest < needed:
        raise errors.FailedPrecondition(
            f"the database schema is at {newest}, {needed} is needed: run python -m services.posts.database.migrate",
            reason="SCHEMA_OUTDATED",
        )


def main() -> int:
    """Read the settings and migrate."""
    options = settings.load(MigrationSettings)
    logs.configure("migrate", options.log_level, options.log_format)
    url, services_url = options.database_url.get_secret_value(), options.services_database_url.get_secret_value()
    try:
        count = asyncio.run(database.patiently(lambda: migrate(url, services_url), options.database_wait_seconds))
    except errors.RpcError as error:
        print(f"migrate: {error.message}", file=sys.stderr)
        return 1
    except asyncpg.InsufficientPrivilegeError as error:
        print(f"migrate: the role of POSTS_DATABASE_URL lacks a right: {error}", file=sys.stderr)
        return 1
    log.info("the schema is current", extra={"applied": count})
    return 0


if __name__ == "__main__":
    sys.exit(main())
