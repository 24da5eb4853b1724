"""`python -m local`: what stops the start, and what it prints."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import httpx2
import pytest

from local import procfile
from local.environment import build, of_process
from local.links import READY
from local.ports import free_port, problem
from local.settings import RunSettings
from local.system import PROCFILE
from tests.stack import COMMAND, Stack, running, starting


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
    def test_an_address_of_another_machine_is_named(self, tmp_path: Path) -> None:
        result = _run(tmp_path, GATEWAY_HOST="192.0.2.1")
        assert result.returncode == 1
        assert "GATEWAY_HOST: 192.0.2.1 is no address of this machine" in result.stderr

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
            ("WORKER_LEASE_SECONDS", "never"),
            ("POSTS_DATABASE_URL", "postgresql://u:p@ss#w%ord@h/db"),
            ("POSTS_SERVICES_DATABASE_URL", "mysql://h/db"),
        ],
        ids=["generator", "storage", "posts", "worker", "database", "services"],
    )
    def test_wrong_setting_of_a_process_is_named_before_the_links(
        self, tmp_path: Path, variable: str, value: str
    ) -> None:
        result = _run(tmp_path, **{variable: value})
        assert result.returncode == 1
        assert f"setting {variable}: " in result.stderr
        assert "  site  " not in result.stdout


class TestLinks:
    def test_pages_are_served_while_the_generator_cannot_run_and_a_stop_leaves_nothing(self, tmp_path: Path) -> None:
        with starting(tmp_path / "var", {"GENERATOR_MODEL": str(tmp_path / "missing")}) as stack:
            assert not any(READY in line for line in stack.output)
            assert httpx2.get(f"{stack.base_url}/hub", timeout=60).status_code == 200
            assert httpx2.get(f"{stack.base_url}/readyz", timeout=60).status_code == 503
            assert any(f"{stack.base_url}/hub    (token: cat {stack.data / 'token'})" in line for line in stack.output)
            assert not any(stack.token in line for line in stack.output)  # what is no terminal may be a log
            modes = {path.name: path.stat().st_mode & 0o066 for path in [stack.data, *stack.data.rglob("*")]}
            assert not any(mode & 0o066 for mode in modes.values()), modes
            gateway = stack.process_id("gateway")
            assert stack.stop() == 0
            assert not Path(f"/proc/{gateway}").exists()

    def test_the_link_with_the_token_is_printed_when_asked_for(self, tmp_path: Path) -> None:
        nothing = {"GENERATOR_MODEL": str(tmp_path / "missing"), "FRONTISPIECE_PRINT_TOKEN": "true"}
        with starting(tmp_path / "var", nothing) as stack:
            assert any(f"{stack.base_url}/hub#token={stack.token}" in line for line in stack.output)

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
        assert problem("127.0.0.1", port) == ""
        with socket.create_server(("127.0.0.1", port)):
            assert "in use" in problem("127.0.0.1", port)


class TestEnvironment:
    def test_inherited_values_win(self, tmp_path: Path) -> None:
        settings = RunSettings(data=tmp_path)
        variables = build(settings, {"STORAGE_LISTEN": "127.0.0.1:7", "MALLOC_ARENA_MAX": "4"})
        assert variables["STORAGE_LISTEN"] == variables["POSTS_STORAGE_TARGET"] == "127.0.0.1:7"
        assert variables["MALLOC_ARENA_MAX"] == "4"

    SECRETS: ClassVar = {
        "POSTS_DATABASE_URL": ("posts", "release", "worker"),
        "POSTS_SERVICES_DATABASE_URL": ("release",),
        "PGPASSWORD": ("posts", "release", "worker"),
        "AWS_SECRET_ACCESS_KEY": ("storage",),
        "AWS_SESSION_TOKEN": ("storage",),
        "PEXELS_API_KEY": ("generator",),
        "HF_TOKEN": ("generator",),
        "GATEWAY_TOKEN": ("gateway",),
    }

    @pytest.mark.parametrize(("secret", "owners"), SECRETS.items(), ids=SECRETS)
    def test_a_secret_goes_to_those_who_use_it(self, tmp_path: Path, secret: str, owners: tuple[str, ...]) -> None:
        variables = build(RunSettings(data=tmp_path), {secret: "x" * 20, "AWS_S3_BUCKET": "pictures"})
        names = procfile.read(PROCFILE)
        got = {name for name in names if secret in of_process(name, variables)}
        assert got == set(owners)
        assert all("AWS_S3_BUCKET" in of_process(name, variables) for name in names)  # it decides where URLs begin

    @pytest.mark.parametrize(
        ("host", "url"),
        [
            ("127.0.0.1", "http://127.0.0.1:8080"),
            ("::1", "http://[::1]:8080"),
            ("[::1]", "http://[::1]:8080"),
            ("::", "http://[::1]:8080"),
            ("0.0.0.0", "http://127.0.0.1:8080"),
        ],
    )
    def test_the_address_of_the_gateway(self, tmp_path: Path, host: str, url: str) -> None:
        settings = RunSettings(data=tmp_path, gateway_host=host)
        assert settings.base_url == settings.local_url == url
        assert build(settings, {"GATEWAY_HOST": host})["GATEWAY_HOST"] == host.strip("[]")


def _environment(stack: Stack, name: str) -> dict[str, str]:
    text = Path(f"/proc/{stack.process_id(name)}/environ").read_text()
    return dict(line.split("=", 1) for line in text.split("\0") if "=" in line)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.timeout(600)
def test_the_system_is_ready_on_ipv6_behind_a_dead_proxy_and_keeps_secrets_apart(tmp_path: Path) -> None:
    """http_proxy of an office must not be asked for the way from one of our processes to another."""
    dead = f"http://127.0.0.1:{free_port()}"
    proxy = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "grpc_proxy", "all_proxy"), dead)
    secrets = {"PEXELS_API_KEY": "a-key-of-pexels", "AWS_SECRET_ACCESS_KEY": "a-key-of-aws"}
    with running(tmp_path / "var", {**proxy, **secrets, "no_proxy": "", "NO_PROXY": "", "GATEWAY_HOST": "::"}) as stack:
        assert any(f"http://[::1]:{stack.base_url.rpartition(':')[2]}/" in line for line in stack.output)
        for name in ("gateway", "storage", "generator", "posts", "worker"):
            variables = _environment(stack, name)
            assert ("POSTS_DATABASE_URL" in variables) == (name in ("posts", "worker"))
            assert ("PEXELS_API_KEY" in variables) == (name == "generator")
            assert ("AWS_SECRET_ACCESS_KEY" in variables) == (name == "storage")
            assert "POSTS_SERVICES_DATABASE_URL" not in variables
        assert "//frontispiece_services:" in _environment(stack, "posts")["POSTS_DATABASE_URL"]


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
