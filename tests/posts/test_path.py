"""The main path: a prompt becomes the image of a published post."""

from typing import Any

from frontispiece.posts.v1 import posts_pb2 as p
from frontispiece.posts.v1 import tasks_pb2 as t
from frontispiece.storage.v1 import images_pb2
from frontispiece.types.v1.generation_pb2 import Lora

from tests.posts.conftest import Client
from tests.posts.leaves import ScriptedGenerator, ScriptedStorage


async def test_prompt_becomes_image_of_published_post(
    posts: Client, generator: ScriptedGenerator, storage: ScriptedStorage, sql: Any
) -> None:
    task = await posts.create(
        "a lighthouse at dusk", seed=7, loras=[Lora(name="ink", weight=0.5)], guidance_end=0.4, denoising_end=0.8
    )
    assert task.state == t.TASK_STATE_QUEUED
    events = await posts.events(task.id)
    stored = [event for event in events if event.sequence]
    assert [event.sequence for event in stored] == [1, 2, 3, 4]
    assert [event.WhichOneof("kind") for event in stored] == ["state_change", "state_change", "image", "state_change"]
    assert [event.terminal for event in events].count(True) == 1
    assert events[-1].terminal

    task = await posts.get(task.id)
    assert task.state == t.TASK_STATE_AWAITING_APPROVAL
    (image,) = task.images
    (request,) = generator.requests
    sent = request.parameters
    assert [(lora.name, lora.weight) for lora in sent.loras] == [("ink", 0.5)]
    assert (sent.seed, sent.guidance_end, sent.denoising_end) == (7, 0.4, 0.8)
    assert not sent.HasField("initial_image")
    assert not request.initial_image
    assert (image.generation.parameters.seed, image.image_source, image.image.file.width) == (7, "sdxl-local", 64)

    answer = await posts.approve(task.id, "The Lighthouse", content="It stands.\nStill.", tags=["sea", "light"])
    assert answer.task.state == t.TASK_STATE_APPROVED
    assert answer.task.post_id == answer.post.id

    (post,) = (await posts.posts.ListPosts(p.ListPostsRequest(state=p.POST_STATE_PUBLISHED))).posts
    assert answer.post.html == '<p dir="auto">It stands.\nStill.</p>\n'
    answer.post.ClearField("html")  # lists leave it out
    assert post == answer.post
    assert (post.slug, list(post.tags)) == ("the-lighthouse", ["sea", "light"])
    assert post.featured_image.image == image.image
    assert post.featured_image.alt_text == "a lighthouse at dusk"
    assert post.author.name
    assert post.category.name
    row = await sql.fetchrow("SELECT * FROM posts")
    for column in ("featured_image_url", "featured_image_key", "author_id", "category_id", "created_by", "updated_by"):
        assert row[column] is not None, column

    await storage.kept.wait()
    assert storage.images[image.image.key].state == images_pb2.IMAGE_STATE_PUBLISHED
