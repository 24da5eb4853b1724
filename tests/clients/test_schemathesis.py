"""schemathesis against the whole system: what openapi.json says is what the gateway does, with the token and without.

It sends valid and invalid requests to every operation, alone and one after another, and checks status, headers and
bodies. The requests follow from the seed.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import Stack, running

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
EXAMPLES = 5
"""Requests for each operation and kind, beside those that cover every keyword of its schemas."""

EXCLUDED = {
    True: ["positive_data_acceptance"],  # the check in schemathesis_hooks.py replaces it
    False: ["positive_data_acceptance", "unsupported_method"],  # a write without the token is 401 at every address
}
"""Checks that are left out, with the token and without."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A system of its own: a few hundred tasks and posts are left in it. No call waits for an image."""
    with running(tmp_path_factory.mktemp("schemathesis"), {"GATEWAY_WAIT_SECONDS": "0"}) as stack:
        yield stack


@pytest.mark.parametrize("token", [False, True], ids=["anonymous", "editor"])
def test_no_request_contradicts_the_document(fresh: Stack, tmp_path: Path, token: bool) -> None:
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{fresh.base_url}/openapi.json",
        "--checks=all",
        f"--exclude-checks={','.join(EXCLUDED[token])}",
        "--seed=1",
        f"--max-examples={EXAMPLES}",
        "--continue-on-failure",
        "--request-timeout=60",
        "--suppress-health-check=all",  # they are about the speed of this machine
        f"--report-dir={tmp_path}",
    ]
    headers = [f"--header=Authorization: {fresh.authorization['Authorization']}"] if token else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": str(HERE / "schemathesis_hooks.py")}
    done = subprocess.run(
        [*command, *headers], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "Tested:" in done.stdout
    assert not [line for line in fresh.output if "Traceback" in line]
