"""`python -m local`: what stops the start, and what it prints."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from local import procfile
from local.environment import build
from local.links import READY
from local.ports import free_port, port_is_free
from local.settings import RunSettings
from tests.stack import COMMAND, starting


def _run(data: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        COMMAND,
        env={**os.environ, "FRONTISPIECE_DATA": str(data), "GATEWAY_PORT": str(free_port()), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class TestStart:
    def test_wrong_port_is_named(self, tmp_path: Path) -> None:
        result = _run(tmp_path, GATEWAY_PORT="eighty")
        assert result.returncode == 2
        assert "GATEWAY_PORT" in result.stderr

    def test_port_in_use_is_reported(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            result = _run(tmp_path, GATEWAY_PORT=str(port))
        assert result.returncode == 1
        assert f"port {port} is in use" in result.stderr
        assert "Traceback" not in result.stderr

    def test_a_data_folder_that_cannot_be_made_is_reported(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        result = _run(tmp_path / "file" / "data")
        assert result.returncode == 1
        assert "FRONTISPIECE_DATA" in result.stderr
        assert "Traceback" not in result.stderr

    def test_unreachable_database_stops_the_start(self, tmp_path: Path) -> None:
        url = f"postgresql://nobody@127.0.0.1:{free_port()}/none"
        result = _run(tmp_path, POSTS_DATABASE_URL=url, POSTS_DATABASE_WAIT_SECONDS="1")
        assert result.returncode == 1
        assert "the database could not be migrated" in result.stderr
        assert "Traceback" not in result.stderr

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("GENERATOR_QUEUE_CAPACITY", "-1"),
            ("AWS_CLOUDFRONT_DOMAIN", "not a host/path"),
            ("POSTS_STORAGE_TARGET", "somewhere"),
        ],
        ids=["generator", "storage", "posts"],
    )
    def test_wrong_setting_of_a_process_stops_everything_and_is_named(
        self, tmp_path: Path, variable: str, value: str
    ) -> None:
        result = _run(tmp_path, **{variable: value})
        assert result.returncode == 1
        assert variable in result.stderr


class TestLinks:
    def test_pages_are_served_while_the_generator_cannot_run_and_a_stop_leaves_nothing(self, tmp_path: Path) -> None:
        with starting(tmp_path / "var", {"GENERATOR_MODEL": str(tmp_path / "missing")}) as stack:
            assert not any(READY in line for line in stack.output)
            assert httpx2.get(f"{stack.base_url}/hub", timeout=60).status_code == 200
            assert httpx2.get(f"{stack.base_url}/readyz", timeout=60).status_code == 503
            links = [line for line in stack.output if f"{stack.base_url}/hub#token={stack.token}" in line]
            assert len(links) == 1
            gateway = stack.process_id("gateway")
            assert stack.stop() == 0
            assert not Path(f"/proc/{gateway}").exists()

    def test_stop_before_the_database_is_ready_leaves_nothing(self, tmp_path: Path) -> None:
        data = tmp_path / "var"
        process = subprocess.Popen(
            COMMAND,
            env={**os.environ, "FRONTISPIECE_DATA": str(data), "GATEWAY_PORT": str(free_port())},
            start_new_session=True,
        )
        while not (data / "postgres" / "lock").exists():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert not (data / "postgres" / "data" / "postmaster.pid").exists()
        assert not list((data / "run").glob("*.pid"))


class TestPorts:
    def test_port_stays_reserved_for_a_server_of_ours(self) -> None:
        port = free_port()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        assert port_is_free("127.0.0.1", port)
        with socket.create_server(("127.0.0.1", port)):
            assert not port_is_free("127.0.0.1", port)


class TestEnvironment:
    def test_inherited_values_win(self, tmp_path: Path) -> None:
        settings = RunSettings(data=tmp_path)
        variables = build(settings, {"STORAGE_LISTEN": "127.0.0.1:7", "MALLOC_ARENA_MAX": "4"})
        assert variables["STORAGE_LISTEN"] == variables["POSTS_STORAGE_TARGET"] == "127.0.0.1:7"
        assert variables["MALLOC_ARENA_MAX"] == "4"


class TestProcfile:
    def test_reads_names_and_commands(self, tmp_path: Path) -> None:
        path = tmp_path / "Procfile"
        path.write_text("# comment\n\nweb: python -m web --name 'a b'\nworker: ./run\n")
        assert procfile.read(path) == {"web": [sys.executable, "-m", "web", "--name", "a b"], "worker": ["./run"]}

    def test_names_a_wrong_line(self, tmp_path: Path) -> None:
        path = tmp_path / "Procfile"
        path.write_text("web python\n")
        with pytest.raises(ValueError, match="line 1"):
            procfile.read(path)
