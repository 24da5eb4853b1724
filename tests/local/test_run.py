"""`python -m local`: wrong settings stop it and are named; a busy port and a second owner are told apart."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from local import procfile
from local.environment import build, ensure_token
from local.settings import RunSettings


def _run(data: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "local"],
        env={**os.environ, "FRONTISPIECE_DATA": str(data), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class TestStart:
    def test_a_wrong_port_is_named(self, tmp_path: Path) -> None:
        result = _run(tmp_path, GATEWAY_PORT="eighty")
        assert result.returncode == 2
        assert "GATEWAY_PORT" in result.stderr

    def test_a_port_in_use_is_told(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            result = _run(tmp_path, GATEWAY_PORT=str(port))
        assert result.returncode == 1
        assert f"port {port} is in use" in result.stderr
        assert "Traceback" not in result.stderr

    def test_an_unreachable_database_stops_the_start(self, tmp_path: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            url = f"postgresql://nobody@127.0.0.1:{probe.getsockname()[1]}/none"
            result = _run(tmp_path, POSTS_DATABASE_URL=url, GATEWAY_PORT="18099")
        assert result.returncode != 0
        assert "Traceback" not in result.stderr

    @pytest.mark.parametrize(
        ("variable", "value"),
        [
            ("GENERATOR_QUEUE_CAPACITY", "-1"),
            ("AWS_CLOUDFRONT_DOMAIN", "not a host/path"),
            ("POSTS_STORAGE_TARGET", "somewhere"),
        ],
    )
    def test_a_wrong_setting_of_a_process_stops_everything_and_is_named(
        self, tmp_path: Path, variable: str, value: str
    ) -> None:
        result = _run(tmp_path, GATEWAY_PORT="18098", **{variable: value})
        assert result.returncode == 1
        assert variable in result.stderr


class TestEnvironment:
    def test_what_is_set_already_is_left(self, tmp_path: Path) -> None:
        settings = RunSettings(data=tmp_path)
        variables = build(settings, "postgresql://x", {"STORAGE_LISTEN": "127.0.0.1:7", "MALLOC_ARENA_MAX": "4"})
        assert variables["STORAGE_LISTEN"] == variables["POSTS_STORAGE_TARGET"] == "127.0.0.1:7"
        assert variables["MALLOC_ARENA_MAX"] == "4"
        assert variables["POSTS_DATABASE_URL"] == "postgresql://x"

    def test_the_token_is_made_once_and_private(self, tmp_path: Path) -> None:
        path = tmp_path / "token"
        token = ensure_token(path)
        assert len(token) >= 40
        assert ensure_token(path) == token
        assert path.stat().st_mode & 0o777 == 0o600


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
