"""`python -m services.storage`: the storage process, assembled from its settings."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from frontispiece.storage.v1 import images_pb2, images_pb2_grpc

from rpc import logs, server, settings
from rpc.image_urls import ImageUrls
from services.storage.admission import Admission
from services.storage.backends.base import Backend, BackendRefused
from services.storage.backends.local.backend import LocalBackend
from services.storage.backends.s3.backend import S3Backend
from services.storage.backends.s3.client import S3Options
from services.storage.backends.spool import Spool
from services.storage.images import Images
from services.storage.imaging.decoder import Decoder
from services.storage.mover import Mover
from services.storage.readiness import Readiness
from services.storage.servicer import SERVICE_NAME, ImageServicer
from services.storage.settings import MAX_IMAGE_BYTES, StorageSettings
from services.storage.spooling import SpoolingBackend

log = logging.getLogger(__name__)


def open_primary(chosen: StorageSettings) -> Backend:
    """The backend that the settings choose. Raises OSError if its folder cannot be used."""
    if not chosen.s3_chosen:
        return LocalBackend(chosen.local_root, world_readable=chosen.world_readable)
    encryption = chosen.s3_encryption
    if encryption == "auto":
        # AWS encrypts in any case; some compatible servers refuse the header if they have no key.
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
        ),
        scratch=chosen.spool_folder,
    )


def open_backends(chosen: StorageSettings) -> tuple[Backend, Readiness, Mover | None]:
    """The backend, its readiness and the mover of its spool. Raises OSError.

    S3 has a spool, and the images that an earlier configuration left on the disk stay readable. A disk has a spool only
    while there are images in it from an earlier configuration.
    """
    primary = open_primary(chosen)
    if not chosen.s3_chosen and not Spool.has_images(chosen.spool_folder):
        return primary, Readiness(primary, chosen.health_seconds), None
    spool = Spool(chosen.spool_folder, chosen.spool_max_bytes, chosen.spool_min_free_bytes)
    readiness = Readiness(primary, chosen.health_seconds, spool)
    legacy = None
    if chosen.s3_chosen and LocalBackend.has_images(chosen.local_root):
        legacy = LocalBackend(chosen.local_root, world_readable=chosen.world_readable)
    return SpoolingBackend(primary, spool, readiness, legacy), readiness, Mover(primary, spool, readiness)


@asynccontextmanager
async def assembled(chosen: StorageSettings) -> AsyncIterator[tuple[server.Service, Readiness]]:
    """The service and its readiness. Raises BackendRefused or OSError if the settings cannot work."""
    urls = ImageUrls.of(chosen)
    async with AsyncExitStack() as stack:
        backend, readiness, mover = open_backends(chosen)
        stack.push_async_callback(backend.close)
        decoder = Decoder(chosen.decode_processes, chosen.decode_max_bytes, MAX_IMAGE_BYTES, backend.scratch)
        stack.push_async_callback(decoder.close)
        decoder.start()
        await readiness.start()
        kind = images_pb2.ImageBackend.Name(backend.kind).removeprefix("IMAGE_BACKEND_").lower()
        log.info("backend", extra={"kind": kind, "urls": urls.base_url, "works": readiness.status.healthy})
        admission = Admission(chosen.max_inflight_bytes)
        images = Images(backend, decoder, admission, readiness, urls, chosen.upload_seconds)
        servicer = ImageServicer(images, urls, readiness, chosen.s3_bucket if chosen.s3_chosen else "")
        await stack.enter_async_context(readiness.watching())
        if mover:
            await stack.enter_async_context(mover.running())
        add = partial(images_pb2_grpc.add_ImageServiceServicer_to_server, servicer)
        yield server.Service(SERVICE_NAME, add), readiness


async def main() -> None:
    """Load the settings, check the backend, serve."""
    chosen = settings.load(StorageSettings)
    logs.configure("storage", chosen.log_level, chosen.log_format)
    settings.announce(chosen)
    for name in chosen.ignored():
        log.warning("%s is set but S3 is not used (USE_S3=%s): it has no effect", name, chosen.use_s3)
    async with assembled(chosen) as (service, readiness):
        await server.serve([service], chosen, is_ready=readiness.is_ready)


def run() -> int:
    """Run the process. Returns its exit code."""
    try:
        server.run(main())
    except (BackendRefused, OSError) as error:
        log.error("storage cannot work: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    code = run()
    logging.shutdown()
    # sys.exit would wait for threads, and a thread that calls an S3 without response takes up to 30 s to end.
    os._exit(code)
