"""The compose files without an engine: what they publish, confine and read from the environment."""

import re
from typing import Any

import pytest
import yaml

from tests.deploy.compose import ONE_SHOTS, ROOT, SERVERS

FILES = ("docker-compose.yml", "docker-compose.gpu.yml", "docker-compose.offline.yml")
VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}")


def services(file: str = FILES[0]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / file).read_text())["services"]
    return found


def variables() -> dict[str, set[str]]:
    """The variables that the compose files read, each with its defaults."""
    found: dict[str, set[str]] = {}
    for file in FILES:
        for name, default in VARIABLE.findall((ROOT / file).read_text()):
            found.setdefault(name, set()).add(default)
    return found


def test_these_are_the_services() -> None:
    running = {name for name, service in services().items() if "profiles" not in service}
    assert running == {*SERVERS, *ONE_SHOTS}


def test_the_example_names_every_variable_with_its_default() -> None:
    text = (ROOT / ".env.example").read_text()
    example = dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", text, flags=re.MULTILINE))
    read = variables()
    assert sorted(example) == sorted(read)
    for name, default in example.items():
        assert default in read[name], name


@pytest.mark.parametrize("name", list(services()))
class TestEveryService:
    def test_is_confined(self, name: str) -> None:
        service = services()[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"]
        assert "privileged" not in service

    def test_publishes_nothing_unless_it_is_the_gateway_or_the_cdn(self, name: str) -> None:
        ports = services()[name].get("ports", [])
        assert bool(ports) == (name in ("gateway", "cdn"))
        assert all(port.startswith("${BIND_ADDRESS:-127.0.0.1}:") for port in ports)

    def test_comes_back_unless_it_runs_once(self, name: str) -> None:
        once = name in ONE_SHOTS or "profiles" in services()[name]
        assert services()[name]["restart"] == ("no" if once else "unless-stopped")

    def test_holds_no_secret_in_its_environment(self, name: str) -> None:
        for variable, value in services()[name].get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|KEY", variable):
                assert value.startswith("/run/secrets/") or re.fullmatch(r"\$\{\w+:-\}", value), variable


def test_what_only_a_registry_has_can_be_built_offline() -> None:
    foreign = {name for name, service in services().items() if "build" not in service}
    assert foreign == set(services("docker-compose.offline.yml"))


def test_the_readme_command_needs_no_buildkit() -> None:
    """Debian's docker-compose builds without it: `--mount` and heredocs are not understood there."""
    for file in ("Dockerfile", "deploy/compose/offline/Dockerfile"):
        assert not re.findall(r"^(?:RUN|COPY|ADD) +--(?!from=)|<<", (ROOT / file).read_text(), flags=re.MULTILINE)


ADDRESSES = ("PUBLIC_BASE_URL", "USE_S3", "AWS_S3_BUCKET", "AWS_CLOUDFRONT_DOMAIN", "STORAGE_CDN_BASE_URL")


def test_all_who_make_or_show_urls_of_images_have_the_same_addresses() -> None:
    found = [
        {name: services()[service]["environment"][name] for name in ADDRESSES}
        for service in ("storage", "posts", "worker", "gateway")
    ]
    assert all(one == found[0] for one in found)


def test_each_secret_is_mounted_where_it_is_used_only() -> None:
    mounted: dict[str, set[str]] = {}
    for name, service in services().items():
        for volume in service.get("volumes", []):
            if volume.startswith("secrets-") and name != "setup":
                mounted.setdefault(volume.partition(":")[0], set()).add(name)
    assert mounted == {
        "secrets-database": {"postgres", "migrate"},
        "secrets-posts": {"posts", "worker"},
        "secrets-s3": {"seaweedfs"},
        "secrets-storage": {"storage"},
        "secrets-cdn": {"cdn"},
        "secrets-gateway": {"gateway"},
    }


def test_only_the_proxy_reaches_the_store() -> None:
    assert {name for name, service in services().items() if "store" in service.get("networks", [])} == {
        "s3",
        "seaweedfs",
    }
    assert services()["seaweedfs"]["networks"] == ["store"]


def test_the_gateways_probe_asks_the_gateway_alone() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert 'CMD ["python", "-m", "gateway.health", "http://127.0.0.1:8080/healthz"]' in text
    assert not re.search(r"CMD .*readyz", text)


def test_images_are_pinned() -> None:
    for service in services().values():
        if "build" not in service:
            assert re.search(r":[\w.-]*\d", service["image"]), service["image"]


def test_the_base_image_has_one_default_and_nothing_is_fetched_to_read_a_dockerfile() -> None:
    for file in (ROOT / "Dockerfile", ROOT / "deploy/compose/offline/Dockerfile"):
        text = file.read_text()
        assert "# syntax=" not in text
        assert re.findall(r"^ARG BASE_IMAGE=(.*)$", text, flags=re.MULTILINE) == ["python:3.12-slim-bookworm"]
        assert not re.findall(r"^FROM (?!\$\{|installer|base|metadata|debian|ghz)", text, flags=re.MULTILINE)
