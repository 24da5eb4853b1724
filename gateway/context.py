"""What the routes share: settings, clients, metrics, and whether the gateway is stopping."""

import asyncio
from dataclasses import dataclass, field

from fastapi import Request

from gateway.clients import Clients
from gateway.metrics import GatewayMetrics
from gateway.settings import GatewaySettings
from gateway.watching import TaskWatcher


@dataclass
class Gateway:
    """One running gateway."""

    settings: GatewaySettings
    clients: Clients
    metrics: GatewayMetrics
    watcher: TaskWatcher
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    open_event_streams: int = 0


def gateway(request: Request) -> Gateway:
    """The gateway that serves a request."""
    state: Gateway = request.app.state.gateway
    return state
