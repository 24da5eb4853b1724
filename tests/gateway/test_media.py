"""The bytes of images: conditional requests, ranges, redirects, invalid keys."""

import asyncio
import hashlib
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from frontispiece.storage.v1 import images_pb2
from frontispiece.types.v1 import image_pb2
from google.protobuf.duration_pb2 import Duration

from gateway.routes import media
from gateway.routes.media import WHOLE, Range, parse_range
from rpc import errors
from tests.gateway.conftest import SMALL, assert_problem
from tests.gateway.scripted import Scripted, stored_image
from tests.stack import Stack

FOREVER = "public, max-age=31536000, immutable"


@pytest.fixture(scope="module")
def picture(stack: Stack) -> tuple[str, bytes, str]:
    """Path, bytes and ETag of a stored picture."""
    with httpx2.Client(base_url=stack.base_url, headers=stack.authorization, timeout=120) as editor:
        body = editor.post("/api/media/generate-image", json=SMALL).json()
        path = urlsplit(body["image_url"]).path
        return path, editor.get(path).content, '"{}"'.format(body["images"][0]["sha256"])


class TestWhole:
    async def test_an_image_has_its_bytes_and_headers(
        self, reader: httpx2.AsyncClient, picture: tuple[str, bytes, str]
    ) -> None:
        path, content, etag = picture
        response = await reader.get(path)
        assert response.status_code == 200
        assert etag == f'"{hashlib.sha256(response.content).hexdigest()}"' == response.headers["etag"]
        assert response.headers["content-type"] == "image/png"
        assert response.headers["content-length"] == str(len(content))
        assert response.headers["cache-control"] == FOREVER
        assert response.headers["accept-ranges"] == "bytes"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["content-security-policy"] == "default-src 'none'; sandbox"

    async def test_head_has_the_same_headers_and_no_body(
        self, reader: httpx2.AsyncClient, picture: tuple[str, bytes, str]
    ) -> None:
        path, _, _ = picture
        get, head = await reader.get(path), await reader.head(path)
        assert head.status_code == 200
        assert head.content == b""
        volatile = {"date", "x-request-id"}
        assert {k: v for k, v in get.headers.items() if k not in volatile} == {
            k: v for k, v in head.headers.items() if k not in volatile
        }

    async def test_a_current_etag_is_304(self, reader: httpx2.AsyncClient, picture: tuple[str, bytes, str]) -> None:
        path, content, etag = picture
        for value in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            for method in ("GET", "HEAD"):
                response = await reader.request(method, path, headers={"if-none-match": value})
                assert response.status_code == 304
                assert response.content == b""
                assert response.headers["etag"] == etag
                assert response.headers["cache-control"] == FOREVER
        response = await reader.get(path, headers={"if-none-match": '"other"'})
        assert response.content == content

    async def test_writes_are_405(self, editor: httpx2.AsyncClient, picture: tuple[str, bytes, str]) -> None:
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert_problem(await editor.request(method, picture[0]), 405, "METHOD_NOT_ALLOWED")


class TestRanges:
    async def test_each_kind_of_range_is_served(
        self, reader: httpx2.AsyncClient, picture: tuple[str, bytes, str]
    ) -> None:
        path, content, _ = picture
        size = len(content)
        for value, first, last in (
            ("bytes=0-0", 0, 0),
            ("bytes=0-99", 0, 99),
            ("bytes=100-", 100, size - 1),
            ("bytes=-1", size - 1, size - 1),
            ("bytes=-100", size - 100, size - 1),
            (f"bytes=-{size + 5}", 0, size - 1),
            (f"bytes={size - 1}-", size - 1, size - 1),
            (f"bytes=10-{size + 100}", 10, size - 1),
        ):
            response = await reader.get(path, headers={"range": value})
            assert response.status_code == 206, value
            assert response.content == content[first : last + 1]
            assert response.headers["content-range"] == f"bytes {first}-{last}/{size}"
            assert response.headers["content-length"] == str(last - first + 1)

    async def test_ranges_join_to_the_whole(self, reader: httpx2.AsyncClient, picture: tuple[str, bytes, str]) -> None:
        path, content, _ = picture
        step = 7919
        pieces = [
            (await reader.get(path, headers={"range": f"bytes={start}-{start + step - 1}"})).content
            for start in range(0, len(content), step)
        ]
        assert b"".join(pieces) == content

    async def test_a_range_after_the_end_is_416(
        self, reader: httpx2.AsyncClient, picture: tuple[str, bytes, str]
    ) -> None:
        path, content, _ = picture
        for value in (f"bytes={len(content)}-", "bytes=999999999999-", "bytes=-0"):
            response = await reader.get(path, headers={"range": value})
            assert_problem(response, 416, "OUT_OF_RANGE")
            assert response.headers["content-range"] == f"bytes */{len(content)}"

    @pytest.mark.parametrize(
        "value", ["bytes=9-1", "bytes=", "bytes=a-b", "items=0-1", "bytes=0-1,5-6", "bytes=--1", "0-1", "bytes=1.5-"]
    )
    async def test_an_invalid_or_multiple_range_is_ignored(
        self, reader: httpx2.AsyncClient, picture: tuple[str, bytes, str], value: str
    ) -> None:
        path, content, _ = picture
        response = await reader.get(path, headers={"range": value})
        assert (response.status_code, response.content) == (200, content)

    async def test_if_range_serves_the_whole_unless_the_etag_is_current(
        self, reader: httpx2.AsyncClient, picture: tuple[str, bytes, str]
    ) -> None:
        path, content, etag = picture
        response = await reader.get(path, headers={"range": "bytes=0-9", "if-range": etag})
        assert (response.status_code, response.content) == (206, content[:10])
        for other in ('"other"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
            response = await reader.get(path, headers={"range": "bytes=0-9", "if-range": other})
            assert (response.status_code, response.content) == (200, content)

    def test_the_range_header_is_parsed(self) -> None:
        assert parse_range("bytes=5-9") == Range(5, 5)
        assert parse_range("bytes = 5 - 9") == Range(5, 5)
        assert parse_range("Bytes=5-9") == parse_range("BYTES=5-9") == Range(5, 5)
        assert parse_range("bytes=-9") == Range(-9, 0)
        assert parse_range("") is WHOLE
        assert parse_range("bytes=" + "9" * 30 + "-") is WHOLE


class TestKeys:
    @pytest.mark.parametrize(
        "path",
        [
            "/media/",
            "/media/generated/nothing.png",
            "/media/../token",
            "/media/..%2f..%2ftoken",
            "/media/%2e%2e/%2e%2e/etc/passwd",
            "/media/generated/%2e%2e/%2e%2e/token",
            "/media//etc/passwd",
            "/media/%2fetc%2fpasswd",
            "/media/..%5c..%5ctoken",
            "/media/C:%5cwindows",
            "/media/generated/x%00.png",
            "/media/generated/x%0d%0aSet-Cookie:a=b",
            "/media/%ff%fe",
            "/media/caf%C3%A9.png",
            "/media/generated/" + "x" * 600,
            "/media/.spool/x",
            "/media/generated/./x.png",
            "/media/generated/x.png.json",
            "/media/generated/%24%7Bjndi%7D",
            "/media/%252e%252e%252ftoken",
        ],
    )
    async def test_invalid_keys_are_404(self, reader: httpx2.AsyncClient, path: str) -> None:
        request = reader.build_request("GET", "/media/x")
        request.url = request.url.copy_with(raw_path=path.encode())
        assert_problem(await reader.send(request), 404)

    async def test_files_next_to_an_image_are_not_served(
        self, reader: httpx2.AsyncClient, picture: tuple[str, bytes, str]
    ) -> None:
        for suffix in (".json", ".meta", ".tmp", "/", "/.."):
            assert (await reader.get(picture[0] + suffix)).status_code == 404
        assert (await reader.get(picture[0].rsplit("/", 1)[0])).status_code == 404


def header(**fields: Any) -> images_pb2.GetImageResponse:
    """The first message of a read."""
    file = image_pb2.ImageFile(content_type=fields.pop("content_type", "image/png"), size_bytes=8, sha256="ab")
    image = images_pb2.Image(
        image=stored_image(file=file), backend=fields.pop("backend", images_pb2.IMAGE_BACKEND_LOCAL)
    )
    return images_pb2.GetImageResponse(header=images_pb2.GetImageHeader(image=image, **fields))


class TestElsewhere:
    """What only a store in the cloud answers."""

    @staticmethod
    def answers(front: Scripted, *parts: Any) -> None:
        async def script(request: Any) -> Any:
            for part in parts:
                if isinstance(part, Exception):
                    raise part
                yield part

        front.scripts.on("GetImage", script)

    @pytest.mark.parametrize(("ttl", "expected"), [(900, "450"), (1, "0"), (0, "0"), (86400, "3600"), (None, "3600")])
    async def test_a_redirect_is_cached_for_half_of_its_lifetime(
        self, front: Scripted, ttl: int | None, expected: str
    ) -> None:
        limit = {"redirect_ttl": Duration(seconds=ttl)} if ttl is not None else {}
        address = "https://cdn.example/generated/x.png?sig=1"
        self.answers(front, header(redirect_url=address, backend=images_pb2.IMAGE_BACKEND_S3, **limit))
        for method in ("GET", "HEAD"):
            response = await front.client.request(method, "/media/generated/x.png")
            assert response.status_code == 302
            assert response.headers["location"] == address
            assert response.headers["cache-control"] == f"public, max-age={expected}"
        assert front.scripts.sent("GetImage")[0].accept_redirect

    async def test_a_redirect_that_is_not_http_is_refused(self, front: Scripted) -> None:
        self.answers(front, header(redirect_url="javascript:alert(1)"))
        assert_problem(await front.client.get("/media/generated/x.png"), 502)

    async def test_an_image_that_will_move_is_not_immutable(self, front: Scripted) -> None:
        for backend in (images_pb2.IMAGE_BACKEND_SPOOL, images_pb2.IMAGE_BACKEND_S3):
            self.answers(front, header(backend=backend, range_size=8), images_pb2.GetImageResponse(chunk=b"12345678"))
            response = await front.client.get("/media/generated/x.png")
            assert response.content == b"12345678"
            assert response.headers["cache-control"] == "public, max-age=300"

    async def test_an_unknown_content_type_is_served_as_bytes(self, front: Scripted) -> None:
        parts = header(content_type="text/html", range_size=8), images_pb2.GetImageResponse(chunk=b"<script>")
        self.answers(front, *parts)
        response = await front.client.get("/media/generated/x.png")
        assert response.headers["content-type"] == "application/octet-stream"
        assert "sandbox" in response.headers["content-security-policy"]

    async def test_a_broken_read_ends_the_response_early(self, front: Scripted) -> None:
        half = images_pb2.GetImageResponse(chunk=b"1234")
        for parts in ((header(range_size=8), half, errors.Unavailable("gone")), (header(range_size=8), half)):
            self.answers(front, *parts)
            with pytest.raises(httpx2.RemoteProtocolError):
                await front.client.get("/media/generated/x.png")

    @pytest.mark.parametrize(
        ("error", "status"),
        [
            (errors.Unavailable("s3 says no"), 503),
            (errors.Internal("secret of the store"), 500),
            (errors.NotFound("no"), 404),
            (errors.InvalidArgument("bad key"), 404),
        ],
    )
    async def test_a_failed_read_is_a_problem(self, front: Scripted, error: Exception, status: int) -> None:
        self.answers(front, error)
        assert_problem(await front.client.get("/media/generated/x.png"), status)


class TestSlowReaders:
    """A client that takes nothing costs storage nothing, and gets all bytes when it takes them again."""

    SIZE = 24 * 1024 * 1024  # more than the buffers of both sockets

    def script(self, front: Scripted) -> asyncio.Event:
        """GetImage sends the wanted bytes; the event is set when a call ends before its last byte."""
        given_up = asyncio.Event()

        async def script(request: Any) -> Any:
            start = request.offset
            first = header(range_start=start, range_size=self.SIZE - start)
            first.header.image.image.file.size_bytes = self.SIZE
            yield first
            try:
                for position in range(start, self.SIZE, 65536):
                    yield images_pb2.GetImageResponse(chunk=(position // 65536 % 251).to_bytes() * 65536)
            except (GeneratorExit, asyncio.CancelledError):
                given_up.set()
                raise

        front.scripts.on("GetImage", script)
        return given_up

    async def test_the_call_of_a_stalled_client_ends_and_another_one_continues(
        self, front: Scripted, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(media, "_STALLED_SECONDS", 0.2)
        given_up = self.script(front)
        address = urlsplit(front.base_url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"GET /media/generated/x.png HTTP/1.1\r\nhost: a\r\n\r\n")
        async with asyncio.timeout(60):
            await given_up.wait()
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(self.SIZE)
        writer.close()
        assert b" 200 " in head.splitlines()[0]
        assert hashlib.sha256(body).digest() == hashlib.sha256(self.whole()).digest()
        first, *others = front.scripts.sent("GetImage")
        assert (first.offset, first.accept_redirect) == (0, True)
        assert others
        for request in others:
            assert request.offset % 65536 == 0
            assert request.limit == self.SIZE - request.offset
            assert not request.accept_redirect, "the response has begun"

    def whole(self) -> bytes:
        return b"".join((position // 65536 % 251).to_bytes() * 65536 for position in range(0, self.SIZE, 65536))
