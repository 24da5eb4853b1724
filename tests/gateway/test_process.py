"""`python -m gateway` as a process: its settings, its start, its end."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import pytest

SECONDS = 90


def start(tmp_path: Path, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
    """The gateway on a free port, with no services behind it."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "PUBLIC_"))}
    variables |= {"GATEWAY_PORT": "0", "GATEWAY_TOKEN_FILE": str(tmp_path / "token"), **(environment or {})}
    return subprocess.Popen([sys.executable, "-m", "gateway"], env=variables, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GATEWAY_PORT", "eighty"),
        ("GATEWAY_PORT", "65536"),
        ("GATEWAY_TOKEN", "too short"),
        ("GATEWAY_CORS_ORIGINS", "example.org"),
        ("GATEWAY_CORS_ORIGINS", "https://example.org/path"),
        ("PUBLIC_BASE_URL", "localhost:8080"),
        ("GATEWAY_MAX_BODY_BYTES", "0"),
        ("GATEWAY_WAIT_SECONDS", "-1"),
        ("GATEWAY_TOKEN_FILE", "/dev/null/token"),
        ("GATEWAY_ALLOWED_HOSTS", "https://example.org"),
        ("GATEWAY_TRUSTED_PROXIES", "proxy.example.org"),
    ],
)
def test_an_invalid_setting_ends_the_process_with_its_name(tmp_path: Path, variable: str, value: str) -> None:
    process = start(tmp_path, {variable: value})
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode != 0
    assert f"setting {variable}" in said
    assert "Traceback" not in said


def test_a_port_in_use_ends_the_process(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(tmp_path, {"GATEWAY_PORT": str(taken.getsockname()[1])})
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode != 0
    assert "GATEWAY_PORT" in said
    assert "Traceback" not in said


def test_a_link_of_kubernetes_is_no_port(tmp_path: Path) -> None:
    process = start(tmp_path, {"GATEWAY_PORT": "tcp://10.0.0.5:8080", "GATEWAY_HOST": "192.0.2.1"})
    _, said = process.communicate(timeout=SECONDS)
    assert "GATEWAY_PORT=tcp://10.0.0.5:8080 is ignored" in said
    assert "cannot listen on 192.0.2.1:8080" in said  # the default port


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_shuts_down_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path)
    assert process.stderr is not None
    address = ""
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"serving address=(\S+)", line):
            address = found.group(1)
            break
    assert address, said
    answer = None
    ends = time.monotonic() + SECONDS
    while answer is None:
        try:
            with urllib.request.urlopen(f"http://{address}/healthz", timeout=5) as response:
                answer = response.status
        except OSError:
            assert time.monotonic() < ends
    assert answer == 200
    process.send_signal(number)
    _, rest = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert "stopped" in rest
    token = (tmp_path / "token").read_text().strip()
    assert token not in "".join(said) + rest
