"""Prints where the system is: the links as soon as the gateway listens, and a line once everything is ready."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from local.settings import RunSettings

READY = "Frontispiece is ready."
POLL_SECONDS = 0.1


async def listening(settings: RunSettings) -> None:
    """Wait until the gateway responds to requests."""
    await _until_ok(f"{settings.local_url}/healthz")


async def report(settings: RunSettings, variables: Mapping[str, str]) -> None:
    """Print the links when the gateway responds, and READY when all services do."""
    await listening(settings)
    token = await asyncio.to_thread(_token, variables)
    print(
        f"\n  site    {settings.base_url}/\n  editor  {settings.base_url}/hub#token={token}\n  stop    Ctrl-C\n\n"
        "  The pages are served; images can be generated once the model is loaded.\n",
        flush=True,
    )
    await _until_ok(f"{settings.local_url}/readyz")
    print(f"\n  {READY}\n", flush=True)


def _token(variables: Mapping[str, str]) -> str:
    """The administrator's token. The gateway makes the file before it listens."""
    return variables.get("GATEWAY_TOKEN") or Path(variables["GATEWAY_TOKEN_FILE"]).read_text().strip()


async def _until_ok(url: str) -> None:
    while True:
        if await asyncio.to_thread(_status, url) == 200:
            return
        await asyncio.sleep(POLL_SECONDS)


def _status(url: str) -> int:
    """The HTTP status of a response; 0 when there is none."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
