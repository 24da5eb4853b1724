"""The OpenAPI document: it is valid and complete, and generated clients can use it."""

from collections.abc import Iterator
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.app import create_app
from gateway.schemas import decisions, images, posts, tasks
from gateway.settings import GatewaySettings
from tests.gateway.test_access import EDITORS_READ

BASE_URL = "https://pictures.example/blog"
INPUTS = {
    "NewTask": tasks.NewTask,
    "Lora": tasks.Lora,
    "InitialImage": images.InitialImage,
    "Approval": decisions.Approval,
    "Rejection": decisions.Rejection,
    "NewPost": posts.NewPost,
    "PostChange": posts.PostChange,
    "NewAuthor": posts.NewAuthor,
    "NewCategory": posts.NewCategory,
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document of a gateway that sends no request."""
    clients: Any = None
    settings = GatewaySettings.model_validate({"PUBLIC_BASE_URL": BASE_URL})
    return create_app(settings, clients, "x" * 20).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation, with its method and path."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def nodes(node: Any) -> Iterator[dict[str, Any]]:
    """Every object of a document."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from nodes(child)


def test_the_document_is_valid_with_its_defaults_and_examples(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert not list(OpenAPIV31SpecValidator(document).iter_errors())


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    names: set[str] = set()
    for here, operation in operations(document):
        assert operation["summary"], here
        assert operation["operationId"].isidentifier(), here
        assert operation["operationId"] not in names, here
        names.add(operation["operationId"])
        path = here.partition(" ")[2]
        declared = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
        assert declared == {part[1:-1] for part in path.split("/") if part.startswith("{")}, here
        assert list(operation["responses"]) == sorted(operation["responses"]), here
        for status, answer in operation["responses"].items():
            assert answer["description"], here
            if status >= "400" and (path, status) != ("/readyz", "503"):
                assert list(answer["content"]) == ["application/problem+json"], f"{here} {status}"
    assert {"list_posts", "update_post", "generate_image", "upload_image", "get_image"} <= names


def test_every_reference_exists(document: dict[str, Any]) -> None:
    found = {one["$ref"] for one in nodes(document) if isinstance(one.get("$ref"), str)}
    for reference in found:
        kind, name = reference.removeprefix("#/components/").split("/")
        assert name in document["components"][kind], reference


def test_every_operation_says_who_may_call_it_and_where(document: dict[str, Any]) -> None:
    assert document["servers"] == [{"url": BASE_URL}]
    for here, operation in operations(document):
        needs_token = operation["security"] == [{"token": []}]
        assert needs_token == (not here.startswith("get ") or here.partition(" ")[2] in EDITORS_READ), here
        assert "401" in operation["responses"], here  # a wrong token is refused everywhere


def test_nothing_that_a_client_sends_has_a_default(document: dict[str, Any]) -> None:
    """Generators of clients send defaults, or require fields that have one: a change of a title would wipe the text."""
    for name in INPUTS:
        for field, schema in document["components"]["schemas"][name]["properties"].items():
            assert "default" not in schema, f"{name}.{field}"
    for here, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert "default" not in parameter["schema"], f"{here} {parameter['name']}"


def test_a_change_of_a_post_requires_no_field_and_allows_no_empty_name(document: dict[str, Any]) -> None:
    change = document["components"]["schemas"]["PostChange"]
    assert "required" not in change
    for name in ("title", "slug", "author_id", "category_id", "featured_image_key"):
        assert change["properties"][name]["minLength"] == 1


def test_the_examples_match_their_schemas(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert all(schema["description"] for schema in schemas.values())
    examples = [(name, one) for name in INPUTS for one in schemas[name].get("examples", [])]
    assert len(examples) >= 4
    for name, example in examples:
        INPUTS[name].model_validate(example)


def test_ids_times_and_addresses_have_formats(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    formats = {"id": "uuid", "task_id": "uuid", "post_id": "uuid", "author_id": "uuid", "category_id": "uuid"}
    formats |= {name: "date-time" for name in ("time", "create_time", "update_time", "publish_time")}
    formats |= {name: "uri" for name in ("url", "image_url", "featured_image_url")}
    without = [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, node in schema["properties"].items()
        if (wanted := formats.get(field))
        and name != "Model"  # the id of a model is a name
        and wanted not in [one.get("format") for one in (node, *node.get("anyOf", []))]
    ]
    assert not without


def test_the_events_of_a_stream_are_described(document: dict[str, Any]) -> None:
    answer = document["paths"]["/api/tasks/{task_id}/events"]["get"]["responses"]["200"]
    data = answer["content"]["text/event-stream"]["schema"]["properties"]["data"]
    shapes = [one["$ref"].rpartition("/")[2] for one in data["contentSchema"]["anyOf"]]
    assert shapes == ["TaskStateEvent", "TaskProgressEvent", "TaskPreviewEvent", "TaskImageEvent"]


def test_unsigned_numbers_have_a_minimum(document: dict[str, Any]) -> None:
    properties = document["components"]["schemas"]["NewTask"]["properties"]
    assert (properties["candidate_count"]["minimum"], properties["clip_skip"]["minimum"]) == (0, 0)


def test_text_has_the_pattern_of_the_check(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in ("NewPost", "Approval", "PostChange", "NewAuthor", "NewTask"):
        for field, schema in schemas[name]["properties"].items():
            texts = [one for one in (schema, schema.get("items", {})) if one.get("type") == "string"]
            assert all("pattern" in one or "enum" in one for one in texts), f"{name}.{field}"
