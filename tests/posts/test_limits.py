"""Every limit, at its edge and one beyond, by direct gRPC."""

import math
import uuid
from typing import Any

import grpc
import pytest
from frontispiece.posts.v1 import posts_pb2 as p
from frontispiece.posts.v1 import tasks_pb2 as t
from google.protobuf.field_mask_pb2 import FieldMask

from tests.posts.conftest import Client, wrong_fields

ID = str(uuid.uuid4())
LONG = "k" * 1025
PARAMETERS: list[tuple[str, list[Any], list[Any]]] = [
    ("prompt", ["x", "x" * 2000, "é" * 2000, "e\u0301" * 2000, "😀" * 2000], ["", "   ", "x" * 2001, "x" * 100_000]),
    ("prompt", ["zero\u200dwidth joiner", "‮rtl"], ["a\nb", "a\tb", "a\x00b", "a\x7fb", "a\x85b", "\x1b[31m"]),
    ("negative_prompt", ["", "x" * 2000], ["x" * 2001, "a\nb"]),
    ("width", [256, 1536, 520], [0, 255, 248, 1544, 257, 2**32 - 1]),
    ("height", [256, 1536, 520], [0, 255, 248, 1544, 257, 2**32 - 1]),
    ("num_inference_steps", [1, 80], [0, 81, 2**32 - 1]),
    ("guidance_scale", [0.0, 30.0, 1e-300], [-0.1, 30.1, math.nan, math.inf, -math.inf]),
    ("seed", [0, 2**53 - 1], [2**53, 2**64 - 1]),
    ("scheduler", ["", "x" * 64], ["x" * 65, "a\nb"]),
    ("model", ["", "x" * 200], ["x" * 201, "a\x00b"]),
    ("candidate_count", [0, 1, 4], [5, 2**32 - 1]),
    ("guidance_end", [0.0, 1.0, 0.4], [-0.1, 1.1, math.nan, math.inf]),
    ("denoising_end", [1e-300, 0.999, 0.8], [0.0, 1.0, -0.1, 1.1, math.nan, math.inf]),
    (
        "loras",
        [[], [t.Lora(name="x" * 200, weight=-4)], [t.Lora(name=name, weight=4) for name in "abcd"]],
        [[t.Lora(name=name) for name in "abcde"], [t.Lora(name="a"), t.Lora(name="a", weight=2)]],
    ),
]


def ids(table: list[tuple[str, list[Any], list[Any]]]) -> list[str]:
    return [f"{name}-{number}" for number, (name, _, _) in enumerate(table)]


@pytest.mark.parametrize(("name", "fine", "bad"), PARAMETERS, ids=ids(PARAMETERS))
async def test_parameters_of_a_task(idle: Client, name: str, fine: list[Any], bad: list[Any], sql: Any) -> None:
    for value in fine:
        assert (await idle.create(**{name: value})).id
    for value in bad:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await idle.create(**{name: value})
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert wrong_fields(raised.value) == {f"parameters.{name}"}, value
    assert await sql.fetchval("SELECT count(*) FROM content_tasks") == len(fine)


@pytest.mark.parametrize(
    ("lora", "field"),
    [
        (t.Lora(name=""), "name"),
        (t.Lora(name="x" * 201), "name"),
        (t.Lora(name="a\nb"), "name"),
        (t.Lora(name="a", weight=4.1), "weight"),
        (t.Lora(name="a", weight=math.nan), "weight"),
    ],
    ids=["empty", "long", "broken", "strong", "nan"],
)
async def test_a_lora_is_refused_by_number_and_field(idle: Client, lora: t.Lora, field: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await idle.create(loras=[t.Lora(name="fine"), lora])
    assert wrong_fields(raised.value) == {f"parameters.loras[1].{field}"}


@pytest.mark.parametrize(("width", "height", "fine"), [(1536, 1040, True), (1536, 1048, False), (1264, 1264, True)])
async def test_megapixels(idle: Client, width: int, height: int, fine: bool) -> None:
    if fine:
        assert (await idle.create(width=width, height=height)).id
        return
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await idle.create(width=width, height=height)
    assert wrong_fields(raised.value) == {"parameters.width"}


async def test_the_last_candidates_seed_must_fit_too(idle: Client) -> None:
    assert (await idle.create(seed=2**53 - 4, candidate_count=4)).id
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await idle.create(seed=2**53 - 3, candidate_count=4)
    assert wrong_fields(raised.value) == {"parameters.seed"}


async def test_all_wrong_fields_are_named_at_once(idle: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await idle.create("", width=7, num_inference_steps=99)
    assert wrong_fields(raised.value) == {
        "parameters.prompt",
        "parameters.width",
        "parameters.num_inference_steps",
    }


async def test_text_is_stored_in_nfc(idle: Client) -> None:
    assert (await idle.create("  cafe\u0301 ")).parameters.prompt == "caf\u00e9"


async def test_request_ids_that_are_accepted(idle: Client) -> None:
    for request_id in ("x", "~" * 255):
        wanted = t.GenerationParameters(prompt="x")
        assert (await idle.tasks.CreateTask(t.CreateTaskRequest(request_id=request_id, parameters=wanted))).task.id


async def test_names_that_are_refused(idle: Client) -> None:
    names = [("request_id", value) for value in ("~" * 256, "a b", "é")]
    names += [("task_id", value) for value in ("x", ID + "0", "{" + ID + "}", ID.replace("-", ""))]
    for field, value in names:
        request = t.CreateTaskRequest(parameters=t.GenerationParameters(prompt="x"))
        setattr(request, field, value)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await idle.tasks.CreateTask(request)
        assert wrong_fields(raised.value) == {field}


DRAFT: list[tuple[str, list[Any], list[Any]]] = [
    ("title", ["x", "x" * 200], ["", " ", "x" * 201, "a\nb", "a\x00b"]),
    ("content", ["", "x" * 100_000, "a\n\tb", "é" * 100_000], ["x" * 100_001, "a\x00b", "a\x1bb"]),
    ("slug", ["x", "a-b-9", "x" * 100], ["x" * 101, "A", "a b", "é", "a/b"]),
    ("tags", [[], ["x" * 50], [str(i) for i in range(8)]], [["x" * 51], [""], ["a\nb"], [str(i) for i in range(9)]]),
    ("alt_text", ["", "x" * 500], ["x" * 501, "a\x00b"]),
    ("author_id", [""], ["x"]),
    ("category_id", [""], ["x"]),
]


@pytest.mark.parametrize(("name", "fine", "bad"), DRAFT, ids=ids(DRAFT))
async def test_fields_of_an_approval(posts: Client, name: str, fine: list[Any], bad: list[Any]) -> None:
    task = await posts.done()
    for value in bad:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await posts.approve(task.id, **{"title": "A title", name: value})
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert {field.partition("[")[0] for field in wrong_fields(raised.value)} == {name}, value
    for number, value in enumerate(fine):
        task = task if number == 0 else await posts.done()
        post = (await posts.approve(task.id, **{"title": "A title", name: value})).post
        if name in ("title", "content", "slug", "tags"):
            assert getattr(post, name) == value


WRONG: list[tuple[Any, str]] = [
    (p.CreatePostRequest(title="x", author_id=ID, category_id=ID), "featured_image_key"),
    (
        p.CreatePostRequest(title="x", author_id=ID, category_id=ID, featured_image_key=LONG),
        "featured_image_key",
    ),
    (p.CreatePostRequest(title="x", category_id=ID, featured_image_key="k"), "author_id"),
    (p.CreatePostRequest(title="x", author_id=ID, featured_image_key="k"), "category_id"),
    (p.GetPostRequest(), "name"),
    (p.ListPostsRequest(query="x" * 201), "query"),
    (p.ListPostsRequest(page_size=-1), "page_size"),
    (p.ListPostsRequest(page_token="%%%"), "page_token"),
    (p.ListPostsRequest(state=99), "state"),  # type: ignore[arg-type]
    (p.ListPostsRequest(tag="x" * 51), "tag"),
    (p.UpdatePostRequest(id=ID), "update_mask"),
    (p.UpdatePostRequest(id=ID, update_mask=FieldMask(paths=["state"])), "update_mask"),
    (p.UpdatePostRequest(id=ID, update_mask=FieldMask(paths=["title"])), "title"),
    (p.UpdatePostRequest(id=ID, update_mask=FieldMask(paths=["slug"])), "slug"),
    (p.UpdatePostRequest(id=ID, update_mask=FieldMask(paths=["author_id"])), "author_id"),
    (p.CreateAuthorRequest(name="x" * 101), "name"),
    (p.CreateAuthorRequest(name=""), "name"),
    (p.CreateCategoryRequest(name="x", slug="No"), "slug"),
    (p.ListAuthorsRequest(page_token="e30="), "page_token"),
    (p.ListTagsRequest(page_size=-5), "page_size"),
]


async def test_wrong_fields_of_post_requests(idle: Client) -> None:
    for message, field in WRONG:
        call = getattr(idle.posts, type(message).__name__.removesuffix("Request"))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call(message)
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert wrong_fields(raised.value) == {field}, message


async def test_wrong_fields_of_other_task_requests(idle: Client) -> None:
    for call in (
        idle.tasks.RejectTask(t.RejectTaskRequest(task_id=ID, comment="x" * 1001)),
        idle.tasks.ListTasks(t.ListTasksRequest(state=99)),  # type: ignore[arg-type]
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert wrong_fields(raised.value) < {"comment", "state"}


async def test_unreadable_bytes_do_no_harm(idle: Client) -> None:
    call = idle.channel.unary_unary("/frontispiece.posts.v1.TaskService/CreateTask")
    for garbage in (b"\xff\xff\xff", b"\x1a\x04\x0a\x02\xff\xfe"):  # not a message; a prompt that is not UTF-8
        with pytest.raises(grpc.aio.AioRpcError):
            await call(garbage)
    assert (await idle.create()).id
