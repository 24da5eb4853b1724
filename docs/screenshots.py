"""Takes the two screenshots of the README, of a system with the default model: `python docs/screenshots.py`."""

import tempfile
from pathlib import Path
from typing import Any

import httpx2
from playwright.sync_api import sync_playwright

from tests.gateway.browsing import ARGUMENTS, chromium
from tests.stack import Stack, running

FOLDER = Path(__file__).with_name("images")

POSTS = (
    ("What the orchard keeps", "A short account of frost, blossom and patience.", "a red apple on a green background"),
    ("The door of the castle", "It is on the side where nobody looks for it.", "a castle on a green hill"),
    ("Notes on the night shift", "The quiet hours, as told by those who work them.", "an owl at night"),
    (
        "The last boat in",
        "Dusk comes up out of the water before it comes down from the sky. By the time the lamp is lit the gulls have "
        "already gone, and one sail stands alone in what is left of the light.",
        "a sailboat at sunset",
    ),
)
AUTHORS, CATEGORIES = ("Tomas Reyl", "Ines Marlow"), ("Field notes", "Places")
PROMPT = "a fox on a yellow background"


def publish(stack: Stack) -> None:
    """Generate images and publish posts with them. The last one is first on the site."""
    with httpx2.Client(base_url=stack.base_url, headers=stack.authorization, timeout=180) as editor:

        def post(path: str, **body: Any) -> Any:
            return editor.post(path, json=body).raise_for_status().json()

        authors = [post("/api/authors", name=name)["id"] for name in AUTHORS]
        categories = [post("/api/categories", name=name)["id"] for name in CATEGORIES]
        for number, (title, content, prompt) in enumerate(POSTS):
            task = post("/api/media/generate-image", prompt=prompt, use_generation=True, seed=7)["task_id"]
            post(
                f"/api/tasks/{task}/approve",
                title=title,
                content=content,
                author_id=authors[number % 2],
                category_id=categories[number % 2],
            )


def photograph(stack: Stack, folder: Path) -> None:
    """The front page, and the editor page with two images to choose from."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 1060})
        page.goto(stack.base_url, wait_until="networkidle")
        page.screenshot(path=folder / "site.png")
        page.set_viewport_size({"width": 1280, "height": 960})
        page.goto(f"{stack.base_url}/hub#token={stack.token}")
        page.locator("#ideas button").first.wait_for()
        page.locator("#prompt").fill(PROMPT)
        page.get_by_text("Settings", exact=True).click()
        page.locator("#candidate_count").fill("2")
        page.get_by_text("Settings", exact=True).click()
        page.locator("#generate").click()
        page.locator("#approve").wait_for(timeout=120_000)
        page.locator("#title").fill("A visitor in the garden")
        page.locator("#content").fill("It comes at six, and leaves the hens alone.")
        page.wait_for_load_state("networkidle")
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=folder / "hub.png")
        browser.close()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as data, running(Path(data)) as stack:
        publish(stack)
        photograph(stack, FOLDER)
