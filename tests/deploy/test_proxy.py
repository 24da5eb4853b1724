"""The reverse proxies of the documents, as they are printed there; where nginx is installed."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx2
import pytest

from local.ports import free_port
from tests.deploy.compose import ROOT
from tests.stack import Stack, running

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
PREFIX = "/pictures"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(NGINX is None and "CI_REQUIRE_NGINX" not in os.environ, reason="nginx is not installed"),
]

CONFIGURATION = """
daemon off; {5} pid {0}/pid; error_log {0}/errors;
events {{}}
http {{
    access_log off;
    client_body_temp_path {0}/body; proxy_temp_path {0}/proxy;
    fastcgi_temp_path {0}/fastcgi; scgi_temp_path {0}/scgi; uwsgi_temp_path {0}/uwsgi;
    server {{ listen 127.0.0.1:{1}; client_max_body_size 40m; {2} }}
    server {{ listen 127.0.0.1:{3}; client_max_body_size 40m; {4} }}
}}
"""


def _printed(path: str, marker: str) -> str:
    blocks: list[str] = re.findall(r"^```nginx\n(.*?)^```", (ROOT / path).read_text(), re.DOTALL | re.MULTILINE)
    return next(block for block in blocks if marker in block)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stack, str, str]]:
    """The system, its address behind a proxy at the root, and that below a path, which PUBLIC_BASE_URL names."""
    folder = tmp_path_factory.mktemp("nginx")
    folder.chmod(0o755)
    root, below = free_port(), free_port()
    base = f"http://127.0.0.1:{below}{PREFIX}"
    with running(tmp_path_factory.mktemp("behind"), {"PUBLIC_BASE_URL": base}) as stack:
        gateway = f"127.0.0.1:{stack.base_url.rpartition(':')[2]}"
        text = CONFIGURATION.format(
            folder,
            root,
            _printed("README.md", "location /").replace("127.0.0.1:8080", gateway),
            below,
            _printed("docs/operations/deploy.md", f"location {PREFIX}/").replace("127.0.0.1:8080", gateway),
            "user root;" if os.geteuid() == 0 else "",  # the folder is closed to other users
        )
        (folder / "nginx.conf").write_text(text)
        assert NGINX is not None
        proxy = subprocess.Popen([NGINX, "-c", str(folder / "nginx.conf")])
        try:
            yield stack, f"http://127.0.0.1:{root}", base
        finally:
            proxy.terminate()
            proxy.wait()


def test_a_picture_is_made_and_read_below_a_path(behind: tuple[Stack, str, str]) -> None:
    stack, _, base = behind
    with httpx2.Client(timeout=90, headers=stack.authorization, transport=httpx2.HTTPTransport(retries=5)) as client:
        made = client.post(f"{base}/api/media/generate-image", json={"prompt": "a red apple"})
        assert made.status_code == 200, made.text
        assert made.json()["image_url"].startswith(f"{base}/media/")
        assert client.get(made.json()["image_url"]).headers["content-type"] == "image/png"
        slash = client.get(f"{base}/hub/", follow_redirects=False)
        assert urljoin(f"{base}/hub/", slash.headers["location"]) == f"{base}/hub"


def test_events_pass_one_by_one_and_uploads_whole(behind: tuple[Stack, str, str]) -> None:
    stack, root, _ = behind
    upload = (ROOT / "docs/images/hub.png").read_bytes() if Path(ROOT, "docs/images/hub.png").exists() else b""
    with httpx2.Client(timeout=90, headers=stack.authorization, transport=httpx2.HTTPTransport(retries=5)) as client:
        stored = client.post(f"{root}/api/media/images", content=upload, headers={"Content-Type": "image/png"})
        assert stored.status_code == 201, stored.text
        task = client.post(f"{root}/api/tasks", json={"prompt": "a red apple", "num_inference_steps": 40}).json()
        names = []
        with client.stream("GET", f"{root}/api/tasks/{task['id']}/events") as events:
            for line in events.iter_lines():
                if line.startswith("event: "):
                    names.append(line.removeprefix("event: "))
                    if names[-1] == "progress":
                        break
        state = client.get(f"{root}/api/tasks/{task['id']}").json()["state"]
        assert names[-1:] == ["progress"], (names, state)
