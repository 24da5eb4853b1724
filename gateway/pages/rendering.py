"""Renders templates to HTML: escaping, Markdown, dates, and the Content-Security-Policy."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup
from starlette.responses import HTMLResponse, Response

from gateway.errors import Problem
from gateway.settings import GatewaySettings

TEMPLATES = Path(__file__).parent / "templates"

_EXCERPT_CHARACTERS = 220


class Pages:
    """Renders the pages of one site."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Prepare the environment. A template is read when it is first used."""
        self._base_url = settings.public_base_url
        # Raw HTML is escaped, and images are left out: the content policy would block those of other sites.
        self._markdown = MarkdownIt("commonmark", {"html": False, "linkify": False}).disable("image")
        self._environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(site_title=settings.site_title, base_url=self._base_url)
        self._environment.filters.update(
            markdown=self.markdown, inline=self.inline, excerpt=self.excerpt, local=self.local, day=day, number=_number
        )
        self._headers = {
            "content-security-policy": content_policy(settings),
            "cross-origin-opener-policy": "same-origin",
        }

    def render(
        self, template: str, values: Mapping[str, Any], headers: Mapping[str, str], status: int = 200
    ) -> Response:
        """A page from a template."""
        html = self._environment.get_template(template).render(values)
        return HTMLResponse(html.encode("utf-8", "replace"), status, {**self._headers, **headers})

    def problem(self, problem: Problem) -> Response:
        """The page that shows an error."""
        headers = dict(problem.response().headers)
        keep: dict[str, str] = {name: headers[name] for name in ("cache-control", "retry-after") if name in headers}
        return self.render(
            "problem.html", {"problem": problem, "retry_after": headers.get("retry-after")}, keep, problem.status
        )

    def markdown(self, text: str) -> Markup:
        """Markdown as HTML. HTML in the text is escaped."""
        return Markup(self._markdown.render(text))  # markdown-it escapes raw HTML

    def inline(self, text: str) -> Markup:
        """One line of Markdown as HTML without a paragraph."""
        return Markup(self._markdown.renderInline(text))

    def excerpt(self, text: str) -> str:
        """The beginning of a Markdown text as plain text."""
        words: list[str] = []
        for token in self._markdown.parse(text):
            for child in token.children or []:
                words.append(child.content or " ")  # noqa: PERF401
            words.append(" ")
        plain = " ".join("".join(words).split())
        if len(plain) <= _EXCERPT_CHARACTERS:
            return plain
        return plain[:_EXCERPT_CHARACTERS].rsplit(" ", 1)[0].rstrip(",;:.") + " …"

    def local(self, url: str) -> str:
        """A URL of this site without its host, so that pages work under every host name."""
        return url.removeprefix(self._base_url) if url.startswith(self._base_url + "/") else url


def content_policy(settings: GatewaySettings) -> str:
    """The Content-Security-Policy of pages: scripts and styles of this site, and images of the image store."""
    base = urlsplit(settings.public_base_url)
    images = ["'self'", "data:", "blob:", "https:", f"{base.scheme}://{base.netloc}"]
    images += settings.origins(settings.image_origins)
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            f"img-src {' '.join(images)}",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def day(time: str) -> str:
    """`21 November 2026` for `2026-11-21T05:00:00Z`."""
    moment = datetime.fromisoformat(time)
    return f"{moment.day} {moment:%B %Y}"


def _number(value: float) -> float:
    """`4096` for `4096.0`, as FastAPI writes the limits of integers."""
    return int(value) if value == int(value) else value
