"""The limits of requests: the options of their fields, and the rules of `decode`. Only the last tests need a server."""

import math
import uuid
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import posts_pb2 as p
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.types.v1.generation_pb2 import GenerationParameters, InitialImage, Lora
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from rpc import errors
from rpc.validation import check
from services.posts.api import decode
from tests.posts.conftest import Client, wrong_fields
from tests.posts.leaves import png

ID = str(uuid.uuid4())
MASK = png(3, 16, 16)

DECODE: dict[type[Message], Any] = {
    t.CreateTaskRequest: decode.new_task,
    t.ApproveTaskRequest: decode.approval,
    p.CreatePostRequest: decode.new_post,
    p.UpdatePostRequest: decode.post_change,
    p.ListPostsRequest: decode.post_filter,
}


def refused(request: Message) -> set[str]:
    """The fields that the server would name as wrong."""
    try:
        check(request)
        DECODE.get(type(request), lambda _: None)(request)
    except errors.InvalidArgument as error:
        return {violation.field for violation in error.violations}
    return set()


def cases(table: list[tuple[str, list[Any], list[Any]]]) -> list[Any]:
    """One case for each value: field, value, whether it is accepted."""
    found = []
    for name, fine, bad in table:
        for values, is_fine in ((fine, True), (bad, False)):
            found += [
                pytest.param(name, value, is_fine, id=f"{name}-{'fine' if is_fine else 'bad'}-{number}")
                for number, value in enumerate(values)
            ]
    return found


PARAMETERS: list[tuple[str, list[Any], list[Any]]] = [
    ("prompt", ["x", "x" * 2000, "é" * 2000, "e\u0301" * 2000, "😀" * 2000], ["", "   ", "x" * 2001, "x" * 100_000]),
    ("prompt", ["zero\u200dwidth joiner", "‮rtl", "a\nb", "a\tb"], ["a\x00b", "a\x7fb", "\x1b[31m"]),
    ("negative_prompt", ["", "x" * 2000], ["x" * 2001, "a\x00b"]),
    ("width", [64, 4096, 520], [0, 63, 56, 4104, 257, 2**32 - 1]),
    ("height", [64, 4096, 520], [0, 63, 56, 4104, 257, 2**32 - 1]),
    ("num_inference_steps", [1, 80], [0, 81, 2**32 - 1]),
    ("guidance_scale", [0.0, 30.0, 1e-300], [-0.1, 30.1, math.nan, math.inf, -math.inf]),
    ("seed", [0, 2**53 - 1], [2**53, 2**64 - 1]),
    ("scheduler", ["", "x" * 64], ["x" * 65, "a\x00b"]),
    ("model", ["", "x" * 200], ["x" * 201, "a\x00b"]),
    ("source", [0, 1, 2], [3]),
    ("guidance_end", [0.0, 1.0, 0.4], [-0.1, 1.1, math.nan, math.inf]),
    ("denoising_end", [1e-300, 0.999, 0.8], [0.0, 1.0, -0.1, 1.1, math.nan, math.inf]),
    ("loras", [[], [Lora(name="x" * 200, weight=-4)]], []),
    ("loras", [[Lora(name=name, weight=4) for name in "abcd"]], [[Lora(name=name) for name in "abcde"]]),
]


@pytest.mark.parametrize(("name", "value", "is_fine"), cases(PARAMETERS))
def test_parameters_of_a_task(name: str, value: Any, is_fine: bool) -> None:
    parameters = GenerationParameters(**{"prompt": "x", name: value})
    assert refused(t.CreateTaskRequest(parameters=parameters)) == (set() if is_fine else {f"parameters.{name}"})


@pytest.mark.parametrize(
    ("lora", "field"),
    [
        pytest.param(Lora(name=""), "name", id="empty"),
        pytest.param(Lora(name="x" * 201), "name", id="long"),
        pytest.param(Lora(name="a\x00b"), "name", id="control-character"),
        pytest.param(Lora(name="fine"), "name", id="duplicate"),
        pytest.param(Lora(name="a", weight=4.1), "weight", id="strong"),
        pytest.param(Lora(name="a", weight=math.nan), "weight", id="nan"),
    ],
)
def test_lora_is_named_by_number_and_field(lora: Lora, field: str) -> None:
    parameters = GenerationParameters(prompt="x", loras=[Lora(name="fine"), lora])
    assert refused(t.CreateTaskRequest(parameters=parameters)) == {f"parameters.loras[1].{field}"}


INITIAL_IMAGE: list[tuple[str, list[Any], list[Any]]] = [
    ("key", ["x" * 512, "a/b.png"], ["", "../token", "a//b", "/a", "a/", "a b", "a/.b", "x" * 513, "a\0"]),
    ("strength", [1e-300, 1.0], [0.0, -0.1, 1.1, math.nan, math.inf]),
    ("mask", [b"", MASK], [b"no picture", MASK[:-20], MASK + bytes(256 * 1024)]),
    ("mask_feather", [0, 64], [65, 2**32 - 1]),
]


@pytest.mark.parametrize(("name", "value", "is_fine"), cases(INITIAL_IMAGE))
def test_initial_image_of_a_task(name: str, value: Any, is_fine: bool) -> None:
    initial = InitialImage(**{"key": "generated/1.png", "mask": MASK, name: value})
    request = t.CreateTaskRequest(parameters=GenerationParameters(prompt="x", initial_image=initial))
    assert refused(request) == (set() if is_fine else {f"parameters.initial_image.{name}"})


TASK: list[tuple[str, list[Any], list[Any]]] = [
    ("request_id", ["", "x", "~" * 255], ["~" * 256, "a b", "é"]),
    ("task_id", ["", ID, ID.upper()], ["x", ID + "0", "{" + ID + "}", ID.replace("-", "")]),
    ("candidate_count", [0, 1, 4], [5, 2**32 - 1]),
]


@pytest.mark.parametrize(("name", "value", "is_fine"), cases(TASK))
def test_fields_of_create_task(name: str, value: Any, is_fine: bool) -> None:
    request = t.CreateTaskRequest(parameters=GenerationParameters(prompt="x"), **{name: value})
    assert refused(request) == (set() if is_fine else {name})


NEW_POST: list[tuple[str, list[Any], list[Any]]] = [
    ("title", ["x", "x" * 200, "a\nb"], ["", " ", "x" * 201, "a\x00b"]),
    ("content", ["", "x" * 100_000, "a\n\tb", "é" * 100_000], ["x" * 100_001, "a\x00b", "a\x1bb"]),
    ("slug", ["x", "a-b-9", "x" * 100], ["x" * 101, "A", "a b", "é", "a/b"]),
    ("tags", [[], ["x" * 50], [str(i) for i in range(8)]], [["x" * 51], [""], [str(i) for i in range(9)]]),
    ("alt_text", ["", "x" * 500], ["x" * 501, "a\x00b"]),
    ("author_id", [ID], ["x"]),
    ("category_id", [ID], ["x"]),
]


@pytest.mark.parametrize(("name", "value", "is_fine"), cases([*NEW_POST, ("author_id", [""], [])]))
def test_fields_of_an_approval(name: str, value: Any, is_fine: bool) -> None:
    request = t.ApproveTaskRequest(**{"task_id": ID, "title": "x", name: value})
    assert {field.partition("[")[0] for field in refused(request)} == (set() if is_fine else {name})


@pytest.mark.parametrize(("name", "value", "is_fine"), cases([*NEW_POST, ("author_id", [""], [])]))
def test_fields_of_a_new_post(name: str, value: Any, is_fine: bool) -> None:
    fields = {"title": "x", "author_id": ID, "category_id": ID, "featured_image_key": "k", name: value}
    assert {field.partition("[")[0] for field in refused(p.CreatePostRequest(**fields))} == (
        set() if is_fine else {name}
    )


WRONG: list[tuple[Message, str]] = [
    (p.CreatePostRequest(title="x", author_id=ID, category_id=ID), "featured_image_key"),
    (p.CreatePostRequest(title="x", author_id=ID, category_id=ID, featured_image_key="k" * 513), "featured_image_key"),
    (p.ListPostsRequest(query="x" * 201), "query"),
    (p.ListPostsRequest(page_size=-1), "page_size"),
    (p.ListPostsRequest(state=99), "state"),  # type: ignore[arg-type]
    (p.ListPostsRequest(tag="x" * 51), "tag"),
    (p.UpdatePostRequest(id=ID), "update_mask"),
    (p.UpdatePostRequest(id=ID, update_mask=FieldMask(paths=["state"])), "update_mask"),
    (p.UpdatePostRequest(id=ID, update_mask=FieldMask(paths=["etag"])), "update_mask"),
    (p.UpdatePostRequest(id=ID, update_mask=FieldMask(paths=["title"])), "title"),
    (p.UpdatePostRequest(id=ID, update_mask=FieldMask(paths=["slug"])), "slug"),
    (p.UpdatePostRequest(id=ID, update_mask=FieldMask(paths=["author_id"])), "author_id"),
    (p.UpdatePostRequest(id=ID, update_mask=FieldMask(paths=["featured_image_key"])), "featured_image_key"),
    (p.CreateAuthorRequest(name="x" * 101), "name"),
    (p.CreateAuthorRequest(name=""), "name"),
    (p.CreateCategoryRequest(name="x", slug="No"), "slug"),
    (p.ListTagsRequest(page_size=-5), "page_size"),
    (t.ListTasksRequest(state=99), "state"),  # type: ignore[arg-type]
    (t.RejectTaskRequest(task_id=ID, comment="x" * 1001), "comment"),
    (t.ApproveTaskRequest(title="x", request_id="two words"), "request_id"),
    (t.RejectTaskRequest(request_id="é"), "request_id"),
    (t.RetryTaskRequest(request_id="k" * 256), "request_id"),
]


@pytest.mark.parametrize(
    ("request_", "field"), [pytest.param(*case, id=f"{n}-{case[1]}") for n, case in enumerate(WRONG)]
)
def test_wrong_field_is_named(request_: Message, field: str) -> None:
    assert refused(request_) == {field}


def test_update_mask_may_name_every_field_of_a_post() -> None:
    fields = {"title": "t", "content": "c", "slug": "s", "author_id": ID, "category_id": ID, "alt_text": "a"}
    fields["featured_image_key"] = "k"
    request = p.UpdatePostRequest(id=ID, update_mask=FieldMask(paths=[*fields, "tags"]), tags=["x", "x"], **fields)
    change = decode.post_change(request)
    assert None not in vars(change).values()
    assert change.tags == ("x",)
    assert {*fields, "tags"} == decode.CHANGEABLE


def test_output_only_fields_of_a_request_are_ignored() -> None:
    initial = InitialImage(key="k", has_mask=True, url="http://elsewhere.test")
    request = t.CreateTaskRequest(parameters=GenerationParameters(prompt="x", initial_image=initial))
    assert decode.new_task(request).parameters.initial_image == InitialImage(key="k")


async def test_server_names_all_wrong_fields_at_once(idle: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await idle.create("", width=7, num_inference_steps=99)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert wrong_fields(raised.value) == {
        "parameters.prompt",
        "parameters.width",
        "parameters.num_inference_steps",
    }


async def test_server_refuses_bad_page_tokens_and_names(idle: Client) -> None:
    for call, field in (
        (idle.posts.ListPosts(p.ListPostsRequest(page_token="%%%")), "page_token"),
        (idle.posts.ListAuthors(p.ListAuthorsRequest(page_token="e30=")), "page_token"),
        (idle.posts.GetPost(p.GetPostRequest()), "name"),
        (idle.approve(ID, request_id="two words"), "request_id"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert wrong_fields(raised.value) == {field}


async def test_text_is_stored_in_nfc(idle: Client) -> None:
    assert (await idle.create("  cafe\u0301 ")).parameters.prompt == "caf\u00e9"


async def test_unreadable_bytes_do_no_harm(idle: Client) -> None:
    call = idle.channel.unary_unary("/frontispiece.posts.v1.TaskService/CreateTask")
    for garbage in (b"\xff\xff\xff", b"\x1a\x04\x0a\x02\xff\xfe"):  # not a message; a prompt that is not UTF-8
        with pytest.raises(grpc.aio.AioRpcError):
            await call(garbage)
    assert (await idle.create()).id
