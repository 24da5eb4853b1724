"""Stock photos against a local server that answers as Pexels does."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from frontispiece.types.v1 import generation_pb2 as types
from PIL import Image

from rpc import errors
from services.generator.stock.pexels import PexelsOptions, StockPhotos, open_stock
from tests.generator.fake import FakeEngine
from tests.generator.harness import serve as serve_generator


def jpeg(width: int = 64, height: int = 48) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(stream, "JPEG")
    return stream.getvalue()


def photo(base: str, number: int = 2014422) -> dict[str, Any]:
    """The shape that the API documents for a photo."""
    original = f"{base}/photos/{number}/pexels-photo-{number}.jpeg"
    return {
        "id": number,
        "width": 3024,
        "height": 3024,
        "url": f"https://www.pexels.com/photo/brown-rocks-during-golden-hour-{number}/",
        "photographer": "Joey Farina",
        "photographer_url": "https://www.pexels.com/@joey",
        "photographer_id": 680589,
        "avg_color": "#978E82",
        "src": {"original": original, "large2x": f"{original}?auto=compress&cs=tinysrgb&dpr=2&h=650&w=940"},
        "liked": False,
        "alt": "Brown Rocks During Golden Hour",
    }


@dataclass
class Pexels:
    """A server; `search` and `image` are (status, body) to answer with."""

    address: str = ""
    search: tuple[int, bytes] = (200, b"")
    image: tuple[int, bytes] = (200, b"")
    requests: list[tuple[str, dict[str, list[str]], dict[str, str]]] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        target = urlsplit(head[0].split()[1])
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        self.requests.append((target.path, parse_qs(target.query), headers))
        status, body = self.search if target.path == "/v1/search" else self.image
        writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: {len(body)}\r\nLocation: /v1/search\r\n".encode())
        writer.write(b"Connection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()


@pytest.fixture
async def pexels() -> AsyncIterator[Pexels]:
    made = Pexels()
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    async with server:
        made.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        made.search = (200, json.dumps({"page": 1, "per_page": 15, "photos": [photo(made.address)]}).encode())
        made.image = (200, jpeg())
        yield made


def options(pexels: Pexels, **changes: Any) -> PexelsOptions:
    values: dict[str, Any] = {
        "pexels_api_key": "the-key",
        "pexels_api_url": f"{pexels.address}/v1",
        "pexels_image_hosts": "127.0.0.1",
        "pexels_timeout_seconds": 5.0,
        "pexels_max_bytes": 100_000,
    }
    return PexelsOptions(**{**values, **changes})


@pytest.fixture
async def stock(pexels: Pexels) -> AsyncIterator[StockPhotos]:
    async with open_stock(options(pexels)) as made:
        yield made


async def test_a_photo_comes_with_its_credit(pexels: Pexels) -> None:
    async with serve_generator(FakeEngine(), pexels=options(pexels)) as client:
        assert (await client.capabilities()).stock_available
        reply = await client.generate(prompt="rocks", source=types.IMAGE_SOURCE_STOCK, width=128, height=64)
    image = reply.image
    assert reply.data == jpeg()
    assert (image.file.content_type, image.file.width, image.file.height) == ("image/jpeg", 64, 48)
    assert reply.parameters == types.GenerationParameters(prompt="rocks", source=types.IMAGE_SOURCE_STOCK)
    assert (reply.generation.batch_size, reply.generation.model_revision) == (0, "")
    credit = reply.generation.attribution
    assert (credit.provider, credit.author, credit.author_url) == (
        "pexels",
        "Joey Farina",
        "https://www.pexels.com/@joey",
    )
    assert credit.source_url.startswith("https://www.pexels.com/photo/")
    assert credit.description == "Brown Rocks During Golden Hour"
    (_, query, headers), (path, size, image_headers) = pexels.requests
    assert query == {"query": ["rocks"], "per_page": ["15"], "orientation": ["landscape"]}
    assert headers["authorization"] == "the-key"
    assert path == "/photos/2014422/pexels-photo-2014422.jpeg"
    assert (size["w"], size["h"], size["fit"]) == (["128"], ["64"], ["crop"])
    assert "authorization" not in image_headers


async def test_without_a_key_nothing_is_asked(pexels: Pexels) -> None:
    async with open_stock(options(pexels, pexels_api_key="")) as stock:
        with pytest.raises(errors.FailedPrecondition, match="PEXELS_API_KEY"):
            await stock.fetch("rocks", 64, 64)
    assert pexels.requests == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, errors.FailedPrecondition),
        (403, errors.FailedPrecondition),
        (429, errors.ResourceExhausted),
        (500, errors.Unavailable),
        (302, errors.Unavailable),
    ],
)
async def test_what_pexels_answers_becomes_our_error(
    pexels: Pexels, stock: StockPhotos, status: int, expected: type[errors.RpcError]
) -> None:
    pexels.search = (status, b"{}")
    with pytest.raises(expected) as caught:
        await stock.fetch("rocks", 64, 64)
    assert "the-key" not in str(caught.value)
    assert len(pexels.requests) == 1


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"photos": [{}]}', b'{"photos": [{"src": {"original": 7}}]}']
)
async def test_an_answer_of_another_shape(pexels: Pexels, stock: StockPhotos, body: bytes) -> None:
    pexels.search = (200, body)
    with pytest.raises((errors.Unavailable, errors.NotFound)):
        await stock.fetch("rocks", 64, 64)


async def test_no_photo(pexels: Pexels, stock: StockPhotos) -> None:
    pexels.search = (200, b'{"photos": []}')
    with pytest.raises(errors.NotFound):
        await stock.fetch("rocks", 64, 64)


@pytest.mark.parametrize(
    "body", [b"", b"<svg/>", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, b"\xff\xd8\xff" + b"\0" * 200_000]
)
async def test_something_that_is_no_photo_or_too_large(pexels: Pexels, stock: StockPhotos, body: bytes) -> None:
    pexels.image = (200, body)
    with pytest.raises(errors.Unavailable):
        await stock.fetch("rocks", 64, 64)


async def test_a_photo_elsewhere_is_not_fetched(pexels: Pexels) -> None:
    async with open_stock(options(pexels, pexels_image_hosts="images.pexels.com")) as stock:
        with pytest.raises(errors.Unavailable, match="not allowed"):
            await stock.fetch("rocks", 64, 64)
    assert [path for path, _, _ in pexels.requests] == ["/v1/search"]


async def test_nobody_answers(pexels: Pexels) -> None:
    async with open_stock(options(pexels, pexels_api_url="http://127.0.0.1:9")) as stock:
        with pytest.raises(errors.Unavailable):
            await stock.fetch("rocks", 64, 64)


@pytest.mark.parametrize(
    "url",
    [
        "http://images.pexels.com/photos/1/a.jpeg",
        "ftp://images.pexels.com/photos/1/a.jpeg",
        "https://images.pexels.com:8443/photos/1/a.jpeg",
        "https://user:word@images.pexels.com/photos/1/a.jpeg",
        "//images.pexels.com/photos/1/a.jpeg",
        "//[/x",
        "https://images.pexels.com:x/a.jpeg",
        "file:///etc/passwd",
    ],
)
async def test_a_photo_is_fetched_from_an_https_url_of_an_allowed_host_only(pexels: Pexels, url: str) -> None:
    pexels.search = (200, json.dumps({"photos": [{"src": {"original": url}}]}).encode())
    async with open_stock(options(pexels, pexels_image_hosts="images.pexels.com")) as stock:
        with pytest.raises(errors.Unavailable, match=r"not allowed|not at an https URL"):
            await stock.fetch("rocks", 64, 64)
    assert [path for path, _, _ in pexels.requests] == ["/v1/search"]


async def test_a_host_with_a_private_address_is_not_asked(pexels: Pexels, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    pexels.search = (200, json.dumps({"photos": [{"src": {"original": "https://localhost/a.jpeg"}}]}).encode())
    async with open_stock(options(pexels, pexels_image_hosts="localhost")) as stock:
        with pytest.raises(errors.Unavailable, match="private address"):
            await stock.fetch("rocks", 64, 64)


@pytest.mark.parametrize(
    "url", ["http://api.pexels.com/v1", "ftp://127.0.0.1", "https://", "https://u:p@api.pexels.com"]
)
def test_the_address_of_the_api_is_https(pexels: Pexels, url: str) -> None:
    with pytest.raises(ValueError, match=r"https|scheme"):
        options(pexels, pexels_api_url=url)
