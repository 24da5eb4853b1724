"""Databases full of posts. A database that was filled by the same program is used again."""

import asyncio
import hashlib
from importlib import resources
from string import Template

import asyncpg
from frontispiece.posts.v1 import posts_pb2
from frontispiece.types.v1 import image_pb2

from local.postgres import Postgres
from services.posts.content.search import words
from services.posts.content.texts import deriving
from services.posts.database.json_columns import to_json
from services.posts.database.migrate import migrate, migrations

# Triggers and references do not run: the statements fill what they would.
_SESSION = {
    "session_replication_role": "replica",
    "synchronous_commit": "off",
    "maintenance_work_mem": "1GB",
    "work_mem": "256MB",
    "jit": "off",
}

_INDEXES = """
SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index
WHERE indrelid IN ('posts'::regclass, 'post_tags'::regclass) AND NOT indisunique
"""

_URL = "http://127.0.0.1:8080/media/KEY"

_URL_IS_PLAIN = """
SELECT attgenerated = '' FROM pg_attribute WHERE attrelid = 'posts'::regclass AND attname = 'featured_image_url'
"""

_IS_FILLED = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1"


async def filled(postgres: Postgres, size: int) -> str:
    """The URL of a database with `size` posts."""
    text = resources.files("bench.posts").joinpath("fill.sql").read_text()
    schema = "".join(migration.sha256 for migration in migrations())
    name = f"posts_{size}_{hashlib.sha256((text + schema).encode()).hexdigest()[:8]}"
    url = postgres.url(name)
    server = await asyncpg.connect(postgres.url("postgres"))
    try:
        if await server.fetchval(_IS_FILLED, name) == "filled":
            return url
        await server.execute(f'DROP DATABASE IF EXISTS "{name}"')
        await server.execute(f'CREATE DATABASE "{name}"')
        await migrate(url)
        await _fill(url, text, size)
        await server.execute(f"COMMENT ON DATABASE \"{name}\" IS 'filled'")
    finally:
        await server.close()
    return url


async def _fill(url: str, text: str, size: int) -> None:
    """Fill the tables without their indexes, and make these afterwards."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    connection = await asyncpg.connect(url, server_settings=_SESSION)
    try:
        indexes = await connection.fetch(_INDEXES)
        for index in indexes:
            await connection.execute(f"DROP INDEX {index['name']}")
        is_plain = await connection.fetchval(_URL_IS_PLAIN)
        values = {
            "N": size,
            "IMAGE": f"'{_image('' if is_plain else _URL)}'",
            "DERIVED_VERSION": deriving.VERSION,
            "URL_COLUMN": ", featured_image_url" if is_plain else "",
            "URL_VALUE": f", '{_URL}'" if is_plain else "",
        }
        for statement in Template(text).substitute(values).split(";\n"):
            if statement.strip():
                await connection.execute(statement)
        print(f"{size:,} posts: rows in {loop.time() - begun:.0f} s", flush=True)
        for index in indexes:
            await connection.execute(index["definition"])
        await connection.execute("VACUUM ANALYZE")
        await _check(connection)
        print(f"{size:,} posts: all in {loop.time() - begun:.0f} s", flush=True)
    finally:
        await connection.close()


async def _check(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """The words of a post are those that the service would store."""
    for row in await connection.fetch("SELECT title, content, tsvector_to_array(search) AS search FROM posts LIMIT 5"):
        assert sorted(row["search"]) == sorted(words.lexemes(row["title"], row["content"]))


def _image(url: str) -> str:
    """The column featured_image of a post; KEY stands for the key of its image."""
    file = image_pb2.ImageFile(width=1024, height=1024, content_type="image/png", size_bytes=1_500_000, sha256="0" * 64)
    image = image_pb2.StoredImage(key="KEY", url=url, file=file, thumbhash="A" * 34)
    return to_json(posts_pb2.FeaturedImage(image=image, alt_text="A lighthouse at dusk", image_source="sdxl-s3"))
