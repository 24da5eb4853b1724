"""What all routes share: settings, gRPC clients, metrics, and the state of the process."""

import asyncio
from dataclasses import dataclass, field

from fastapi import Request

from gateway.cache.store import Cache
from gateway.clients import Clients
from gateway.middleware.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from gateway.spool import Spool

MAX_IMAGE_READS = 256


@dataclass
class AppContext:
    """One running gateway."""

    settings: GatewaySettings
    clients: Clients
    metrics: GatewayMetrics
    cache: Cache
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when shutdown begins. Event streams and waiting requests then end."""
    open_event_streams: int = 0
    waiting_calls: int = 0
    """Calls of generate-image that wait for their image."""
    generator_was_ready: bool = False
    """Whether the generator has been ready since this process started."""
    image_reads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_IMAGE_READS))
    """One is held for each client that takes bytes of an image at this moment."""
    spool: Spool = field(init=False)
    """The temporary files of uploads."""

    def __post_init__(self) -> None:
        """Make what follows from the settings."""
        self.spool = Spool(self.settings.spool_bytes)


def app_context(request: Request) -> AppContext:
    """The context of the application that serves `request`."""
    context: AppContext = request.app.state.context
    return context
