"""Keys and URLs: deterministic, safe on every backend, the same for every caller."""

import re
from datetime import UTC, datetime, timedelta, timezone

import grpc
import pytest
from frontispiece.storage.v1 import images_pb2
from hypothesis import given
from hypothesis import strategies as st

from rpc import errors
from services.storage.keys import check_key, folder_of, image_key
from services.storage.urls import Urls
from tests.storage.conftest import Client

TIME = datetime(2026, 9, 21, 14, 13, 20, 999999, tzinfo=UTC)
GENERATED = re.compile(r"generated/1790000000-[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.png")

BAD_KEYS = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../secret",
    "generated/../../etc/passwd",
    "generated/..",
    "generated/./a.png",
    "generated/.probe",
    ".meta/generated/a.png",
    ".tmp/a",
    "generated//a.png",
    "generated/",
    "/generated/a.png",
    "generated\\..\\a.png",
    "generated/%2e%2e/secret",
    "generated/a.png\0",
    "generated/a.png\n",
    "generated/a b.png",
    "generated/a.png?x=1",
    "generated/a.png#x",
    "generated/картинка.png",
    "generated/\u202egnp.exe",
    "generated/．．/a.png",
    "generated/~root",
    "generated/$(id).png",
    "generated/a:b.png",
    "generated/" + "a" * 201,
    "generated/" + "a/" * 260 + "a",
    "a" * 900,
]


class TestKeys:
    def test_the_form(self) -> None:
        assert GENERATED.fullmatch(image_key("request-1", TIME, "ab" * 32, "image/png"))

    def test_the_same_request_and_bytes_give_the_same_key_in_every_process(self) -> None:
        """Were this value to change, a retry across a deployment would store an image twice."""
        key = image_key("request-1", TIME, "ab" * 32, "image/png")
        assert key == "generated/1790000000-12795dc3-7bdf-52fa-9396-dd4dd1979f74.png"

    def test_without_a_time_a_request_has_a_folder(self) -> None:
        one, other = (image_key("request-1", None, digest * 32, "image/png") for digest in ("ab", "cd"))
        assert one == "generated/a71083f9-4a2d-5581-b0c4-0f84535e7204/12795dc3-7bdf-52fa-9396-dd4dd1979f74.png"
        assert one != other
        assert folder_of(one) == folder_of(other) != folder_of(image_key("request-2", None, "ab" * 32, "image/png"))
        assert check_key(one) == one

    def test_the_time_zone_does_not_matter_and_the_second_does(self) -> None:
        there = TIME.astimezone(timezone(timedelta(hours=9)))
        assert image_key("r", TIME, "a", "image/png") == image_key("r", there, "a", "image/png")
        assert image_key("r", TIME, "a", "image/png") != image_key("r", TIME + timedelta(seconds=1), "a", "image/png")

    @given(st.text(alphabet="abc-", min_size=1), st.text(alphabet="abc-", min_size=1))
    def test_request_and_checksum_cannot_be_confused(self, one: str, other: str) -> None:
        first, second = image_key(one, TIME, other, "image/png"), image_key(other, TIME, one, "image/png")
        assert (first == second) == (one == other)

    def test_every_generated_key_is_a_good_one(self) -> None:
        for content_type in ("image/png", "image/jpeg", "image/webp"):
            assert check_key(image_key("request", TIME, "ab" * 32, content_type))

    @pytest.mark.parametrize("key", ["a", "generated/a.png", "x/y/z", "a!_.*'()-b", "a" * 200, "a.b/c..d"])
    def test_other_good_keys(self, key: str) -> None:
        assert check_key(key) == key

    @pytest.mark.parametrize("key", BAD_KEYS)
    async def test_bad_keys_are_refused_by_every_method(self, local: Client, key: str) -> None:
        resolve = local.stub.ResolveUrls(images_pb2.ResolveUrlsRequest(keys=[key]), timeout=10)
        for call in (local.get(key), local.set_state(key, 1), resolve):  # type: ignore[arg-type]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            error = errors.from_call(caught.value)
            assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "KEY_INVALID")


class TestUrls:
    async def test_in_the_order_of_the_keys_whether_they_exist_or_not(self, local: Client) -> None:
        keys = ["generated/b.png", "generated/a.png", "generated/b.png"]
        answer = await local.stub.ResolveUrls(images_pb2.ResolveUrlsRequest(keys=keys), timeout=10)
        assert [(url.key, url.url) for url in answer.urls] == [
            (key, f"http://127.0.0.1:8080/media/{key}") for key in keys
        ]

    async def test_a_hundred_keys_and_no_more(self, local: Client) -> None:
        keys = [f"generated/{number}.png" for number in range(101)]
        answer = await local.stub.ResolveUrls(images_pb2.ResolveUrlsRequest(keys=keys[:100]), timeout=10)
        assert len(answer.urls) == 100
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await local.stub.ResolveUrls(images_pb2.ResolveUrlsRequest(keys=keys), timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert not (await local.stub.ResolveUrls(images_pb2.ResolveUrlsRequest(), timeout=10)).urls

    def test_with_and_without_a_cdn(self) -> None:
        plain, cdn = Urls("https://blog.example.org"), Urls("https://blog.example.org", "https://d1.cloudfront.net")
        assert plain.lasting("generated/a.png") == "https://blog.example.org/media/generated/a.png"
        assert plain.cdn("generated/a.png") is None
        assert cdn.lasting("generated/a.png") == "https://d1.cloudfront.net/generated/a.png"
        assert cdn.media("generated/a.png") == "https://blog.example.org/media/generated/a.png"
        assert cdn.base_url == "https://d1.cloudfront.net"
