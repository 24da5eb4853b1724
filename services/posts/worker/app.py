"""The parts of a worker, put together."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from services.posts.connections import background, connect
from services.posts.content.addresses import Addresses
from services.posts.content.texts.deriving import running as deriving
from services.posts.database.database import Database
from services.posts.tasks.notify import Listener
from services.posts.tasks.queue import Queue
from services.posts.worker.attempt import AttemptPolicy, Leaves
from services.posts.worker.dispatcher import Dispatcher
from services.posts.worker.maintenance import Maintenance
from services.posts.worker.settings import WorkerSettings


@dataclass(frozen=True)
class Worker:
    """A running worker."""

    database: Database
    dispatcher: Dispatcher


@contextlib.asynccontextmanager
async def running(settings: WorkerSettings) -> AsyncIterator[Worker]:
    """Connect, check the schema, and work for as long as the block lasts.

    Raises Unavailable (no database) and FailedPrecondition (old schema).
    """
    async with (
        connect(settings, "worker") as connections,
        deriving(()) as texts,
    ):
        database, storage = connections.database, connections.storage
        queue = Queue(database, settings.lease_seconds)
        policy = AttemptPolicy.of(settings)
        dispatcher = Dispatcher(Leaves(queue, database, storage), connections.generators, policy)
        addresses = await Addresses.load(settings, database)
        texts.bases = addresses.image_bases
        maintenance = Maintenance(database, queue, storage, policy, addresses)
        url = settings.database_url.get_secret_value()
        listener = Listener(url, "worker-listener", dispatcher.on_stored, dispatcher.on_gap)
        loops = (
            listener.run(),
            maintenance.reap(settings.reap_seconds),
            maintenance.retain_images(),
            maintenance.keep_addresses(),
            maintenance.find_in_bucket(),
            maintenance.expire_keys(settings.idempotency_days),
            maintenance.derive_texts(texts),
        )
        async with background(*loops), dispatcher.running():
            yield Worker(database, dispatcher)
