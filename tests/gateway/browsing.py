"""A browser for tests, and a page whose console must have no errors."""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from playwright.async_api import BrowserContext, Page

from tests.stack import Stack

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
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
    page.on("console", lambda message: seen.complaints.append(message.text) if message.type in BAD else None)
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    yield seen
    assert seen.complaints == []
    await context.close()


BAD = {"error", "warning"}


def link(stack: Stack) -> str:
    """The address that signs an editor in."""
    return f"{stack.base_url}/hub#token={stack.token}"
