"""Markdown as HTML: what people write is shown, and nothing that could act gets through."""

import pytest

from services.posts.content.texts.rendering import Renderer

BASES = ("https://pictures.example/media", "http://127.0.0.1:8080/media", "https://cdn.example")


def render(text: str) -> str:
    return Renderer(BASES).render(text)[0]


def excerpt(text: str) -> str:
    return Renderer(BASES).render(text)[1]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("| a | b |\n|-|-:|\n| 1 | 2 |", '<td dir="auto" align="right">2</td>'),
        ("| a |\n|-|\n| 1 |", '<div class="table-scroll" tabindex="0">'),
        ("~~old~~", "<s>old</s>"),
        ("**b** *i* `c<d`", "<strong>b</strong> <em>i</em> <code>c&lt;d</code>"),
        ("a[^x]\n\n[^x]: the note", '<a href="#fn1" id="fnref1"'),
        ("a[^x]\n\n[^x]: the note", '<li id="fn1" class="footnote-item">'),
        ("a^[the note]", "the note"),
        ("7. a", '<ol start="7">'),
        ("```python\nx < y\n```", '<pre><code class="language-python">x &lt; y'),
        ("<b>x</b>", "&lt;b&gt;x&lt;/b&gt;"),
        ("[a](/posts/other)", '<a href="/posts/other"'),
        ("[a](mailto:a@b.example)", '<a href="mailto:a@b.example"'),
        ("שלום", '<p dir="auto">שלום</p>'),
        ("- x", '<li dir="auto">x</li>'),
        ("> x", '<blockquote dir="auto">'),
        ("a  \nb", "a<br>"),
    ],
)
def test_text_is_shown(text: str, part: str) -> None:
    assert part in render(text)


@pytest.mark.parametrize(
    ("text", "levels"),
    [("# a\n## b", "23"), ("## a\n### b", "23"), ("### a\n# b", "42"), ("#### a", "2"), ("# a\n###### b", "26")],
    ids=["from 1", "from 2", "later 1", "from 4", "deepest"],
)
def test_headings_begin_at_the_second_level(text: str, levels: str) -> None:
    assert "".join(part[0] for part in render(text).split("<h")[1:]) == levels


@pytest.mark.parametrize(
    "address",
    [
        "/media/generated/1-x.png",
        "https://pictures.example/media/generated/1-x.png",
        "http://127.0.0.1:8080/media/generated/1-x.png",
        "https://cdn.example/generated/1-x.png",
        "https://cdn.example/generated/1-x.png?width=3",
    ],
)
def test_image_of_ours_is_shown_from_the_gateway(address: str) -> None:
    assert '<img src="/media/generated/1-x.png" alt="A fox" loading="lazy">' in render(f"![A fox]({address})")


@pytest.mark.parametrize(
    "address",
    [
        "https://other.example/x.png",
        "https://pictures.example/x.png",
        "https://pictures.example.evil/media/x.png",
        "https://cdn.example.evil/x.png",
        "https://pictures.example/media/../../x.png",
        "https://pictures.example/media/%2e%2e/x.png",
        "https://pictures.example/media//x.png",
    ],
)
def test_other_image_is_a_link(address: str) -> None:
    assert f'<a href="{address}" rel="noopener">A fox</a>' in render(f"![A fox]({address})")
    assert "<img" not in render(f"![A fox]({address})")


@pytest.mark.parametrize(
    "text",
    [
        "![x](data:image/png;base64,AAAA)",
        "![x](//evil.example/x.png)",
        "![x](x.png)",
        "[![x](https://other.example/x.png)](/posts/y)",
    ],
    ids=["data", "no scheme", "relative", "within a link"],
)
def test_image_that_cannot_be_a_link_is_its_alternative_text(text: str) -> None:
    assert "x" in render(text)
    assert "<img" not in render(text)
    assert render(text).count("<a ") == text.startswith("[!")


ATTACKS = {
    "script": "<script>alert(1)</script>",
    "attribute": '<img src=x onerror="alert(1)">',
    "link": "[x](javascript:alert(1))",
    "capitals": "[x](JaVaScRiPt:alert(1))",
    "entity": "[x](java&#115;cript:alert(1))",
    "tab": "[x](java\tscript:alert(1))",
    "newline": "[x](<java\nscript:alert(1)>)",
    "vbscript": "[x](vbscript:x)",
    "data": "[x](data:text/html,<script>alert(1)</script>)",
    "autolink": "<javascript:alert(1)>",
    "reference": "[x]\n\n[x]: javascript:alert(1)",
    "image": "![x](javascript:alert(1))",
    "title": '[x](/y "\\" onclick=\\"alert(1)")',
    "code": '```"><script>alert(1)</script>\nx\n```',
    "note": "[^<script>]\n\n[^<script>]: <script>alert(1)</script>",
    "media": '![x](/media/"onerror="alert(1))',
    "style": '<p style="position:fixed">x</p>',
    "id": '<p id="main">x</p>',
    "closing": "</div></main><form action=//evil><input>",
}

HARMLESS = {
    *("p", "br", "hr", "h2", "h3", "h4", "h5", "h6", "blockquote", "ul", "ol", "li", "pre", "code", "em", "strong"),
    *("s", "a", "img", "table", "thead", "tbody", "tr", "th", "td", "div", "section", "sup"),
}
