"""Methods: HEAD wherever GET is, a complete Allow, and redirects of addresses with a slash too many."""

import pytest
from frontispiece.posts.v1 import tasks_pb2

from tests.gateway.conftest import assert_problem
from tests.gateway.full import READS
from tests.gateway.scripted import EDITOR, TASK_ID, Scripted, scripted, task


class TestHead:
    @pytest.mark.parametrize("path", [path for path in READS if not path.startswith(("/?", "/posts"))])
    async def test_head_answers_as_get_without_a_body(self, full: Scripted, path: str) -> None:
        shown = {**EDITOR, "accept-encoding": "identity"}
        get = await full.client.get(path, headers=shown)
        head = await full.client.head(path, headers=shown)
        assert head.status_code == get.status_code == 200
        assert head.content == b""
        volatile = {"date", "x-request-id", "transfer-encoding"}
        if path == "/metrics" or path.endswith("/events"):
            volatile.add("content-length")
        assert {k: v for k, v in head.headers.items() if k not in volatile} == {
            k: v for k, v in get.headers.items() if k not in volatile
        }

    async def test_head_needs_what_get_needs(self, front: Scripted) -> None:
        anonymous = {"authorization": ""}
        assert (await front.client.head("/api/tasks", headers=anonymous)).status_code == 401
        assert (await front.client.head("/nothing")).status_code == 404
        assert (await front.client.head("/api/media/generate-image")).status_code == 405

    async def test_a_route_is_counted_by_its_template(self, full: Scripted) -> None:
        await full.client.head(f"/api/tasks/{TASK_ID}")
        assert 'method="HEAD",route="/api/tasks/{task_id}"' in (await full.client.get("/metrics")).text


class TestAllow:
    @pytest.mark.parametrize(
        ("path", "methods"),
        [
            ("/api/posts", "GET, HEAD, POST"),
            ("/api/posts/x", "GET, HEAD, PATCH, DELETE"),
            ("/api/tasks", "GET, HEAD, POST"),
            ("/api/authors", "GET, HEAD, POST"),
            ("/api/media/images", "POST"),
            ("/healthz", "GET, HEAD"),
            ("/static/editor.js", "GET, HEAD"),
            ("/openapi.json", "GET, HEAD"),
        ],
    )
    async def test_405_names_the_methods_of_all_routes(self, front: Scripted, path: str, methods: str) -> None:
        response = await front.client.request("PUT", path)
        assert_problem(response, 405, "METHOD_NOT_ALLOWED")
        assert response.headers["allow"] == methods

    @pytest.mark.parametrize("method", ["TRACE", "PURGE", "PROPFIND"])
    async def test_a_method_that_no_route_has_is_405_without_a_token_too(self, front: Scripted, method: str) -> None:
        anonymous = {"authorization": ""}
        response = await front.client.request(method, "/api/posts", headers=anonymous)
        assert_problem(response, 405, "METHOD_NOT_ALLOWED")
        assert response.headers["allow"] == "GET, HEAD, POST"
        assert (await front.client.request(method, "/nothing", headers=anonymous)).status_code == 404

    @pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
    async def test_a_write_without_a_token_is_401_before_anything_else(self, front: Scripted, method: str) -> None:
        response = await front.client.request(method, "/healthz", headers={"authorization": ""})
        assert_problem(response, 401)


class TestSlashes:
    @pytest.mark.parametrize(
        ("path", "location"),
        [
            ("/api/posts/", "../posts"),
            ("/api/posts/?q=a%20b&tag=c", "../posts?q=a%20b&tag=c"),
            ("/hub//", "../../hub"),
            ("/posts/a%20b/", "../a%20b"),
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
    async def test_the_redirect_is_relative(self, front: Scripted, method: str, path: str, location: str) -> None:
        headers = {"host": "evil.example", "x-forwarded-proto": "https", "x-forwarded-host": "evil.example"}
        response = await front.client.request(method, path, headers=headers)
        assert (response.status_code, response.headers["location"]) == (307, location)

    async def test_a_client_arrives(self, full: Scripted) -> None:
        response = await full.client.get("/api/posts/?q=x", follow_redirects=True)
        assert (response.status_code, str(response.url)) == (200, f"{full.base_url}/api/posts?q=x")

    @pytest.mark.parametrize("path", ["/static/", "/nothing/", "//evil.example/", "/api/"])
    async def test_an_address_that_does_not_exist_either_way_is_404(self, front: Scripted, path: str) -> None:
        assert (await front.client.get(front.base_url + path)).status_code == 404


class TestBasePath:
    """PUBLIC_BASE_URL with a path."""

    async def test_locations_have_the_path(self) -> None:
        async with scripted(public_base_url="https://example.org/pictures") as front:
            front.scripts.on("CreateTask", lambda _: tasks_pb2.CreateTaskResponse(task=task()))
            response = await front.client.post("/api/tasks", json={"prompt": "a"})
            assert response.headers["location"] == f"/pictures/api/tasks/{TASK_ID}"

    @pytest.mark.parametrize("path", ["/healthz", "/pictures/healthz"])
    async def test_a_proxy_may_take_the_path_off_or_leave_it(self, path: str) -> None:
        async with scripted(public_base_url="https://example.org/pictures") as front:
            assert (await front.client.get(path)).status_code == 200
            assert (await front.client.get("/other/healthz")).status_code == 404

    async def test_the_path_itself_leads_to_the_front_page(self) -> None:
        async with scripted(public_base_url="https://example.org/a/pictures") as front:
            response = await front.client.get("/a/pictures")
            assert (response.status_code, response.headers["location"]) == (308, "pictures/")

    async def test_a_path_like_one_of_ours_is_no_prefix(self) -> None:
        async with scripted(public_base_url="https://example.org/static") as front:
            assert (await front.client.get("/static/editor.js")).status_code == 200
            assert (await front.client.get("/static/static/editor.js")).status_code == 404
