"""Schemas: they agree with the contract, made from its descriptors."""

from typing import Any

import pytest
from frontispiece.generator.v1 import generator_pb2
from frontispiece.posts.v1 import posts_pb2, tasks_pb2
from frontispiece.types.v1 import generation_pb2
from google.protobuf.descriptor import FieldDescriptor
from pydantic import ValidationError

from gateway.schemas import decisions, images, posts, tasks
from gateway.schemas.base import Input, checked
from gateway.schemas.capabilities import LIMITS, Model
from rpc import errors, validation
from rpc.limits import of_field

INPUTS: list[type[Input]] = [
    tasks.NewTask,
    tasks.Lora,
    tasks.TaskFilter,
    images.InitialImage,
    decisions.Approval,
    decisions.Rejection,
    posts.NewPost,
    posts.PostChange,
    posts.PostFilter,
    posts.NewAuthor,
    posts.NewCategory,
]


def edges(field: Any) -> list[Any]:
    """Values of a field at each of its limits and one beyond."""
    limits = of_field(field)
    if field.message_type is not None or field.type == FieldDescriptor.TYPE_BYTES:
        return []
    found: list[Any] = []
    if field.type == FieldDescriptor.TYPE_STRING:
        texts = ["", " ", "a b", "é", "-", "a/b"]
        texts += ["a" * (limits.max_length + more) for more in (0, 1)] if limits.HasField("max_length") else []
        if not field.is_repeated:
            return texts
        most = limits.max_items
        return [[one] for one in texts] + [[f"t{number}" for number in range(most + more)] for more in (0, 1)]
    step = limits.multiple_of or 1
    for bound in ("min", "max"):
        if limits.HasField(bound):
            found += [int(getattr(limits, bound)) + more for more in (-step, -1, 0, 1, step)]
    whole = field.cpp_type not in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}
    return found if whole else [float(one) for one in found]


def verdict_of_the_services(message: Any, name: str, value: Any) -> bool:
    """Whether rpc.validation accepts a value."""
    probe = message()
    try:
        if isinstance(value, list):
            getattr(probe, name).extend(value)
        else:
            setattr(probe, name, value)
        validation.check(probe)
    except ValueError:
        return False
    except errors.InvalidArgument as error:
        return not any(one.field.partition("[")[0] == name for one in error.violations)
    return True


@pytest.mark.parametrize("shape", INPUTS, ids=lambda shape: shape.__name__)
def test_the_gateway_and_the_services_have_the_same_verdict_on_every_limit(shape: type[Input]) -> None:
    judged = 0
    for name in shape.model_fields:
        message = next((one for one in shape.messages if name in one.DESCRIPTOR.fields_by_name), None)
        if message is None or message.DESCRIPTOR.fields_by_name[name].enum_type is not None:
            continue
        for value in edges(message.DESCRIPTOR.fields_by_name[name]):
            try:
                checked(message, name, value)
                accepted = True
            except ValidationError:
                accepted = False
            assert accepted == verdict_of_the_services(message, name, value), (name, value)
            judged += 1
    assert judged > 0


def test_every_generation_parameter_can_be_requested_and_is_returned() -> None:
    parameters = set(generation_pb2.GenerationParameters.DESCRIPTOR.fields_by_name) - {"source"}
    assert parameters <= set(tasks.NewTask.model_fields)
    assert parameters <= set(tasks.Parameters.model_fields)
    assert {"key", "strength", "mask", "mask_feather"} == set(images.InitialImage.model_fields)


def test_every_property_of_a_model_is_returned() -> None:
    assert set(generator_pb2.Model.DESCRIPTOR.fields_by_name) == set(Model.model_fields)


def test_the_states_are_those_of_the_contract() -> None:
    names = {name.removeprefix("TASK_STATE_").lower() for name in tasks_pb2.TaskState.keys()}  # noqa: SIM118
    assert names - {"unspecified"} == set(tasks.TaskState.__args__)  # type: ignore[attr-defined]
    numbers = [number for number in tasks_pb2.TaskState.values() if number]
    going_on = [number for number in numbers if not tasks.is_terminal(tasks_pb2.Task(state=number))]
    assert going_on == [tasks_pb2.TASK_STATE_QUEUED, tasks_pb2.TASK_STATE_GENERATING]
    names = {name.removeprefix("POST_STATE_").lower() for name in posts_pb2.PostState.keys()}  # noqa: SIM118
    assert names - {"unspecified"} == set(posts.PostState.__args__)  # type: ignore[attr-defined]


def test_a_request_survives_the_way_to_a_message_and_back() -> None:
    body = {
        "prompt": "a door",
        "negative_prompt": "blur",
        "use_generation": True,
        "width": 512,
        "guidance_scale": 0.0,
        "seed": 0,
        "candidate_count": 2,
        "loras": [{"name": "ink", "weight": -0.5}, {"name": "oil"}],
        "initial_image": {"key": "generated/x.png", "mask": "AAEC", "mask_feather": 0},
    }
    request = tasks.NewTask.model_validate(body).request("r-1")
    assert request.request_id == "r-1"
    assert request.parameters.initial_image.mask == bytes([0, 1, 2])
    assert not request.parameters.HasField("height")
    message = tasks_pb2.Task(state=tasks_pb2.TASK_STATE_QUEUED, parameters=request.parameters, candidate_count=2)
    parameters = tasks.Task.from_messages(message).parameters.model_dump()
    assert parameters["loras"] == [{"name": "ink", "weight": -0.5}, {"name": "oil", "weight": 1.0}]
    initial = parameters["initial_image"]
    assert (initial["key"], initial["strength"], initial["mask_feather"]) == ("generated/x.png", None, 0)
    for name in ("prompt", "negative_prompt", "use_generation", "width", "guidance_scale", "seed", "candidate_count"):
        assert parameters[name] == body[name]
    assert parameters["height"] is None


def test_the_credit_of_a_stock_photo_names_photographer_and_library() -> None:
    photo = generation_pb2.Attribution(provider="pexels", author="A. Name", source_url="https://pexels.example/1")
    parameters = generation_pb2.GenerationParameters(prompt="a door", source=generation_pb2.IMAGE_SOURCE_STOCK)
    generation = generation_pb2.Generation(parameters=parameters, attribution=photo)
    image = tasks.TaskImage.from_messages(tasks_pb2.TaskImage(image_source="pexels", generation=generation))
    assert (image.credit, image.credit_url) == ("Photo by A. Name on Pexels", "https://pexels.example/1")
    assert (image.seed, image.model, image.num_inference_steps) == (None, "", 0)


def test_the_limits_of_forms_are_those_of_the_contract() -> None:
    assert LIMITS["task"]["width"] == {"min": 64, "max": 4096, "multiple_of": 8, "unit": "pixels"}
    assert LIMITS["approval"]["title"] == {"required": True, "max_length": 200}
    assert LIMITS["initial_image"]["mask_feather"]["default"] == 8
    assert LIMITS["upload"]["size_bytes"]["max"] == 32 * 1024 * 1024


@pytest.mark.parametrize("place", ["body", "nested", "item"])
def test_of_very_many_unknown_fields_the_first_ones_are_named(place: str) -> None:
    many = {f"x{number}": number for number in range(60_000)}
    body = {
        "body": {"prompt": "a", **many},
        "nested": {"prompt": "a", "initial_image": {"key": "generated/x.png", **many}},
        "item": {"prompt": "a", "loras": [{"name": "ink", **many}]},
    }[place]
    with pytest.raises(ValidationError) as refused:
        tasks.NewTask.model_validate(body)
    found = refused.value.errors()
    assert len(found) == validation.MAX_VIOLATIONS
    prefix = {"body": (), "nested": ("initial_image",), "item": ("loras", 0)}[place]
    assert [one["loc"] for one in found[:2]] == [(*prefix, "x0"), (*prefix, "x1")]
    assert {one["type"] for one in found} == {"extra_forbidden"}


def test_a_number_without_a_fraction_is_an_integer() -> None:
    body = {"prompt": "a", "candidate_count": 2.0, "seed": 4.0, "guidance_scale": 3.0}
    made = tasks.NewTask.model_validate(body)
    assert [type(one) for one in (made.candidate_count, made.seed, made.guidance_scale)] == [int, int, float]
    for value in (2.5, 2.0**53, float("inf"), "2", True):
        with pytest.raises(ValidationError):
            tasks.NewTask.model_validate({"prompt": "a", "seed": value})
