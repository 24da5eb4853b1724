"""The editor page and the site in a browser: by mouse, by keyboard, on a phone, without console errors."""

import re
import uuid

import pytest
from playwright.async_api import Browser, Page, Route, expect

from tests.gateway.browsing import link, visit
from tests.gateway.conftest import publish
from tests.stack import Stack


async def fill_form(page: Page, prompt: str, *, candidates: int = 1) -> None:
    """Fill the form of a small picture in."""
    await page.get_by_label("Prompt", exact=True).fill(prompt)
    await page.get_by_text("Settings", exact=True).click()
    await page.locator("#num_inference_steps").fill("16")
    await page.locator("#candidate_count").fill(str(candidates))


# Progress may be too quick to be seen by looking now and then.
RECORD_STEPS = """
window.stepsSaid = [];
new MutationObserver(() => {
  const words = document.querySelector("#steps")?.textContent;
  if (words && words !== window.stepsSaid.at(-1)) window.stepsSaid.push(words);
}).observe(document, { subtree: true, childList: true, characterData: true });
"""


class TestDesk:
    async def test_an_image_is_generated_approved_and_published_by_mouse(self, stack: Stack, browser: Browser) -> None:
        title = f"A door {uuid.uuid4().hex[:8]}"
        async with visit(await browser.new_context(viewport={"width": 1280, "height": 900})) as here:
            page = here.page
            await page.add_init_script(RECORD_STEPS)
            await page.goto(link(stack))
            await expect(page.locator("#ideas button").first).to_be_visible()
            assert "token" not in page.url  # it moved from the address into the tab
            await fill_form(page, "a door in a garden wall", candidates=2)
            await page.get_by_role("button", name="Generate", exact=True).click()
            await expect(page.get_by_role("progressbar")).to_be_visible()
            await expect(page.get_by_role("heading", name="Create a post")).to_be_visible()
            said = await page.evaluate("window.stepsSaid")
            assert any(re.fullmatch(r"step \d+ of \d+", words) for words in said), said
            pictures = page.locator(".choices img")
            await expect(pictures).to_have_count(2)
            await page.get_by_role("radio", name="Image 2").check()
            await page.get_by_label("Title").fill(title)
            await page.get_by_label("Text", exact=True).fill("It opens **inwards**.\n\n<script>alert(1)</script>")
            await page.get_by_label("Tags").fill("wood, garden")
            await page.get_by_role("button", name="Approve", exact=True).click()
            read = page.get_by_role("link", name="Read the post")
            await read.click()
            await expect(page.get_by_role("heading", level=1)).to_have_text(title)
            await expect(page.locator(".prose strong")).to_have_text("inwards")
            await expect(page.locator(".prose")).to_contain_text("<script>alert(1)</script>")
            shown = await page.locator("figure img").evaluate("image => [image.complete, image.naturalWidth]")
            assert shown[0]
            assert shown[1] > 0
            await page.goto(stack.base_url)
            await expect(page.get_by_role("link", name=title).first).to_be_visible()

    async def test_an_approval_is_repeated_with_its_key_after_a_lost_response(
        self, stack: Stack, browser: Browser
    ) -> None:
        """The button is pressed twice, the post is made once, and the editor sees it as hers."""
        title = f"A window {uuid.uuid4().hex[:8]}"
        keys: list[str] = []

        async def lose_the_first(route: Route) -> None:
            keys.append(await route.request.header_value("idempotency-key") or "")
            response = await route.fetch()
            assert response.status == 200
            await (route.abort() if len(keys) == 1 else route.fulfill(response=response))

        async with visit(await browser.new_context()) as here:
            page = here.page
            await page.goto(link(stack))
            await expect(page.locator("#ideas button").first).to_be_visible()
            await fill_form(page, "a window")
            await page.get_by_role("button", name="Generate", exact=True).click()
            await page.get_by_label("Title").fill(title)
            await page.route("**/approve", lose_the_first)
            button = page.get_by_role("button", name="Approve", exact=True)
            await button.click()
            await expect(page.get_by_text("The gateway cannot be reached")).to_be_visible()
            assert [text for text in here.complaints if "ERR_FAILED" not in text] == []
            here.complaints.clear()
            await button.click()
            await page.get_by_role("link", name="Read the post").click()
            await expect(page.get_by_role("heading", level=1)).to_have_text(title)
            assert len(keys) == 2
            assert len(set(keys)) == 1
            await page.goto(stack.base_url)
            await expect(page.get_by_role("link", name=title)).to_have_count(1)

    async def test_an_image_is_generated_and_rejected_by_keyboard(self, stack: Stack, browser: Browser) -> None:
        async with visit(await browser.new_context()) as here:
            page = here.page
            await page.goto(f"{stack.base_url}/hub")
            await expect(page.get_by_label("Admin token")).to_be_focused()
            await page.keyboard.type(stack.token)
            await page.keyboard.press("Enter")
            await expect(page.locator("#parameters #seed")).to_be_attached()
            await page.get_by_label("Prompt", exact=True).focus()
            await page.keyboard.type("a gate")
            await page.keyboard.press("Control+Enter")
            await expect(page.get_by_role("heading", name="Create a post")).to_be_visible()
            await page.get_by_text("Reject instead").focus()
            await page.keyboard.press("Enter")
            await page.keyboard.press("Tab")
            await page.keyboard.type("too plain")
            await page.keyboard.press("Tab")
            await page.keyboard.press("Enter")
            await expect(page.locator("#task-view .state")).to_have_text("rejected")
            await expect(page.locator("#task-view")).to_be_focused()

    async def test_an_error_is_shown_next_to_its_field(self, stack: Stack, browser: Browser) -> None:
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(link(stack))
        await expect(page.locator("#parameters #seed")).to_be_attached()
        await page.get_by_role("button", name="Generate", exact=True).click()
        prompt = page.get_by_label("Prompt", exact=True)
        await expect(page.locator('[data-error="prompt"]')).to_be_visible()
        await expect(prompt).to_be_focused()
        await expect(prompt).to_have_attribute("aria-invalid", "true")
        assert await prompt.get_attribute("aria-describedby") == "prompt-error"
        await prompt.fill("a door")
        await page.get_by_text("Settings", exact=True).click()
        await page.get_by_label("Seed").fill("seven")
        await page.get_by_role("button", name="Generate", exact=True).click()
        await expect(page.locator('[data-error="seed"]')).to_contain_text("integer")
        await expect(page.locator('[data-error="prompt"]')).to_be_hidden()
        await context.close()

    async def test_a_draft_is_published_and_unpublished(self, stack: Stack, browser: Browser) -> None:
        title = f"A gate {uuid.uuid4().hex[:8]}"
        async with visit(await browser.new_context()) as here:
            page = here.page
            await page.goto(link(stack))
            await expect(page.locator("#parameters #seed")).to_be_attached()
            await fill_form(page, "a gate")
            await page.get_by_role("button", name="Generate", exact=True).click()
            await page.get_by_label("Title").fill(title)
            await page.get_by_label("Publish at once").uncheck()
            await page.get_by_label("Author", exact=True).select_option("New…")
            await page.get_by_label("Name of the new author").fill(f"Author of {title}")
            await page.get_by_role("button", name="Approve", exact=True).click()
            await page.get_by_role("button", name="Publish", exact=True).click()
            unpublish = page.get_by_role("button", name="Unpublish", exact=True)
            await expect(unpublish).to_be_focused()
            await expect(page.get_by_role("link", name="Read the post")).to_be_visible()
            await unpublish.click()
            await expect(page.get_by_text(f"“{title}” is a draft.")).to_be_visible()
            response = await page.request.get(f"{stack.base_url}/?q={title.replace(' ', '+')}")
            assert "Nothing here" in await response.text()

    async def test_a_task_is_cancelled_and_retried(self, stack: Stack, browser: Browser) -> None:
        async with visit(await browser.new_context()) as here:
            page = here.page
            await page.goto(link(stack))
            await expect(page.locator("#parameters #seed")).to_be_attached()
            await page.get_by_label("Prompt", exact=True).fill("a door that takes long")
            await page.get_by_text("Settings", exact=True).click()
            await page.locator("#num_inference_steps").fill("80")
            await page.locator("#candidate_count").fill("4")
            await page.get_by_role("button", name="Generate", exact=True).click()
            await page.get_by_role("button", name="Cancel", exact=True).click()
            await page.get_by_role("button", name="Retry", exact=True).click()
            await page.get_by_role("button", name="Cancel", exact=True).click()
            await expect(page.locator("#task-view .state")).to_have_text("cancelled")

    async def test_a_wrong_token_shows_a_message(self, stack: Stack, browser: Browser) -> None:
        context = await browser.new_context()
        page = await context.new_page()
        await page.goto(f"{stack.base_url}/hub#token=wrong-token-of-somebody")
        await expect(page.get_by_label("Admin token")).to_be_visible()
        await page.get_by_label("Admin token").fill("wrong again")
        await page.get_by_role("button", name="Sign in", exact=True).click()
        await expect(page.get_by_text("not accepted")).to_be_visible()
        await expect(page.locator("#editor")).to_be_hidden()
        await context.close()


class TestPages:
    @pytest.mark.parametrize("width", [360, 390, 768, 1280])
    async def test_no_page_scrolls_sideways(self, stack: Stack, browser: Browser, editor: object, width: int) -> None:
        post = await publish(editor, title="W" * 120, content="x" * 300, tags=["t" * 50])  # type: ignore[arg-type]
        async with visit(await browser.new_context(viewport={"width": width, "height": 800})) as here:
            for path in ("/", f"/posts/{post['slug']}", "/docs", "/hub", f"/hub#token={stack.token}"):
                await here.page.goto(stack.base_url + path)
                if "token" in path:
                    await expect(here.page.locator("#cards li").first).to_be_visible()
                wide = await here.page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{path} is {wide} px wide"

    async def test_the_site_works_without_javascript(self, stack: Stack, browser: Browser, editor: object) -> None:
        post = await publish(editor)  # type: ignore[arg-type]
        async with visit(await browser.new_context(java_script_enabled=False)) as here:
            await here.page.goto(stack.base_url)
            await here.page.get_by_role("link", name=post["title"]).first.click()
            await expect(here.page.get_by_role("heading", level=1)).to_have_text(post["title"])
            await here.page.get_by_role("link", name="wood").click()
            await expect(here.page.get_by_role("link", name=post["title"]).first).to_be_visible()

    async def test_images_have_width_height_and_alternative_text(
        self, stack: Stack, browser: Browser, editor: object
    ) -> None:
        post = await publish(editor)  # type: ignore[arg-type]
        async with visit(await browser.new_context()) as here:
            for path in ("/", f"/posts/{post['slug']}"):
                await here.page.goto(stack.base_url + path)
                for image in await here.page.locator("img").all():
                    for attribute in ("width", "height", "alt"):
                        assert await image.get_attribute(attribute), f"{path}: no {attribute}"

    async def test_pages_load_nothing_from_other_origins(self, stack: Stack, browser: Browser) -> None:
        async with visit(await browser.new_context()) as here:
            asked: list[str] = []
            here.page.on("request", lambda request: asked.append(request.url))
            for path in ("/", "/docs", f"/hub#token={stack.token}"):
                await here.page.goto(stack.base_url + path)
            assert asked
            assert all(url.startswith((stack.base_url, "data:")) for url in asked)
