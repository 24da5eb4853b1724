"""Markdown as HTML that is safe to show, and its beginning as plain text.

CommonMark with tables, strikethrough and footnotes. Raw HTML is text. It is pure Python, and a text can be made to
keep it busy for seconds: only the process of `deriving` renders.
"""

import re
from collections.abc import MutableMapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

import nh3
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from mdit_py_plugins.footnote import footnote_plugin

from rpc.image_urls import MEDIA_PATH, key_of

EXCERPT_CHARACTERS = 220
# What is nested deeper is left out, so the limit is far above what people write. Brackets in a line nest too, and cost
# much more.
_MAX_BLOCKS, _MAX_IN_LINE = 100, 20
_WORD_END = 40
_KEY = re.compile(r"[A-Za-z0-9!_*'()-][A-Za-z0-9!_.*'()-]*(/[A-Za-z0-9!_*'()-][A-Za-z0-9!_.*'()-]*)*")

_BLOCKS = ("paragraph_open", "heading_open", "list_item_open", "blockquote_open", "td_open", "th_open")
_NOT_IN_EXCERPT = {"heading_open": "heading_close", "footnote_block_open": "footnote_block_close"}
# Marks, variation selectors, joiners and the second half of emoji belong to the character before.
_CONTINUES = re.compile("[\u0300-\u036f\u0483-\u0489\u093c\u200c\u200d\u20d0-\u20ff\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]")

# They would show the rest of the line in another order.
_OVERRIDES = str.maketrans(dict.fromkeys("\u202d\u202e"))

_CELL = {"align"}
_ATTRIBUTES: dict[str, set[str]] = {
    "*": {"dir"},
    "a": {"href", "title", "class", "id"},
    "img": {"src", "alt", "title", "loading"},
    "ol": {"start", "class"},
    "li": {"id", "class"},
    "code": {"class"},
    "div": {"class", "tabindex"},
    "hr": {"class"},
    "section": {"class"},
    "sup": {"class"},
    "th": _CELL,
    "td": _CELL,
}
_TAGS = {*_ATTRIBUTES, "p", "br", "h2", "h3", "h4", "h5", "h6", "blockquote", "ul", "pre", "em", "strong", "s"}
_TAGS |= {"table", "thead", "tbody", "tr"}
_TAGS -= {"*"}
_SCHEMES = {"http", "https", "mailto"}
_ID = re.compile(r"fn(ref)?[0-9]+(:[0-9]+)?")
_CLASS = re.compile(r"footnote[a-z-]*|table-scroll|language-[A-Za-z0-9_+#.-]{1,40}")


class Renderer:
    """Renders texts whose images may lie below `bases`, the addresses of our media now and earlier."""

    def __init__(self, bases: Sequence[str]) -> None:
        """`bases` without a slash at the end."""
        self._bases = tuple(sorted(bases, key=len, reverse=True))
        self._markdown = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])
        self._markdown.use(footnote_plugin)
        self._markdown.core.ruler.before("block", "deep", lambda state: _set_nesting(state, _MAX_BLOCKS))
        self._markdown.core.ruler.before("inline", "shallow", lambda state: _set_nesting(state, _MAX_IN_LINE))
        self._markdown.add_render_rule("table_open", lambda *_: '<div class="table-scroll" tabindex="0">\n<table>\n')
        self._markdown.add_render_rule("table_close", lambda *_: "</table>\n</div>\n")

    def render(self, text: str) -> tuple[str, str]:
        """The HTML of `text`, and its excerpt.

        Headings begin at h2. An image of ours has the address /media/{key}; any other image is a link.
        """
        environment: MutableMapping[str, Any] = {}
        tokens = self._markdown.parse(text, environment)
        excerpt = shortened(_words(tokens, skip=_NOT_IN_EXCERPT) or _words(tokens, skip={}))
        _shift_headings(tokens)
        for token in tokens:
            _adapt_block(token)
            if token.children:
                token.children = self._adapted(token.children)
        html = self._markdown.renderer.render(tokens, self._markdown.options, environment)
        return cleaned(html), excerpt

    def _adapted(self, children: list[Token]) -> list[Token]:
        """Inline tokens: an image of ours with its address at the gateway, another image as a link."""
        found: list[Token] = []
        links = 0
        for token in children:
            links += token.nesting if token.type in ("link_open", "link_close") else 0
            if token.type == "image":
                found += self._image(token, is_in_link=links > 0)
            else:
                found.append(token)
        return found

    def _image(self, token: Token, *, is_in_link: bool) -> list[Token]:
        address = str(token.attrs.get("src", ""))
        key = key_of(address, self._bases)
        if key and _KEY.fullmatch(key):
            token.attrs = {**token.attrs, "src": MEDIA_PATH + quote(key, safe="/!*'()"), "loading": "lazy"}
            return [token]
        is_web = address.lower().startswith(("http://", "https://"))
        words = _plain(token.children or []).strip()
        label = Token("text", "", 0, content=words or (address if is_web else ""))
        if is_in_link or not is_web:
            return [label]
        return [Token("link_open", "a", 1, attrs={"href": address}), label, Token("link_close", "a", -1)]


def _set_nesting(state: StateCore, levels: int) -> None:
    state.md.options["maxNesting"] = levels


def plain(text: str) -> tuple[str, str]:
    """HTML and excerpt of a text that took too long to render: its lines, escaped. Takes time in proportion."""
    paragraphs = (part.strip() for part in text.split("\n\n"))
    html = "".join(f'<p dir="auto">{escape(part)}</p>\n' for part in paragraphs if part)
    return html, rough_excerpt(text)


def rough_excerpt(text: str) -> str:
    """An excerpt without parsing: the beginning of `text` without the characters of Markdown. For any event loop."""
    start = re.sub(r"!?\[([^\[\]]*)\]\([^()\s]*\)", r"\1", text[: 8 * EXCERPT_CHARACTERS])
    start = re.sub(r"[#*_`~|\\]+|^\s*[-+>]+\s|\[\^[^\]]*\]:?", " ", start, flags=re.MULTILINE)
    return shortened(start)


def shortened(text: str) -> str:
    """`text` with single spaces, cut to EXCERPT_CHARACTERS and an ellipsis, between words where there are words."""
    text = " ".join(text.translate(_OVERRIDES).split())
    if len(text) <= EXCERPT_CHARACTERS:
        return text
    end = EXCERPT_CHARACTERS
    while end > EXCERPT_CHARACTERS - _WORD_END and (_CONTINUES.match(text[end]) or text[end - 1] == "\u200d"):
        end -= 1
    space = text.rfind(" ", end - _WORD_END, end + 1)
    return text[: space if space > 0 else end].rstrip(" ,;:.") + " …"


def cleaned(html: str) -> str:
    """`html` with nothing but the elements and attributes that rendering makes."""
    return nh3.clean(
        html,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        url_schemes=_SCHEMES,
        link_rel="noopener",
        attribute_filter=_attribute,
    )


def _attribute(element: str, name: str, value: str) -> str | None:
    if name == "id":
        return value if _ID.fullmatch(value) else None
    if name == "class":
        return value if all(_CLASS.fullmatch(word) for word in value.split()) else None
    if element == "img" and name == "src":
        return value if value.startswith(MEDIA_PATH) else None
    return value


def _shift_headings(tokens: list[Token]) -> None:
    headings = [token for token in tokens if token.type in ("heading_open", "heading_close")]
    shift = 2 - min((int(token.tag[1]) for token in headings), default=2)
    for token in headings:
        token.tag = f"h{min(int(token.tag[1]) + shift, 6)}"


def _adapt_block(token: Token) -> None:
    """The direction of a block follows its text; a wide table scrolls; alignment needs no inline style."""
    if token.type in _BLOCKS:
        token.attrSet("dir", "auto")
    if token.type in ("th_open", "td_open") and (style := str(token.attrs.pop("style", ""))):
        token.attrSet("align", style.removeprefix("text-align:"))


def _words(tokens: list[Token], *, skip: dict[str, str]) -> str:
    """The text of the inline tokens, without the parts between the types in `skip`."""
    found: list[str] = []
    until = ""
    length = 0
    for token in tokens:
        if until:
            until = "" if token.type == until else until
        elif token.type in skip:
            until = skip[token.type]
        elif token.children:
            found.append(_plain(token.children))
            length += len(found[-1])
            if length > 4 * EXCERPT_CHARACTERS:
                break
    return " ".join(found).strip()


def _plain(children: list[Token]) -> str:
    """The text of inline tokens. Images and footnote marks are left out."""
    kept = ("text", "text_special", "code_inline")
    return "".join(
        child.content if child.type in kept else " " if child.type in ("softbreak", "hardbreak") else ""
        for child in children
    )
