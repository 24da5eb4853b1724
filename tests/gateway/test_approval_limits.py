"""Approvals: each limit at its edge and one beyond, and invalid types."""

import json
from typing import Any

import httpx2
import pytest

from tests.gateway.conftest import assert_problem, paint, wrong_fields
from tests.gateway.scripted import TASK_ID, Scripted

APPROVAL_ACCEPTED: dict[str, dict[str, Any]] = {
    "longest texts": {"title": "t" * 200, "content": "c" * 100_000, "alt_text": "a" * 500},
    "most tags": {"tags": [f"{number}" * 50 for number in range(8)]},
    "paragraphs": {"content": "One line.\n\n\tAnother.\n"},
    "unusual slug": {"slug": "a--b"},
}
APPROVAL_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"title": "t" * 201}, "title"),
    ({"title": " "}, "title"),
    ({"title": "bell\x07"}, "title"),
    ({"content": "c" * 100_001}, "content"),
    ({"content": "bell\x07"}, "content"),
    ({"alt_text": "a" * 501}, "alt_text"),
    ({"tags": [str(number) for number in range(9)]}, "tags"),
    ({"tags": ["ok", "x" * 51]}, "tags[1]"),
    ({"tags": [""]}, "tags[0]"),
    ({"tags": "sea"}, "tags"),
    ({"tags": [1]}, "tags[0]"),
    ({"slug": "Not A Slug"}, "slug"),
    ({"slug": "x" * 101}, "slug"),
    ({"author_id": "somebody"}, "author_id"),
    ({"image_index": -1}, "image_index"),
    ({"publish": "false"}, "publish"),
    ({"created_by": "me"}, "created_by"),
    ({"featured_image_url": "https://example.org/x.png"}, "featured_image_url"),
]


class TestApprovalLimits:
    @pytest.mark.parametrize("fields", APPROVAL_ACCEPTED.values(), ids=APPROVAL_ACCEPTED)
    async def test_a_value_at_its_limit_is_accepted_and_sent(self, accepting: Scripted, fields: dict[str, Any]) -> None:
        body = {"title": "A door", "publish": False, **fields}
        response = await accepting.client.post(f"/api/tasks/{TASK_ID}/approve", json=body)
        assert response.status_code == 200, response.text
        (request,) = accepting.scripts.sent("ApproveTask")
        assert {name: getattr(request, name) for name in body} == body

    @pytest.mark.parametrize(("fields", "name"), APPROVAL_REFUSED, ids=lambda part: json.dumps(part)[:60])
    async def test_a_value_beyond_its_limit_is_refused_with_its_name(
        self, accepting: Scripted, fields: dict[str, Any], name: str
    ) -> None:
        path = f"/api/tasks/{TASK_ID}/approve"
        response = await accepting.client.post(path, json={"title": "A door", **fields})
        assert wrong_fields(assert_problem(response, 422)) == {name}
        assert accepting.scripts.sent("ApproveTask") == []

    async def test_an_image_that_the_task_does_not_have_is_refused(self, editor: httpx2.AsyncClient) -> None:
        generated = await paint(editor)
        path = f"/api/tasks/{generated['task_id']}/approve"
        assert_problem(await editor.post(path, json={"title": "A door", "image_index": 4}), 422)
        assert (await editor.get(f"/api/tasks/{generated['task_id']}")).json()["state"] == "awaiting_approval"
