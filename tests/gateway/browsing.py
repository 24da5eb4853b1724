"""A browser for tests, and a page whose console must have no errors."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from playwright.async_api import BrowserContext, ConsoleMessage, Page

from tests.stack import Stack

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP painter.lan 127.0.0.1",
]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
MILLISECONDS = 120_000


def chromium() -> str:
    """The browser's path; without one the test skips, unless it must not."""
    for name in (os.environ.get("CHROMIUM", ""), *NAMES):
        if name and (path := shutil.which(name)):
            return path
    if os.environ.get("CI_REQUIRE_BROWSER") == "1":
        pytest.fail("no Chromium found, and CI_REQUIRE_BROWSER=1 forbids to skip")
    pytest.skip("no Chromium found; install one or set CHROMIUM")


@dataclass
class Visit:
    """A page and what its console said."""

    page: Page
    complaints: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def visit(context: BrowserContext) -> AsyncIterator[Visit]:
    """A page; at the end nothing may have been complained about."""
    context.set_default_timeout(MILLISECONDS)
    page = await context.new_page()
    seen = Visit(page)
    page.on("console", lambda message: seen.complaints.append(message.text) if complains(message) else None)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    yield seen
    assert seen.complaints == [], seen.complaints
    await context.close()


BAD = {"error", "warning"}


def complains(message: ConsoleMessage) -> bool:
    """Whether a message is a complaint. Chromium says that it ignores one of our headers on http to other machines."""
    return message.type in BAD and "Cross-Origin-Opener-Policy header has been ignored" not in message.text


def on_the_network(url: str) -> str:
    """A URL of this machine as another machine of the network would write it: by a name, over plain http."""
    return url.replace("127.0.0.1", "painter.lan")


async def load_pictures(page: Page) -> list[str]:
    """Wait until all pictures in view are loaded; returns the URLs of those that are broken."""
    broken: list[str] = await page.evaluate("""async () => {
      const images = [...document.querySelectorAll("img")].filter((image) => image.getClientRects().length);
      for (const image of images) image.loading = "eager";
      await Promise.allSettled(images.map((image) => image.decode()));
      return images.filter((image) => !image.naturalWidth).map((image) => image.src);
    }""")
    return broken


def link(stack: Stack) -> str:
    """The address that signs an editor in."""
    return f"{stack.base_url}/hub#token={stack.token}"
