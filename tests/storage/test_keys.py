"""Keys and URLs: the same for every caller, and safe on every backend."""

import re

import grpc
import pytest
from frontispiece.storage.v1 import images_pb2
from hypothesis import given
from hypothesis import strategies as st

from rpc import errors, validation
from rpc.image_urls import ImageUrls
from services.storage.keys import folder_of, image_key
from tests.storage.conftest import TIME, Client, stream, upload_header

GENERATED = re.compile(r"generated/1790000000-[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.png")

WRONG_KEYS = [
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
    "generated/" + "a/" * 260 + "a",
    "a" * 513,
]


def header(request_id: str = "request-1", seconds: int | None = TIME, nanos: int = 0) -> images_pb2.StoreImageHeader:
    message = images_pb2.StoreImageHeader(request_id=request_id)
    if seconds is not None:
        message.request_time.seconds = seconds
        message.request_time.nanos = nanos
    return message


class TestKeys:
    def test_a_key_has_the_time_and_a_uuid(self) -> None:
        assert GENERATED.fullmatch(image_key(header(), "ab" * 32, "png"))

    def test_the_same_request_and_bytes_give_the_same_key_in_every_process(self) -> None:
        """If this value changed, a retry across a deployment would store an image twice."""
        key = image_key(header(), "ab" * 32, "png")
        assert key == "generated/1790000000-12795dc3-7bdf-52fa-9396-dd4dd1979f74.png"

    def test_a_request_without_a_time_has_a_folder(self) -> None:
        one, other = (image_key(header(seconds=None), digest * 32, "png") for digest in ("ab", "cd"))
        assert one == "generated/a71083f9-4a2d-5581-b0c4-0f84535e7204/12795dc3-7bdf-52fa-9396-dd4dd1979f74.png"
        assert one != other
        assert folder_of(one) == folder_of(other)
        assert folder_of(one) != folder_of(image_key(header("request-2", None), "ab" * 32, "png"))

    def test_only_the_seconds_of_the_time_matter(self) -> None:
        assert image_key(header(), "a", "png") == image_key(header(nanos=999), "a", "png")
        assert image_key(header(), "a", "png") != image_key(header(seconds=TIME + 1), "a", "png")

    @given(st.text(alphabet="abc-", min_size=1), st.text(alphabet="abc-", min_size=1))
    def test_request_and_checksum_cannot_be_confused(self, one: str, other: str) -> None:
        first, second = image_key(header(one), other, "png"), image_key(header(other), one, "png")
        assert (first == second) == (one == other)

    @pytest.mark.parametrize("seconds", [TIME, None], ids=["with time", "without time"])
    def test_every_key_that_is_made_is_accepted(self, seconds: int | None) -> None:
        for extension in ("png", "jpg", "webp"):
            key = image_key(header(seconds=seconds), "ab" * 32, extension)
            validation.check(images_pb2.GetImageRequest(key=key))

    @pytest.mark.parametrize("key", ["generated/a.png", "x/y/z", "a!_.*'()-b", "generated/" + "a" * 300, "a.b/c..d"])
    async def test_an_accepted_key_of_no_image_is_not_found(self, local: Client, key: str) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await local.get(key)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    @pytest.mark.parametrize("key", WRONG_KEYS)
    async def test_a_wrong_key_is_refused_by_every_method(self, local: Client, key: str) -> None:
        for call in (local.get(key), local.set_state(key, images_pb2.IMAGE_STATE_DRAFT)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            error = errors.from_call(caught.value)
            assert error.code is grpc.StatusCode.INVALID_ARGUMENT
            assert [violation.field for violation in error.violations] == ["key"]

    async def test_every_wrong_field_of_a_header_is_named_at_once(self, local: Client) -> None:
        wrong = upload_header(b"x", request_id="a b", task_id="no", sha256="no", size_bytes=1 << 40)
        request = images_pb2.StoreImageRequest(header=wrong)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await local.stub.StoreImage(stream([request]), timeout=10)
        named = {violation.field for violation in errors.from_call(caught.value).violations}
        assert named == {"header.request_id", "header.task_id", "header.sha256", "header.size_bytes"}


def test_urls_with_and_without_a_cdn() -> None:
    plain = ImageUrls("https://blog.example.org")
    cdn = ImageUrls("https://blog.example.org", "https://d1.cloudfront.net")
    assert plain.url("generated/a.png", in_bucket=True) == "https://blog.example.org/media/generated/a.png"
    assert plain.cdn("generated/a.png") is None
    assert cdn.url("generated/a.png", in_bucket=True) == "https://d1.cloudfront.net/generated/a.png"
    assert cdn.url("generated/a.png", in_bucket=False) == "https://blog.example.org/media/generated/a.png"
    assert cdn.base_url == "https://d1.cloudfront.net"
