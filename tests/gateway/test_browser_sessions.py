"""Signing in on the editor page: all tabs of a browser share the session."""

from playwright.async_api import Browser, Page, expect

from tests.gateway.browsing import visit
from tests.gateway.editor_page import open_editor
from tests.gateway.scripted import TOKEN, Scripted


async def signed_in(page: Page) -> None:
    await expect(page.locator("#editor")).to_be_visible()
    await expect(page.locator("#parameters #seed")).to_be_attached()


async def signed_out(page: Page) -> None:
    await expect(page.get_by_label("Admin token")).to_be_visible()
    await expect(page.locator("#editor")).to_be_hidden()


async def test_a_second_tab_and_a_bookmark_are_signed_in(editor_page: Scripted, browser: Browser) -> None:
    async with visit(await browser.new_context()) as here:
        await open_editor(here.page, editor_page)
        other = await here.page.context.new_page()
        await other.goto(f"{editor_page.base_url}/hub")
        await signed_in(other)
        await here.page.goto("about:blank")
        await other.close()
        await here.page.goto(f"{editor_page.base_url}/hub")
        await signed_in(here.page)


async def test_signing_out_signs_out_all_tabs_and_signing_in_signs_them_in(
    editor_page: Scripted, browser: Browser
) -> None:
    async with visit(await browser.new_context()) as here:
        page = here.page
        await open_editor(page, editor_page)
        other = await page.context.new_page()
        await other.goto(f"{editor_page.base_url}/hub")
        await signed_in(other)
        await page.get_by_role("button", name="Sign out").click()
        await signed_out(page)
        await signed_out(other)
        assert TOKEN not in await page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
        await other.get_by_label("Admin token").fill(TOKEN)
        await other.keyboard.press("Enter")
        await signed_in(other)
        await signed_in(page)


async def test_a_stale_link_does_not_end_the_session(editor_page: Scripted, browser: Browser) -> None:
    context = await browser.new_context()
    page = await context.new_page()
    await open_editor(page, editor_page)
    other = await context.new_page()
    await other.goto(f"{editor_page.base_url}/hub#token=a-token-of-last-year")
    await signed_in(other)
    await page.reload()
    await signed_in(page)
    await context.close()


async def test_a_session_ends_when_it_is_not_used_for_hours(editor_page: Scripted, browser: Browser) -> None:
    async with visit(await browser.new_context()) as here:
        page = here.page
        await page.clock.install()
        await open_editor(page, editor_page)
        await page.goto("about:blank")
        await page.clock.fast_forward("13:00:00")
        await page.goto(f"{editor_page.base_url}/hub")
        await signed_out(page)


async def test_the_page_works_where_nothing_can_be_kept(editor_page: Scripted, browser: Browser) -> None:
    """The session is that of the tab then."""
    async with visit(await browser.new_context()) as here:
        denied = "get() { throw new DOMException('denied', 'SecurityError'); }"
        for store in ("localStorage", "sessionStorage"):
            await here.page.add_init_script(f"Object.defineProperty(window, '{store}', {{ {denied} }});")
        await open_editor(here.page, editor_page)
        await signed_in(here.page)
