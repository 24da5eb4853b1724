"""Query parameters of the REST interface: an unknown one and one that is given twice are refused with their names."""

import httpx2
import pytest

from tests.gateway.conftest import assert_problem
from tests.gateway.scripted import TASK_ID

UNKNOWN, TWICE = "is not a parameter of this address", "must be given once"


@pytest.mark.parametrize(
    ("path", "field", "message"),
    [
        ("/api/posts?tags=sea", "tags", UNKNOWN),
        ("/api/posts?tag=a&tag=b", "tag", TWICE),
        ("/api/posts?q=a&q=a", "q", TWICE),
        ("/api/posts/a-door?fields=title", "fields", UNKNOWN),
        ("/api/tags?size=3", "size", UNKNOWN),
        ("/api/authors?q=a", "q", UNKNOWN),
        ("/api/categories?", "", ""),
        ("/api/tasks?state=failed&state=queued", "state", TWICE),
        (f"/api/tasks/{TASK_ID}?x", "x", UNKNOWN),
        (f"/api/tasks/{TASK_ID}/events?after=null&after=null", "after", TWICE),
        (f"/api/tasks/{TASK_ID}/events?since=3", "since", UNKNOWN),
        ("/api/capabilities?model=x", "model", UNKNOWN),
    ],
)
async def test_a_parameter_of_a_read_is_refused_with_its_name(
    editor: httpx2.AsyncClient, path: str, field: str, message: str
) -> None:
    response = await editor.get(path)
    if not field:
        assert response.status_code == 200
        return
    document = assert_problem(response, 422, "INVALID_ARGUMENT")
    assert document["errors"] == [{"field": field, "message": message}]
    assert document["detail"] == f"{field}: {message}"


@pytest.mark.parametrize("path", ["/api/posts", "/api/tasks", "/api/authors", f"/api/tasks/{TASK_ID}/cancel"])
async def test_a_parameter_of_a_write_is_refused(editor: httpx2.AsyncClient, path: str) -> None:
    document = assert_problem(await editor.post(f"{path}?publish=true", json={}), 422, "INVALID_ARGUMENT")
    assert document["errors"] == [{"field": "publish", "message": UNKNOWN}]


async def test_many_unknown_names_are_shortened_in_number_and_length(editor: httpx2.AsyncClient) -> None:
    names = [f"{'n' * 300}{number}" for number in range(40)]
    document = assert_problem(await editor.get("/api/tags?" + "&".join(f"{name}=1" for name in names)), 422)
    assert len(document["errors"]) == 32
    assert max(len(error["field"]) for error in document["errors"]) == 200


async def test_pages_and_images_ignore_parameters_of_others(reader: httpx2.AsyncClient) -> None:
    for path in ("/?utm_source=x&utm_source=y", "/healthz?x=1"):
        assert (await reader.get(path)).status_code == 200
