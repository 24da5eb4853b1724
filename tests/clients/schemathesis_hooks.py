"""What schemathesis cannot know: which valid requests are refused because of the state of the system.

The check replaces positive_data_acceptance, for which every 422 to a valid request is a failure.
"""

import json
from typing import Any

import schemathesis
from pydantic import ValidationError
from schemathesis import GenerationMode

from gateway.schemas.tasks import NewTask

STATE = {
    "AUTHOR_NOT_FOUND": "an id in the body is of nothing",
    "CATEGORY_NOT_FOUND": "an id in the body is of nothing",
    "IMAGE_NOT_FOUND": "a key in the body is of nothing",
    "IDEMPOTENCY_MISMATCH": "the key was used with another body",
    "IMAGE_INVALID": "a schema cannot describe the bytes of an image",
    "STOCK_NOT_CONFIGURED": "the system under test has no key for stock photos",
}
"""Codes of 422 that no schema can foretell, each with the reason."""

REFERENCES = {"page_token": "only the system makes one", "image_index": "the task has fewer images"}
"""Fields whose value refers to something that no schema knows, each with the reason."""

OF_MODELS = {"create_task", "generate_image"}
"""Operations whose body a model judges further: its sizes, schedulers and LoRAs are in GET /api/capabilities."""


@schemathesis.check
def valid_data_is_accepted(ctx: Any, response: Any, case: Any) -> None:
    """A request that matches the schema is refused only for the state of the system."""
    mode = case.meta.generation.mode if case.meta else None
    if mode is not GenerationMode.POSITIVE or response.status_code not in {400, 406, 411, 413, 415, 416, 422, 431}:
        return
    problem = json.loads(response.content)
    fields = {error["field"] for error in problem["errors"]}
    messages = [error["message"] for error in problem["errors"]]
    if messages and all(one.startswith("must differ from the other items") for one in messages):
        return  # JSON Schema can compare whole items only, not their names
    if problem["code"] in STATE or (fields and fields <= REFERENCES.keys()):
        return
    if case.operation.definition.raw["operationId"] in OF_MODELS and _is_valid(case.body):
        return
    raise AssertionError(f"a valid request was refused: {problem['detail'][:300]}")


def _is_valid(body: Any) -> bool:
    try:
        NewTask.model_validate(body)
    except ValidationError:
        return False
    return True
