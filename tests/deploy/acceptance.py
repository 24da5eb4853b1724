"""The compose deployment: built, started, used, killed, stopped and started again.

Not collected by `make test`, which needs no container engine; `make compose-test` runs it.
"""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.deploy.compose import ONE_SHOTS, ROOT, SERVERS, Deployment
from tests.resilience.test_kills import Editor

pytestmark = pytest.mark.timeout(1800)

OURS = {
    "generator": ("services.generator", "torch"),
    "storage": ("services.storage", "boto3"),
    "posts": ("services.posts", "asyncpg"),
    "worker": ("services.posts", "asyncpg"),
    "gateway": ("gateway", "fastapi"),
}
"""Our services, each with its package and a library that no other package uses."""

TASKS = 8


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    """Everything, built and ready; removed with its volumes afterwards."""
    made = Deployment.make()
    made.compose("down", "--volumes", "--remove-orphans")
    try:
        made.compose("build")
        made.up()
        yield made
    finally:
        if os.environ.get("COMPOSE_KEEP"):
            print(f"kept: COMPOSE_PROJECT_NAME={made.environment['COMPOSE_PROJECT_NAME']}, {made.base_url}")
        else:
            made.compose("down", "--volumes", "--remove-orphans")


def test_the_end_to_end_tests_pass(deployment: Deployment) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/e2e", "-v", "-p", "no:cacheprovider"],
        cwd=ROOT,
        env={**os.environ, "BASE_URL": deployment.base_url, "FRONTISPIECE_TOKEN": deployment.token},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout)
    assert done.returncode == 0


class TestConfinement:
    @pytest.mark.parametrize("service", [*SERVERS, *ONE_SHOTS])
    def test_a_container_can_do_little(self, deployment: Deployment, service: str) -> None:
        found = deployment.inspect(service)
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert [name.removeprefix("CAP_") for name in host["CapDrop"]] == ["ALL"]
        assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
        assert not host["Privileged"]
        assert 0 < host["Memory"] <= 4 * 2**30
        if service == "setup":  # it changes the owner of a volume, and has no network
            assert host["NetworkMode"] == "none"
        else:
            assert found["Config"]["User"] not in ("", "0", "root")
            assert not host["CapAdd"]

    def test_only_the_gateway_and_the_cdn_are_reachable(self, deployment: Deployment) -> None:
        published = {
            service: [
                entry["HostIp"]
                for bindings in deployment.inspect(service)["NetworkSettings"]["Ports"].values()
                for entry in bindings or []
            ]
            for service in SERVERS
        }
        assert {service for service, addresses in published.items() if addresses} == {"gateway", "cdn"}
        assert published["gateway"] == published["cdn"] == ["127.0.0.1"]

    def test_the_database_is_out_of_the_gateways_reach(self, deployment: Deployment) -> None:
        assert _resolves(deployment, "posts", "postgres")
        assert _resolves(deployment, "worker", "postgres")
        assert _resolves(deployment, "storage", "s3")
        for service, stranger in (
            ("gateway", "postgres"),
            ("gateway", "s3"),
            ("generator", "s3"),
            ("posts", "s3"),
            ("worker", "s3"),
            ("storage", "postgres"),
        ):
            assert not _resolves(deployment, service, stranger), (service, stranger)

    def test_the_services_have_no_power_over_the_database(self, deployment: Deployment) -> None:
        program = (
            "import asyncio, asyncpg\n"
            "from pathlib import Path\n"
            "async def main():\n"
            "  c = await asyncpg.connect(Path('/run/secrets/posts_database_url').read_text())\n"
            "  print(await c.fetchval('SELECT rolsuper OR rolcreaterole OR rolreplication FROM pg_roles'\n"
            "    ' WHERE rolname = current_user'))\n"
            "  for s in (\"COPY tags FROM PROGRAM 'id'\", 'UPDATE task_events SET actor = actor', 'DROP TABLE tags'):\n"
            "    try: print(await c.execute(s))\n"
            "    except asyncpg.InsufficientPrivilegeError: print('refused')\n"
            "asyncio.run(main())"
        )
        for service in ("posts", "worker"):
            assert _python(deployment, service, program).split() == ["False", "refused", "refused", "refused"]

    def test_nobody_reaches_the_store_but_by_s3(self, deployment: Deployment) -> None:
        """From the network of the bucket and with its addresses: filer, master and volume server ask for no key."""
        store = deployment.inspect("seaweedfs")["NetworkSettings"]["Networks"]
        addresses = ["s3", "seaweedfs", *(network["IPAddress"] for network in store.values())]
        program = (
            "import socket\n"
            f"for host in {addresses!r}:\n"
            "  for port in (8333, 8888, 9333, 9340, 18333, 18888, 19333, 19340, 23646):\n"
            "    try: socket.create_connection((host, port), 1).close(); print(host, port)\n"
            "    except OSError: pass"
        )
        assert _python(deployment, "storage", program).split("\n")[:-1] == ["s3 8333"]
        written = "import urllib.request as r, urllib.error as e\n" + "".join(
            f"try: print(r.urlopen(r.Request('http://s3:8333{path}', method='{method}', data={data})).status)\n"
            "except e.HTTPError as error: print(error.code)\n"
            for method, path, data in (
                ("PUT", "/images/generated/a.png", "b'x'"),
                ("PUT", "/buckets/images/generated/a.png", "b'x'"),
                ("POST", "/dir/assign", "b'x'"),
                ("DELETE", "/images", "None"),
            )
        )
        codes = _python(deployment, "storage", written).split()
        assert len(codes) == 4
        assert all(int(code) in (400, 403, 404, 405) for code in codes), codes

    def test_an_image_holds_only_its_own(self, deployment: Deployment) -> None:
        packages, libraries = ({entry[place] for entry in OURS.values()} for place in (0, 1))
        foreign = [*sorted(packages), "tests", "local", "bench", *sorted(libraries), "pip", "pytest"]
        for service, own in OURS.items():
            size = int(deployment.docker("inspect", "--format={{.Size}}", f"frontispiece-{service}"))
            print(f"frontispiece-{service}: {size / 1e6:.0f} MB")
            program = (
                "import importlib.util as u, json, os\n"
                "def found(name):\n"
                "  try: return u.find_spec(name)\n"
                "  except ModuleNotFoundError: return None\n"
                f"print(json.dumps([[m for m in {foreign!r} if found(m)], os.listdir('/app')]))"
            )
            modules, files = json.loads(_python(deployment, service, program))
            assert modules == [name for name in foreign if name in own]
            assert not {"var", ".git"} & set(files)


class TestEdge:
    async def test_a_picture_is_served_from_the_private_bucket_and_then_from_the_cache(
        self, deployment: Deployment
    ) -> None:
        async with Editor(deployment) as editor:
            task = await editor.finished(await editor.create(1))
        image = task["images"][0]
        assert image["image_source"] == "sdxl-s3"
        assert image["url"] == f"{deployment.cdn_url}/{image['key']}"
        async with httpx2.AsyncClient() as reader:
            first, second = await reader.get(image["url"]), await reader.get(image["url"])
            for response in (first, second):
                assert hashlib.sha256(response.content).hexdigest() == image["sha256"]
                assert response.headers["content-type"] == "image/png"
                assert "immutable" in response.headers["cache-control"]
                assert not [name for name in response.headers if name.startswith(("x-amz", "seaweed"))]
            assert (first.headers["x-cache"], second.headers["x-cache"]) == ("Miss from cdn", "Hit from cdn")
            part = await reader.get(image["url"], headers={"Range": "bytes=0-7"})
            assert (part.status_code, part.content) == (206, first.content[:8])
            known = await reader.get(image["url"], headers={"If-None-Match": first.headers["etag"]})
            assert known.status_code == 304
            assert (await reader.get(f"{deployment.cdn_url}/generated/0-missing.png")).status_code == 404
            assert (await reader.put(image["url"], content=b"x")).status_code == 405
            for path in ("/", "/images/", "/private/x.png", "/generated/"):
                assert (await reader.get(deployment.cdn_url + path)).status_code == 404, path
        anonymous = _python(
            deployment,
            "storage",
            "import urllib.request as r, urllib.error as e\n"
            f"try: print(r.urlopen('http://s3:8333/images/{image['key']}').status)\n"
            "except e.HTTPError as error: print(error.code)",
        )
        assert anonymous.strip() == "403"


async def test_pictures_are_made_and_served_while_the_bucket_is_away(deployment: Deployment) -> None:
    deployment.compose("stop", "s3")
    try:
        async with Editor(deployment) as editor:
            task = await editor.finished(await editor.create(2))
        image = task["images"][0]
        assert image["image_source"] == "sdxl-local"
        await _same_pictures([task])
    finally:
        deployment.compose("start", "s3")
    async with asyncio.timeout(120), httpx2.AsyncClient(follow_redirects=True) as reader:
        while "x-cache" not in (response := await reader.get(image["url"])).headers:
            await asyncio.sleep(1)
    assert str(response.url) == f"{deployment.cdn_url}/{image['key']}"
    assert hashlib.sha256(response.content).hexdigest() == image["sha256"]


async def test_nothing_is_lost_when_containers_are_killed(deployment: Deployment) -> None:
    async with Editor(deployment) as editor:
        acknowledged: list[str] = []

        async def create() -> None:
            for number in range(TASKS):
                acknowledged.append(await editor.create(1000 + number))
                await asyncio.sleep(1)

        async def kill() -> None:
            for victim in SERVERS:
                before = deployment.inspect(victim)["RestartCount"]
                await asyncio.to_thread(deployment.kill, victim)
                await asyncio.to_thread(deployment.wait_restarted, victim, before)
                print(f"kill -9 {victim}: came back")

        await asyncio.gather(create(), kill())
        await asyncio.to_thread(deployment.wait_ready)
        tasks = await asyncio.gather(*(editor.finished(task_id) for task_id in acknowledged))
        assert [task["state"] for task in tasks] == ["awaiting_approval"] * TASKS
        print(
            f"{TASKS} tasks acknowledged, {len(tasks)} finished, attempts:", [task["attempt_count"] for task in tasks]
        )
        for task in tasks:
            approved = await editor.request(
                "POST", f"/api/tasks/{task['id']}/approve", json={"title": f"Kept {task['id']}"}
            )
            assert approved.is_success, approved.text
        posts = await _posts(editor)
        assert sum(post["title"].startswith("Kept") for post in posts) == TASKS
        await _same_pictures(tasks)


async def test_down_and_up_keeps_everything(deployment: Deployment) -> None:
    async with Editor(deployment) as editor:
        finished = await editor.finished(await editor.create(7))
        waiting = [await editor.create(70 + number) for number in range(3)]
        posts, token = await _posts(editor), deployment.token
    deployment.compose("down")
    assert deployment.status("/healthz") == 0
    deployment.up()
    assert deployment.token == token
    async with Editor(deployment) as editor:
        assert await _posts(editor) == posts
        tasks = await asyncio.gather(*(editor.finished(task_id) for task_id in waiting))
        assert {task["state"] for task in tasks} == {"awaiting_approval"}
        await _same_pictures([finished, *tasks])


async def _posts(editor: Editor) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        page = (await editor.request("GET", "/api/posts", params={"page_size": 100, "page_token": token})).json()
        found += page["posts"]
        token = page["next_page_token"]
        if not token:
            return found


async def _same_pictures(tasks: list[dict[str, Any]]) -> None:
    async with httpx2.AsyncClient(follow_redirects=True) as reader:
        for task in tasks:
            for image in task["images"]:
                response = await reader.get(image["url"])
                assert hashlib.sha256(response.content).hexdigest() == image["sha256"]


def _python(deployment: Deployment, service: str, program: str) -> str:
    return deployment.compose("exec", "-T", service, "python", "-c", program)


def _resolves(deployment: Deployment, service: str, name: str) -> bool:
    program = f"import socket\ntry: socket.getaddrinfo({name!r}, 80); print('yes')\nexcept socket.gaierror: print('no')"
    return _python(deployment, service, program).strip() == "yes"
