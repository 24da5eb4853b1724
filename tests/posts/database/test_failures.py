"""Each kind of failure to connect says which it is, without names, addresses or the password."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.ports import free_port
from local.postgres import Postgres
from rpc import errors
from services.posts.database.database import connect
from tests.s3_server import make_certificate


async def _failure(url: str) -> str:
    with pytest.raises(errors.RpcError) as raised:
        await connect(url, "test")
    return raised.value.message


def _changed(postgres: Postgres, *, user: str = "frontispiece", password: str = "", database: str = "postgres") -> str:
    parts = urlsplit(postgres.url("postgres"))
    return f"postgresql://{user}:{password or parts.password}@127.0.0.1:{parts.port}/{database}"


async def test_wrong_password(postgres: Postgres) -> None:
    assert await _failure(_changed(postgres, password="hunter2")) == "the database refuses our user or password"


async def test_no_such_database(postgres: Postgres) -> None:
    assert "no database of that name" in await _failure(_changed(postgres, database="nowhere"))


async def test_no_tls(postgres: Postgres) -> None:
    assert "offers no TLS" in await _failure(_changed(postgres) + "?sslmode=require")


async def test_nothing_listens() -> None:
    assert "nothing listens" in await _failure(f"postgresql://u:p@127.0.0.1:{free_port()}/db")


async def test_no_such_host() -> None:
    assert "host name is not known" in await _failure("postgresql://u:p@host.invalid/db")


async def test_unknown_parameter_of_the_session(postgres: Postgres) -> None:
    url = _changed(postgres) + "?options=-c%20no_such%3D1"
    assert "refuses a parameter" in await _failure(url)


@contextlib.asynccontextmanager
async def _tls_server(folder: Path) -> AsyncIterator[int]:
    """The port of a server that agrees to TLS as PostgreSQL does, with a certificate that it signed itself."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    make_certificate(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await reader.readexactly(8)
            writer.write(b"S")
            await writer.drain()
            await writer.start_tls(context)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("query", ["sslmode=verify-full", "sslmode=verify-ca", "channel_binding=require"])
async def test_certificate_of_an_unknown_authority(tmp_path: Path, query: str) -> None:
    async with _tls_server(tmp_path) as port:
        assert "certificate is not accepted" in await _failure(f"postgresql://u:p@127.0.0.1:{port}/db?{query}")


async def test_certificate_of_an_authority_that_is_named_is_accepted(tmp_path: Path) -> None:
    async with _tls_server(tmp_path) as port:
        query = f"sslmode=verify-full&sslrootcert={tmp_path / 'certificate.pem'}"
        assert "certificate" not in await _failure(f"postgresql://u:p@127.0.0.1:{port}/db?{query}")
