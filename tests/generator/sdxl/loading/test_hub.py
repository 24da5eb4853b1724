"""Hub models against a local server that answers as the hub does."""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from services.generator.engine import CheckpointError
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.loading import checkpoints
from services.generator.sdxl.loading.checkpoints import ModelSource
from tests.generator.harness import cpu_options, request

FIRST, SECOND = "1" * 40, "2" * 40


@dataclass
class Hub:
    """One repository, acme/tiny, at the commit `head`, with a pickle and a program beside its safetensors."""

    files: dict[str, bytes]
    head: str = FIRST
    fetched: list[str] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        path = path.partition("?")[0]
        if path.startswith("/api/models/acme/tiny/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                for name, body in self.files.items()
            ]
            return 200, {"Content-Type": "application/json"}, json.dumps(tree).encode()
        if path.startswith("/api/models/acme/tiny"):
            revision = path.rpartition("/revision/")[2] if "/revision/" in path else self.head
            siblings = [{"rfilename": name} for name in self.files]
            about = {"_id": "1", "id": "acme/tiny", "sha": revision, "siblings": siblings, "tags": []}
            return 200, {"Content-Type": "application/json"}, json.dumps(about).encode()
        head, _, rest = path.partition("/resolve/")
        commit, _, name = rest.partition("/")
        if head != "/acme/tiny" or name not in self.files:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        self.fetched.append(name)
        body = self.files[name]
        return 200, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": commit}, body


@pytest.fixture
def hub(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    files = {file.relative_to(checkpoint).as_posix(): file.read_bytes() for file in checkpoint.rglob("*.*")}
    hub = Hub({**files, "unet/diffusion_pytorch_model.bin": b"pickle", "pipeline.py": b"import os"})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the library's name
            status, headers, body = hub.answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # the library's name

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


def test_only_safetensors_are_fetched_and_the_model_paints(hub: Hub, tmp_path: Path) -> None:
    engine = SdxlEngine([ModelSource.parse("", f"acme/tiny@{SECOND}")], cpu_options(tmp_path))
    engine.warm_up()
    (info,) = engine.models
    assert (info.id, info.revision) == ("acme/tiny", SECOND)
    assert "unet/diffusion_pytorch_model.safetensors" in hub.fetched
    assert not {"unet/diffusion_pytorch_model.bin", "pipeline.py"} & set(hub.fetched)
    engine.step(engine.prepare([request(model="acme/tiny")]))


def test_the_commit_of_the_first_start_is_kept(hub: Hub, tmp_path: Path) -> None:
    source = ModelSource.parse("", "acme/tiny")
    assert checkpoints.find(source, tmp_path).revision == FIRST
    hub.head = SECOND
    assert checkpoints.find(source, tmp_path).revision == FIRST
    assert checkpoints.find(ModelSource.parse("", f"acme/tiny@{SECOND}"), tmp_path).revision == SECOND


def test_what_the_hub_does_not_have_is_refused(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="acme/other"):
        checkpoints.find(ModelSource.parse("", "acme/other"), tmp_path)
