"""A compose deployment for tests, with its own project name, ports and volumes."""

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.ports import free_port

ROOT = Path(__file__).parent.parent.parent
PROJECT = "frontispiece-test"
SERVERS = ("postgres", "seaweedfs", "s3", "cdn", "generator", "storage", "posts", "worker", "gateway")
ONE_SHOTS = ("setup", "migrate")


def missing_engine() -> str:
    """Why containers cannot be tested here; empty when they can."""
    if shutil.which("docker") is None:
        return "there is no docker on PATH"
    done = subprocess.run(["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True)
    if done.returncode != 0:
        return f"no Docker engine responds: {done.stderr.strip()}"
    if _compose() is None:
        return "there is neither `docker compose` nor docker-compose"
    return ""


def _compose() -> list[str] | None:
    plugin = subprocess.run(["docker", "compose", "version"], capture_output=True)
    if plugin.returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


@dataclass(frozen=True)
class Deployment:
    """The system in containers. The compose files are those of COMPOSE_FILE, as compose itself reads it."""

    environment: dict[str, str]

    @classmethod
    def make(cls) -> "Deployment":
        """On free ports; nothing is started."""
        port, cdn_port = free_port(), free_port()
        return cls(
            {
                **os.environ,
                "COMPOSE_PROJECT_NAME": PROJECT,
                "GATEWAY_PORT": str(port),
                "CDN_PORT": str(cdn_port),
                "PUBLIC_BASE_URL": f"http://127.0.0.1:{port}",
                "STORAGE_CDN_BASE_URL": f"http://127.0.0.1:{cdn_port}",
            }
        )

    @property
    def base_url(self) -> str:
        """The address of the gateway."""
        return self.environment["PUBLIC_BASE_URL"]

    @property
    def cdn_url(self) -> str:
        """The address of the edge."""
        return self.environment["STORAGE_CDN_BASE_URL"]

    @property
    def token(self) -> str:
        """The administrator's token, which `setup` made."""
        return self.compose("exec", "-T", "gateway", "cat", "/run/secrets/gateway_token").strip()

    @property
    def authorization(self) -> dict[str, str]:
        """The header that makes a request an editor's."""
        return {"Authorization": f"Bearer {self.token}"}

    def compose(self, *arguments: str, timeout: float = 1800) -> str:
        """Run compose; returns its output. Raises AssertionError when it fails."""
        return self._run([*(_compose() or []), *arguments], timeout)

    def docker(self, *arguments: str) -> str:
        """Run docker; returns its output. Raises AssertionError when it fails."""
        return self._run(["docker", *arguments], 300)

    def _run(self, command: Sequence[str], timeout: float) -> str:
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def up(self, *arguments: str) -> None:
        """Start everything and wait until the gateway is ready."""
        self.compose("up", "--detach", *arguments)
        self.wait_ready()

    def wait_ready(self, seconds: float = 180) -> None:
        """Wait until the gateway reports that all services are ready."""
        deadline = time.monotonic() + seconds
        while self.status("/readyz") != 200:
            assert time.monotonic() < deadline, self.compose("ps") + self.compose("logs", "--no-color", "--tail=20")
            time.sleep(0.5)

    def status(self, path: str) -> int:
        """The HTTP status of a page of the gateway; 0 without a response."""
        try:
            with urllib.request.urlopen(self.base_url + path, timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def inspect(self, service: str) -> dict[str, Any]:
        """The engine's description of a service's container."""
        container = (
            self.compose("ps", "--all", "-q", service) if service in ONE_SHOTS else self.compose("ps", "-q", service)
        )
        found: dict[str, Any] = json.loads(self.docker("inspect", container.split()[0]))[0]
        return found

    def kill(self, service: str) -> None:
        """kill -9 of a container's first process, as the kernel does it when memory is short.

        Not `docker kill`: the engine does not restart a container after that.
        """
        process = str(self.inspect(service)["State"]["Pid"])
        self.docker(
            *("run", "--rm", "--pid=host", "--user=root", "--network=none"),
            *("frontispiece-gateway", "sh", "-c", f"kill -9 {process}"),
        )

    def wait_restarted(self, service: str, before: int, seconds: float = 120) -> None:
        """Wait until the engine has started a container again and its probe succeeds."""
        deadline = time.monotonic() + seconds
        while True:
            state = self.inspect(service)
            healthy = state["State"].get("Health", {}).get("Status") == "healthy"
            if state["RestartCount"] > before and healthy:
                return
            assert time.monotonic() < deadline, f"{service} does not come back: {state['State']}"
            time.sleep(0.5)
