"""The editor page with scripted tasks that await approval, and what a browser does there."""

from frontispiece.posts.v1 import posts_pb2, tasks_pb2
from playwright.async_api import Page, expect

from tests.gateway.scripted import TASK_ID, TOKEN, Scripted, task, task_image

OTHER = TASK_ID
FIRST = "99999999-2222-4333-8444-555555555555"
"""Ids of authors and categories: FIRST is the default."""


def script_approvals(front: Scripted) -> Scripted:
    """Script two tasks that await approval, with two images each. Approvals succeed."""
    tasks = {}
    for number in "12":
        images = [task_image(index=0), task_image(index=1)]
        for image in images:
            image.image.url = "http://127.0.0.1:8080/media/generated/1-x.png"
        images[1].generation.parameters.seed = 2
        made = task(tasks_pb2.TASK_STATE_AWAITING_APPROVAL, images=images)
        made.id = number * 8 + made.id[8:]
        made.parameters.prompt = f"a door, number {number}"
        tasks[made.id] = made

    post = posts_pb2.Post(id=OTHER, state=posts_pb2.POST_STATE_PUBLISHED)

    def approve(request: tasks_pb2.ApproveTaskRequest) -> tasks_pb2.ApproveTaskResponse:
        after = tasks[request.task_id]
        after.state = tasks_pb2.TASK_STATE_APPROVED
        after.approved_image_index = request.image_index
        return tasks_pb2.ApproveTaskResponse(task=after, post=post)

    on = front.scripts.on
    on("ListTasks", lambda _: tasks_pb2.ListTasksResponse(tasks=list(tasks.values())))
    on("GetTask", lambda request: tasks_pb2.GetTaskResponse(task=tasks[request.task_id]))
    on("ApproveTask", approve)
    on("GetPost", lambda _: posts_pb2.GetPostResponse(post=post))
    authors = [
        posts_pb2.Author(id=OTHER, name="Ana"),
        posts_pb2.Author(id=FIRST, name="The editors", is_default=True),
    ]
    on("ListAuthors", lambda _: posts_pb2.ListAuthorsResponse(authors=authors))
    categories = [
        posts_pb2.Category(id=OTHER, name="Art"),
        posts_pb2.Category(id=FIRST, name="News", is_default=True),
    ]
    on("ListCategories", lambda _: posts_pb2.ListCategoriesResponse(categories=categories))
    return front


async def open_card(page: Page, number: int) -> None:
    await page.locator("#cards button").nth(number - 1).click()
    await expect(page.locator("#task-title")).to_have_text(f"a door, number {number}")
    await expect(page.get_by_label("Title")).to_be_visible()


async def open_hub(page: Page, scripted: Scripted) -> None:
    await page.route("**/media/generated/**", lambda route: route.fulfill(status=204))
    await page.goto(f"{scripted.base_url}/hub#token={TOKEN}")


async def drafts(page: Page) -> list[str]:
    """The names of what the browser keeps."""
    names: list[str] = await page.evaluate("Object.keys(localStorage)")
    return [name for name in names if "draft" in name and "prompt" not in name]
