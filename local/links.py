"""Prints where the system is: the links as soon as the gateway listens, and a line once everything is ready."""

import asyncio
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from local.settings import RunSettings

READY = "Frontispiece is ready."
POLL_SECONDS = 0.05

# Our own address is never asked through the proxy of http_proxy.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


async def gateway_responds(settings: RunSettings) -> None:
    """Wait until the gateway responds to requests."""
    await _until(lambda: _status(f"{settings.local_url}/healthz") == 200)


async def report(settings: RunSettings, variables: Mapping[str, str]) -> None:
    """Print the links when the gateway listens, and READY when all services are ready.

    The gateway listens before it can respond. A browser that follows a link earlier waits for about a second.
    """
    await _until(lambda: _listens(settings.local_host, settings.gateway_port))
    editor = await asyncio.to_thread(_editor_link, settings, variables)
    print(
        f"\n  site    {settings.base_url}/\n  editor  {editor}\n  stop    Ctrl-C\n\n"
        "  The pages are served; images can be generated once the model is loaded.\n",
        flush=True,
    )
    await _until(lambda: _status(f"{settings.local_url}/readyz") == 200)
    print(f"\n  {READY}\n", flush=True)


def _editor_link(settings: RunSettings, variables: Mapping[str, str]) -> str:
    """The link of the editor page. On a terminal it signs the administrator in; a log must not hold the token.

    The gateway creates the token file before it listens.
    """
    shown = settings.print_token == "true" or (settings.print_token == "auto" and sys.stdout.isatty())
    if not shown:
        where = "GATEWAY_TOKEN" if variables.get("GATEWAY_TOKEN") else f"cat {variables['GATEWAY_TOKEN_FILE']}"
        return f"{settings.base_url}/hub    (token: {where})"
    from gateway.token_file import hub_link, read_or_create  # here, so that the gateway starts before the import

    token = variables.get("GATEWAY_TOKEN") or read_or_create(Path(variables["GATEWAY_TOKEN_FILE"]))
    return hub_link(settings.base_url, token)


async def _until(condition: Callable[[], bool]) -> None:
    while True:
        if await asyncio.to_thread(condition):
            return
        await asyncio.sleep(POLL_SECONDS)


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def _status(url: str) -> int:
    """The HTTP status of a response; 0 when there is none."""
    try:
        with _DIRECT.open(url, timeout=2) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
