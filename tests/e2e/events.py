"""Reading server-sent events the way a browser does."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2


@dataclass(frozen=True)
class Event:
    """One event: `id` is None for what is not stored and cannot be resumed from."""

    kind: str
    id: int | None
    data: dict[str, Any]


async def read(
    client: httpx2.AsyncClient, task_id: str, *, after: int | None = None, stop_after: int | None = None
) -> AsyncIterator[Event]:
    """The events of a task, to the end of the stream; or until the first stored event at or past `stop_after`."""
    headers = {"Accept": "text/event-stream"}
    if after is not None:
        headers["Last-Event-ID"] = str(after)
    async with client.stream("GET", f"/api/tasks/{task_id}/events", headers=headers) as response:
        if response.status_code == 204:  # at rest, and every event was seen: a browser does not connect again
            return
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        fields: dict[str, str] = {}
        async for line in response.aiter_lines():
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.removeprefix(" ")
                continue
            if "data" in fields:
                event = Event(
                    fields.get("event", "message"),
                    int(fields["id"]) if "id" in fields else None,
                    json.loads(fields["data"]),
                )
                yield event
                if stop_after is not None and event.id is not None and event.id >= stop_after:
                    return
            fields = {}


async def collect(client: httpx2.AsyncClient, task_id: str, **keywords: int) -> list[Event]:
    """All of them."""
    return [event async for event in read(client, task_id, **keywords)]
