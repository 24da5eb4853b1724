"""Clients that others generate from openapi.json work as they come: nothing of them is edited.

openapi-python-client and openapi-typescript make them from the document that the gateway serves.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.gateway.test_uploads import encoded
from tests.stack import Stack

HERE = Path(__file__).parent
PROGRAM_SECONDS = 170

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def document(stack: Stack, tmp_path: Path) -> Path:
    """The document as the gateway serves it."""
    path = tmp_path / "openapi.json"
    path.write_bytes(httpx2.get(f"{stack.base_url}/openapi.json").raise_for_status().content)
    return path


def run(folder: Path, *command: str) -> str:
    """The output of a command that must succeed."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PROGRAM_SECONDS, check=False
    )
    assert done.returncode == 0, f"{command[0]}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


def arguments(stack: Stack) -> list[str]:
    return [stack.base_url, stack.token, base64.b64encode(encoded()).decode()]


def assert_works(output: str) -> None:
    """Assert what the program of a client saw."""
    seen: dict[str, Any] = json.loads(output.splitlines()[-1])
    assert (seen["image"]["width"], seen["image"]["height"]) == (64, 48)
    assert seen["post"]["featured_image"]["key"] == seen["image"]["key"]
    unchanged = {"content", "tags", "slug", "author", "category", "featured_image"}
    assert seen["changed"]["title"] == "Renamed"
    assert {name: seen["changed"][name] for name in unchanged} == {name: seen["post"][name] for name in unchanged}
    assert seen["refused"] == "ETAG_MISMATCH"
    assert seen["titles"] == ["Renamed"]
    assert seen["task"]["parameters"]["candidate_count"] == 1
    assert seen["gone"] == "POST_NOT_FOUND"


def test_a_client_of_openapi_python_client_works(stack: Stack, document: Path, tmp_path: Path) -> None:
    package = tmp_path / "frontispiece_client"
    generator = str(Path(sys.executable).with_name("openapi-python-client"))
    run(tmp_path, generator, "generate", "--path", str(document), "--output-path", str(package), "--meta", "none")
    shutil.copy(HERE / "client.py", tmp_path)
    assert_works(run(tmp_path, sys.executable, "client.py", *arguments(stack)))


def test_a_client_of_openapi_typescript_works(stack: Stack, document: Path, tmp_path: Path) -> None:
    if missing := [name for name in ("node", "npm") if shutil.which(name) is None]:
        message = f"{missing[0]} is not installed"
        if os.environ.get("CI_REQUIRE_NODE"):
            pytest.fail(message)
        pytest.skip(message)
    for name in ("package.json", "package-lock.json", "tsconfig.json", "client.ts"):
        shutil.copy(HERE / name, tmp_path)
    run(tmp_path, "npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts")
    run(tmp_path, "node_modules/.bin/openapi-typescript", str(document), "-o", "schema.ts")
    run(tmp_path, "node_modules/.bin/tsc", "-p", ".")  # strict: every call has the right type
    assert_works(run(tmp_path, "node", "built/client.js", *arguments(stack)))
