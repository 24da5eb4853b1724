"""The environment variables of the processes on one machine: their addresses and the folders of their data."""

import os
import re
from collections.abc import Mapping

from local.ports import free_port
from local.procfile import RELEASE
from local.settings import RunSettings

# By default, glibc maps and unmaps every buffer of several megabytes. With these limits, messages of 4 MiB are 2.5 to
# 3.4 times faster (measured, docs/decisions/0007). Without GRPC_VERBOSITY, gRPC prints each GOAWAY to standard error.
TUNING = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024 * 1024),
    "MALLOC_ARENA_MAX": "2",
    "GRPC_VERBOSITY": "ERROR",
    "PYTHONUNBUFFERED": "1",
}


# Who gets a variable that is a secret, by the name of the process. A variable that is not here goes to all.
SECRETS = (
    (re.compile(r"POSTS_SERVICES_DATABASE_URL"), (RELEASE,)),
    (re.compile(r"POSTS_DATABASE_URL|PG[A-Z]+"), (RELEASE, "posts", "worker")),
    (re.compile(r"AWS_(?!S3_|CLOUDFRONT_)\w+"), ("storage",)),
    (re.compile(r"PEXELS_API_KEY|HF_TOKEN|HUGGING_FACE_HUB_TOKEN"), ("generator",)),
    (re.compile(r"GATEWAY_TOKEN"), ("gateway",)),
)


def of_process(name: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that a process gets: all but the secrets of others."""
    withheld = [pattern for pattern, owners in SECRETS if name not in owners]
    return {
        variable: value
        for variable, value in variables.items()
        if not any(pattern.fullmatch(variable) for pattern in withheld)
    }


def build(settings: RunSettings, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables of all processes, without the database URL. A non-empty inherited value wins over a default."""
    data = settings.data.resolve()
    generator, storage, posts, worker = (
        inherited.get(name) or f"127.0.0.1:{free_port()}"
        for name in ("GENERATOR_LISTEN", "STORAGE_LISTEN", "POSTS_LISTEN", "WORKER_LISTEN")
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
        "WORKER_LISTEN": worker,
        # All processes together stop within ten seconds. Tasks in progress return to the queue, so the drain is short.
        "GENERATOR_DRAIN_SECONDS": "1",
        "STORAGE_DRAIN_SECONDS": "1",
        "POSTS_DRAIN_SECONDS": "2",
        "WORKER_DRAIN_SECONDS": "2",
        "GATEWAY_HOST": settings.gateway_host,
        "GATEWAY_PORT": str(settings.gateway_port),
        "GATEWAY_GENERATOR_TARGET": generator,
        "GATEWAY_STORAGE_TARGET": storage,
        "GATEWAY_POSTS_TARGET": posts,
        "GATEWAY_TOKEN_FILE": str(data / "token"),
    }
    given = {name: value for name, value in inherited.items() if value}
    # Of all names of one setting, every process reads the one that the launcher has read.
    return {**defaults, **given, "GATEWAY_HOST": settings.gateway_host}
