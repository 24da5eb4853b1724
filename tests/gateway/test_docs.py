"""The page with the description of the REST interface."""

import re

import httpx2
from playwright.async_api import Browser

from gateway.codes import CODES
from tests.gateway.scripted import Scripted

OPEN = "document.querySelectorAll('details').forEach((one) => { one.open = true; })"
SCROLLED_BY_MOUSE_ONLY = """[...document.querySelectorAll('.docs, .docs *')]
  .filter((one) => one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflowX === 'auto')
  .filter((one) => one.tabIndex < 0).map((one) => one.outerHTML.slice(0, 100))"""
WRAPPED = """[...document.querySelectorAll('.docs th, .docs .limit')]
  .filter((one) => one.textContent.trim().length < 40)
  .filter((one) => { const range = document.createRange(); range.selectNodeContents(one);
    return new Set([...range.getClientRects()].map((box) => Math.round(box.bottom / 12))).size > 2; })
  .map((one) => one.textContent)"""
NARROW = """[...document.querySelectorAll('.docs td')].filter((one) => one.textContent.trim() === 'header')
  .filter((one) => one.clientWidth < 30).length"""


async def test_the_page_shows_every_operation_in_its_group_and_every_code(reader: httpx2.AsyncClient) -> None:
    document = (await reader.get("/openapi.json")).json()
    page = (await reader.get("/docs")).text
    position = 0
    for group in document["tags"]:
        position = page.index(f"<h2>{group['name'].capitalize()}</h2>", position)
        for methods in document["paths"].values():
            for operation in methods.values():
                if operation["tags"] == [group["name"]]:
                    position = page.index(f'<details id="{operation["operationId"]}">', position)
    for code in CODES:
        assert f"<code>{code}</code>" in page, code
    assert "`" not in re.sub(r"<pre.*?</pre>", "", page, flags=re.DOTALL)


async def test_on_a_phone_nothing_wraps_within_a_word_and_every_scroll_region_can_have_the_focus(
    browser: Browser, front: Scripted
) -> None:
    page = await browser.new_page(viewport={"width": 390, "height": 800})
    await page.goto(f"{front.base_url}/docs")
    await page.evaluate(OPEN)
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    assert await page.evaluate(SCROLLED_BY_MOUSE_ONLY) == []
    assert await page.evaluate(WRAPPED) == []
    assert await page.evaluate(NARROW) == 0
