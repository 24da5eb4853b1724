"""`python -m services.storage`: the storage process."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from frontispiece.storage.v1 import images_pb2_grpc

from rpc import logs, server, settings
from services.storage.admission import Admission
from services.storage.backends.base import Backend, BackendRefused
from services.storage.backends.local.backend import LocalBackend
from services.storage.backends.s3.backend import S3Backend
from services.storage.backends.s3.client import S3Options
from services.storage.backends.spool import Spool
from services.storage.images import Images
from services.storage.imaging.decoding import Decoder
from services.storage.readiness import Health
from services.storage.servicer import SERVICE_NAME, ImageServicer
from services.storage.settings import StorageSettings
from services.storage.spooling import SpoolingBackend
from services.storage.urls import Urls

log = logging.getLogger(__name__)


def open_primary(chosen: StorageSettings) -> Backend:
    """The backend that the settings name; decided here, once. Raises OSError for a folder that cannot be used."""
    if not chosen.s3_chosen:
        return LocalBackend(chosen.local_root)
    encryption = chosen.s3_encryption
    if encryption == "auto":
        # AWS encrypts in any case; some compatible servers refuse the header when they hold no key.
        encryption = "none" if chosen.s3_endpoint_url else "AES256"
    return S3Backend(
        S3Options(
            bucket=chosen.s3_bucket,
            region=chosen.s3_region,
            endpoint_url=chosen.s3_endpoint_url,
            access_key_id=chosen.access_key_id.get_secret_value(),
            secret_access_key=chosen.secret_access_key.get_secret_value(),
            session_token=chosen.session_token.get_secret_value(),
            encryption="" if encryption == "none" else encryption,
            threads=chosen.s3_threads,
        )
    )


def open_backends(chosen: StorageSettings) -> tuple[Backend, Health]:
    """The backend with what surrounds it, and its health. Raises OSError.

    S3 gets a spool, and what an earlier configuration left on the disk stays readable. A disk gets a spool only to take
    in what an earlier configuration left there.
    """
    primary = open_primary(chosen)
    if not chosen.s3_chosen and not Spool.has_images(chosen.spool_folder):
        return primary, Health(primary, chosen.health_seconds)
    spool = Spool(chosen.spool_folder, chosen.spool_max_bytes, chosen.spool_min_free_bytes)
    health = Health(primary, chosen.health_seconds, fallback=spool)
    older = None
    if chosen.s3_chosen and LocalBackend.has_images(chosen.local_root):
        older = LocalBackend(chosen.local_root)
    return SpoolingBackend(primary, spool, health, older), health


@asynccontextmanager
async def assembled(chosen: StorageSettings) -> AsyncIterator[tuple[server.Service, Health]]:
    """The service with all it needs, checked. Raises BackendRefused or OSError when the settings cannot work."""
    urls = Urls(chosen.public_base_url, chosen.cdn)
    async with AsyncExitStack() as stack:
        backend, health = open_backends(chosen)
        stack.push_async_callback(backend.close)
        decoder = Decoder(chosen.decode_threads)
        stack.push_async_callback(decoder.close)
        await health.start()
        works = health.condition.healthy
        log.info("backend", extra={"kind": backend.kind.value, "urls": urls.base_url, "works": works})
        images = Images(backend, decoder, Admission(chosen.max_inflight_bytes), health, urls, chosen.upload_seconds)
        servicer = ImageServicer(images, urls, health, chosen.s3_bucket if chosen.s3_chosen else "")
        await stack.enter_async_context(health.watching())
        if isinstance(backend, SpoolingBackend):
            await stack.enter_async_context(backend.moving())
        add = partial(images_pb2_grpc.add_ImageServiceServicer_to_server, servicer)
        yield server.Service(SERVICE_NAME, add), health


async def main() -> None:
    """Load, check, serve."""
    chosen = settings.load(StorageSettings)
    logs.configure("storage", chosen.log_level, chosen.log_format)
    settings.announce(chosen)
    for name in chosen.ignored():
        log.warning("%s is set but S3 is not used (USE_S3=%s): it has no effect", name, chosen.use_s3)
    async with assembled(chosen) as (service, health):
        await server.serve([service], chosen, is_ready=health.is_ready)


def run() -> int:
    """Run the process and tell its exit code."""
    try:
        server.run(main())
    except (BackendRefused, OSError) as error:
        log.error("storage cannot work: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    code = run()
    logging.shutdown()
    # Not sys.exit: it waits for threads, and one that waits for a silent S3 takes up to 30 s to give up.
    os._exit(code)
