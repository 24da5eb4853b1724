"""Renders templates to HTML: escaping, links below the path of the site, dates, and the Content-Security-Policy."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from google.protobuf.timestamp_pb2 import Timestamp
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse, Response

from gateway.cache.answers import Answer
from gateway.errors import Problem
from gateway.schemas.documents import time
from gateway.settings import GatewaySettings

TEMPLATES = Path(__file__).parent / "templates"

HTML = "text/html; charset=utf-8"

_CODE = re.compile(r"`([^`]+)`")

# A link or image of ours in the HTML of a text. Quotes in attributes and "<" in text are always escaped there.
_MEDIA = re.compile(r"""(<(?:img|a)\s(?:[^<>"]|"[^"]*")*?(?:src|href)=")/media/""")


class Pages:
    """Renders the pages of one site. All links are paths on the host that the reader uses, whatever its name is."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Prepare the environment. A template is read when it is first used."""
        self._base_url = settings.public_base_url
        self._root = settings.base_path
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals.update(site_title=settings.site_title, base_url=self._base_url, root=self._root)
        self._environment.filters.update(
            paragraphs=paragraphs, inline=inline, local=self.local, rendered=self.rendered, day=day, time=time,
            number=_number,
        )  # fmt: skip
        self._headers = {
            "content-security-policy": content_policy(settings),
            "cross-origin-opener-policy": "same-origin",
        }

    def answer(self, template: str, values: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
        """A page that may be kept, with an etag."""
        return Answer(self._bytes(template, values), HTML, {**self._headers, **headers})

    def render(
        self, template: str, values: Mapping[str, Any], headers: Mapping[str, str], status: int = 200
    ) -> Response:
        """A page from a template."""
        return HTMLResponse(self._bytes(template, values), status, {**self._headers, **headers})

    def problem(self, problem: Problem) -> Response:
        """The page that shows an error."""
        headers = dict(problem.response().headers)
        keep: dict[str, str] = {name: headers[name] for name in ("cache-control", "retry-after") if name in headers}
        return self.render(
            "problem.html", {"problem": problem, "retry_after": headers.get("retry-after")}, keep, problem.status
        )

    def local(self, url: str) -> str:
        """A URL of this site as a path, so that pages work under every host name; any other URL as it is."""
        return self._root + url.removeprefix(self._base_url) if url.startswith(f"{self._base_url}/") else url

    def rendered(self, html: str) -> Markup:
        """The HTML of a post, which the posts service has cleaned, with images below the path of the site."""
        return Markup(_MEDIA.sub(rf"\g<1>{self._root}/media/", html) if self._root else html)

    def _bytes(self, template: str, values: Mapping[str, Any]) -> bytes:
        return self._environment.get_template(template).render(values).encode("utf-8", "replace")


def content_policy(settings: GatewaySettings) -> str:
    """The Content-Security-Policy of pages: scripts and styles of this site, and images of the image store."""
    own = (_origin(url) for url in (settings.public_base_url, settings.cdn) if url)
    images = ["'self'", "data:", "blob:", "https:", *own, *settings.origins(settings.image_origins)]
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            f"img-src {' '.join(dict.fromkeys(images))}",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def inline(text: str) -> Markup:
    """A description of the API as HTML: `code` between backticks, everything else as it is."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def paragraphs(text: str) -> Markup:
    """A description of several paragraphs as HTML."""
    return Markup("").join(Markup("<p>{}</p>").format(inline(part)) for part in text.split("\n\n") if part.strip())


def day(moment: Timestamp) -> str:
    """`21 November 2026`, in UTC."""
    date = datetime.fromtimestamp(moment.seconds, UTC)
    return f"{date.day} {date:%B %Y}"


def _number(value: float) -> float:
    """`4096` for `4096.0`, as FastAPI writes the limits of integers."""
    return int(value) if value == int(value) else value
