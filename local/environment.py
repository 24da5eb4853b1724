"""The environment of the processes of one machine: who listens where, and where things are kept."""

import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path

from local.settings import RunSettings

# Default glibc maps, faults in and unmaps every multi-megabyte buffer: these make messages of 4 MiB 2.5 to 3.4 times
# faster (measured, docs/decisions/0003). gRPC would print each GOAWAY to standard error.
TUNING = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024 * 1024),
    "MALLOC_ARENA_MAX": "2",
    "GRPC_VERBOSITY": "ERROR",
    "PYTHONUNBUFFERED": "1",
}


def build(settings: RunSettings, database_url: str, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment for all processes; what is set already is left as it is."""
    data = settings.data.resolve()
    generator, storage, posts = (
        inherited.get(name) or f"127.0.0.1:{free_port()}"
        for name in ("GENERATOR_LISTEN", "STORAGE_LISTEN", "POSTS_LISTEN")
    )
    defaults = {
        **TUNING,
        "FRONTISPIECE_DATA": str(data),
        "PUBLIC_BASE_URL": settings.base_url,
        "GENERATOR_LISTEN": generator,
        "GENERATOR_MODELS_DIR": str(data / "models"),
        "STORAGE_LISTEN": storage,
        "STORAGE_LOCAL_ROOT": str(data / "media"),
        "POSTS_LISTEN": posts,
        "POSTS_GENERATOR_TARGETS": generator,
        "POSTS_STORAGE_TARGET": storage,
        # A stop takes less than ten seconds in all; tasks in work go back to the queue, so nobody need wait for them.
        "GENERATOR_DRAIN_SECONDS": "1",
        "STORAGE_DRAIN_SECONDS": "1",
        "POSTS_DRAIN_SECONDS": "2",
        "GATEWAY_HOST": settings.gateway_host,
        "GATEWAY_PORT": str(settings.gateway_port),
        "GATEWAY_GENERATOR_TARGET": generator,
        "GATEWAY_STORAGE_TARGET": storage,
        "GATEWAY_POSTS_TARGET": posts,
        "GATEWAY_TOKEN_FILE": str(data / "token"),
    }
    given = {name: value for name, value in inherited.items() if value}
    return {**defaults, **given, "POSTS_DATABASE_URL": database_url}


def ensure_token(path: Path) -> str:
    """The administrator's token, made on first start; the file is readable by its owner only (mode 0600)."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(descriptor, "w") as file:
        token = secrets.token_urlsafe(32)
        file.write(token + "\n")
    return token


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


def port_is_free(host: str, port: int) -> bool:
    """Whether we could listen on a port."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
