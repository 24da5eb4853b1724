"""Connections that their clients hold, and readers that are slow."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from frontispiece.posts.v1 import posts_pb2

from gateway.middleware.metrics import GatewayMetrics
from gateway.middleware.pieces import PiecesMiddleware
from gateway.serving.connections import connections
from gateway.serving.protocol import ABORT, PIECE_BYTES
from gateway.settings import GatewaySettings
from tests.gateway.full import MEBIBYTE, long_post
from tests.gateway.scripted import EDITOR, Scripted, scripted
from tests.gateway.streams import PATH as EVENTS
from tests.gateway.streams import forever, until
from tests.gateway.test_connections import HEAD, connect, problem

GET = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
STREAM = f"GET {EVENTS} HTTP/1.1\r\nhost: x\r\nauthorization: {EDITOR['authorization']}\r\n\r\n".encode()
COUNTED = {"trusted_proxies": "192.0.2.1"}  # the tests come from 127.0.0.1
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def opened() -> AsyncIterator[list[Pair]]:
    """Connections that are closed after the test."""
    pairs: list[Pair] = []
    yield pairs
    for _, writer in pairs:
        writer.close()


async def answer(pair: Pair, request: bytes) -> bytes:
    """Send a request; the head of its response."""
    pair[1].write(request)
    return await asyncio.wait_for(pair[0].readuntil(b"\r\n\r\n"), 30)


async def is_closed(pair: Pair) -> bool:
    """Read until the other side closes."""
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(pair[0].read(), 30)
    pair[1].close()
    return True


@contextlib.asynccontextmanager
async def dribbling(pair: Pair, piece: bytes) -> AsyncIterator[None]:
    """Send `piece` again and again."""

    async def dribble() -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                pair[1].write(piece)
                await pair[1].drain()
                await asyncio.sleep(0.02)

    task = asyncio.create_task(dribble())
    yield
    task.cancel()


def metric(front: Scripted, name: str, **labels: str) -> float:
    return front.context.metrics.registry.get_sample_value(name, labels) or 0.0


class TestIdle:
    @pytest.mark.parametrize(
        ("request_head", "dribble"),
        [
            (GET, b"\r\n"),
            (GET.replace(b"\r\n\r\n", b"\r\ncontent-length: 100000\r\n\r\n"), b"x"),
            (GET.replace(b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n1"), b"0"),
            (HEAD.encode() + b"content-length: 100000\r\n\r\n", b"x"),
            (GET, b""),
            (b"", b"\r\n"),
            (b"GET /healthz HTTP/1.1\r\nhost: ", b"x"),
        ],
        ids=["empty lines", "a body", "a chunk", "a refused body", "nothing", "no request", "a head"],
    )
    async def test_no_byte_keeps_a_connection_without_a_request_open(self, request_head: bytes, dribble: bytes) -> None:
        async with scripted(client_seconds=0.5, idle_seconds=0.5) as front:
            pair = await connect(front)
            pair[1].write(request_head)
            async with dribbling(pair, dribble):
                assert await is_closed(pair)
            await until(lambda: metric(front, "gateway_connections") == 0)

    async def test_idle_connections_stay_longer_than_incomplete_requests(self) -> None:
        async with scripted(client_seconds=0.3, idle_seconds=60) as front:
            kept, late = await connect(front), await connect(front)
            assert (await answer(kept, GET)).startswith(b"HTTP/1.1 200")
            late[1].write(b"GET")
            assert await is_closed(late)
            assert b"HTTP/1.1 200" in await answer(kept, GET)
            kept[1].close()

    async def test_a_body_that_drips_is_refused_although_each_part_is_in_time(self) -> None:
        async with scripted(client_seconds=1) as front:
            pair = await connect(front)
            pair[1].write(
                (HEAD + f"authorization: {EDITOR['authorization']}\r\ncontent-length: 100000\r\n\r\n").encode()
            )
            async with dribbling(pair, b" "):
                assert problem(await asyncio.wait_for(pair[0].read(4096), 30)) == (408, "BODY_TOO_SLOW")
            pair[1].close()

    async def test_a_partial_request_waits_for_the_response_before_it(self) -> None:
        async with scripted(client_seconds=0.3) as front:
            front.scripts.on("ListTags", lambda _: asyncio.sleep(1, posts_pb2.ListTagsResponse()))
            pair = await connect(front)
            first = await answer(pair, b"GET /api/tags HTTP/1.1\r\nhost: x\r\n\r\n" + GET[:10])
            assert first.startswith(b"HTTP/1.1 200")
            pair[1].write(GET[10:])
            assert b"alive" in await asyncio.wait_for(pair[0].readuntil(b"alive"), 10)
            pair[1].close()


class TestBounds:
    @pytest.mark.parametrize(
        ("settings", "status"),
        [({"max_connections": 3}, 503), ({"max_connections_per_address": 3, **COUNTED}, 429)],
        ids=["in all", "from one address"],
    )
    async def test_the_one_that_was_idle_longest_gives_way_and_busy_ones_stay(
        self, settings: dict[str, Any], status: int, opened: list[Pair]
    ) -> None:
        async with scripted(**settings) as front:
            forever(front)
            pairs = [await connect(front) for _ in range(3)]
            for pair in pairs:
                assert (await answer(pair, GET)).startswith(b"HTTP/1.1 200")
            await answer(pairs[0], STREAM)  # the oldest is busy
            newer = [await connect(front) for _ in range(2)]
            opened += [*pairs, *newer]
            for pair in newer:
                assert (await answer(pair, STREAM)).startswith(b"HTTP/1.1 200")
            assert await is_closed(pairs[1])
            assert await is_closed(pairs[2])
            opened.append(refused := await connect(front))
            refused[1].write(GET.replace(b"\r\n\r\n", b"\r\nx-forwarded-for: 203.0.113.9\r\n\r\n"))
            said = await asyncio.wait_for(refused[0].read(), 30)
            assert problem(said) == (status, "TOO_MANY_CONNECTIONS")
            assert b"retry-after: " in said
            assert metric(front, "gateway_connections") == 3
            assert metric(front, "gateway_connections_cut_total", reason="gave_way") == 2
            assert metric(front, "gateway_connections_cut_total", reason="refused") == 1
            newer[0][1].close()
            await until(lambda: metric(front, "gateway_connections") < 3)
            opened.append(last := await connect(front))
            assert (await answer(last, GET)).startswith(b"HTTP/1.1 200")

    async def test_a_proxy_on_this_machine_stands_for_many_clients(self, opened: list[Pair]) -> None:
        async with scripted(max_connections_per_address=1) as front:
            forever(front)
            for _ in range(3):
                opened.append(pair := await connect(front))
                assert (await answer(pair, STREAM)).startswith(b"HTTP/1.1 200")

    @pytest.mark.parametrize(
        ("peer", "counted"),
        [
            (("192.0.2.7", 1), "192.0.2.7"),
            (("::ffff:192.0.2.7", 1, 0, 0), "192.0.2.7"),
            (("2001:db8:1:2:3:4:5:6", 1, 0, 0), "2001:db8:1:2::/64"),
            (("fe80::1%eth0", 1, 0, 0), "fe80::/64"),
            (("127.0.0.1", 1), ""),
            (("::1", 1, 0, 0), ""),
            (("10.1.2.3", 1), ""),
            ("", ""),
            (None, ""),
        ],
    )
    async def test_what_counts_as_one_address(self, peer: Any, counted: str) -> None:
        settings = GatewaySettings(trusted_proxies="127.0.0.0/8, ::1, 10.0.0.0/8")
        assert connections(settings, GatewayMetrics()).bounded_address(peer) == counted


def slow(front: Scripted, path: str) -> socket.socket:
    """A reader with a small buffer, which has asked for `path`."""
    host, port = front.base_url.removeprefix("http://").split(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.connect((host, int(port)))
    client.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    client.setblocking(False)
    return client


def waiting(front: Scripted) -> int:
    """The largest number of bytes that wait in this process for one client."""
    sizes = [one.transport.get_write_buffer_size() for one in front.http.server_state.connections]  # type: ignore[union-attr]
    return max(sizes, default=0)


def page(front: Scripted) -> str:
    posts = [long_post(number) for number in range(100)]
    front.scripts.on("ListPosts", lambda _: posts_pb2.ListPostsResponse(posts=posts))
    return "/api/posts?page_size=100"


PATHS: list[tuple[str, Callable[[Scripted], str]]] = [
    ("an image", lambda front: "/media/generated/1-x.png"),
    ("a page of posts", page),
]


@pytest.mark.parametrize("path", [p for _, p in PATHS], ids=[name for name, _ in PATHS])
class TestSlowReaders:
    async def test_a_reader_below_the_minimum_is_cut_off(self, full: Scripted, path: Callable[[Scripted], str]) -> None:
        asked = path(full)
        async with full.rebuilt(stalled_seconds=1.5) as front:
            with contextlib.closing(slow(front, asked)) as client:
                loop = asyncio.get_running_loop()
                got, ends = 0, loop.time() + 60
                with contextlib.suppress(ConnectionError):
                    while loop.time() < ends:
                        await asyncio.sleep(0.1)
                        with contextlib.suppress(BlockingIOError):
                            if not (piece := client.recv(64)):
                                break
                            got += len(piece)
                assert 0 < got < MEBIBYTE
            assert metric(front, "gateway_connections_cut_total", reason="slow_reader") == 1

    async def test_little_waits_for_a_reader(self, full: Scripted, path: Callable[[Scripted], str]) -> None:
        with contextlib.closing(slow(full, path(full))):
            await until(lambda: waiting(full) > 0)
            for _ in range(50):
                await asyncio.sleep(0.01)
                assert waiting(full) <= 2 * PIECE_BYTES

    async def test_a_reader_in_time_gets_all(self, full: Scripted, path: Callable[[Scripted], str]) -> None:
        response = await full.client.get(path(full), headers={"accept-encoding": "identity"})
        assert len(response.content) == int(response.headers["content-length"]) > 8 * MEBIBYTE - 1


async def test_little_of_an_image_is_read_ahead_of_a_reader(full: Scripted) -> None:
    taken = 0
    whole = full.scripts.methods["GetImage"]

    async def counted(request: Any) -> Any:
        nonlocal taken
        async for part in whole(request):
            yield part
            taken += len(part.chunk)

    full.scripts.on("GetImage", counted)
    with contextlib.closing(slow(full, "/media/generated/1-x.png")):
        await until(lambda: waiting(full) > 0)
        await asyncio.sleep(0.5)
        assert taken <= MEBIBYTE  # pieces of a quarter of one: on its way here, here, in the window, in the kernel


class TestPending:
    async def test_the_reader_that_has_taken_longest_is_cut_off_when_many_large_answers_wait(self) -> None:
        body, cut = b"x" * 10 * PIECE_BYTES, []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.body", "body": body})

        middleware = PiecesMiddleware(app, cut=lambda: cut.append(1), most=2 * len(body))
        gates = [asyncio.Event() for _ in range(3)]
        got: list[list[bytes]] = [[], [], []]
        aborted = []

        async def read(number: int) -> None:
            async def send(message: Any) -> None:
                got[number].append(bytes(message["body"]))
                assert message["more_body"] == (len(got[number]) < 10)
                await gates[number].wait()

            scope = {"type": "http", "extensions": {ABORT: {"abort": lambda: aborted.append(number)}}}
            await middleware(scope, None, send)  # type: ignore[arg-type]

        tasks = [asyncio.create_task(read(number)) for number in range(3)]
        await until(lambda: aborted == [0])
        for gate in gates:
            gate.set()
        await asyncio.gather(*tasks)
        assert [len(pieces) for pieces in got] == [1, 10, 10]
        assert b"".join(got[1]) == body
        assert cut == [1]
