"""Posts, authors and categories: messages to JSON and back."""

from typing import Any

from frontispiece.posts.v1 import posts_pb2

from gateway.messages.times import rfc3339
from gateway.schemas import posts as schemas

STATES: dict[int, schemas.PostState] = {
    posts_pb2.POST_STATE_DRAFT: "draft",
    posts_pb2.POST_STATE_PUBLISHED: "published",
}
STATE_NUMBERS = {name: number for number, name in STATES.items()}


def author(message: posts_pb2.Author) -> schemas.Author:
    """The author as JSON."""
    return schemas.Author(id=message.id, slug=message.slug, name=message.name)


def category(message: posts_pb2.Category) -> schemas.Category:
    """The category as JSON."""
    return schemas.Category(id=message.id, slug=message.slug, name=message.name)


def post(message: posts_pb2.Post, *, editor: bool) -> schemas.Post:
    """The post as JSON; who made it of which task is for editors."""
    image = message.featured_image
    return schemas.Post(
        id=message.id,
        slug=message.slug,
        state=STATES[message.state],
        title=message.title,
        content=message.content,
        featured_image_url=image.url,
        featured_image=schemas.FeaturedImage(
            url=image.url,
            key=image.key,
            alt_text=image.alt_text,
            width=image.width,
            height=image.height,
            thumbhash=image.thumbhash,
            image_source=image.image_source,
        ),
        author=author(message.author),
        category=category(message.category),
        tags=list(message.tags),
        task_id=(message.task_id or None) if editor else None,
        created_by=message.created_by if editor else None,
        updated_by=message.updated_by if editor else None,
        create_time=rfc3339(message.create_time),
        update_time=rfc3339(message.update_time),
        publish_time=rfc3339(message.publish_time) if message.HasField("publish_time") else None,
        etag=message.etag,
    )


def create_request(body: schemas.NewPost, request_id: str) -> posts_pb2.CreatePostRequest:
    """The request that makes a post."""
    return posts_pb2.CreatePostRequest(
        request_id=request_id,
        title=body.title,
        content=body.content,
        slug=body.slug or "",
        author_id=body.author_id,
        category_id=body.category_id,
        tags=body.tags,
        featured_image_key=body.featured_image_key,
        alt_text=body.alt_text,
        publish=body.publish,
    )


def update_request(post_id: str, etag: str, body: schemas.PostChange) -> posts_pb2.UpdatePostRequest:
    """The request that changes the fields which the body holds."""
    changed: dict[str, Any] = body.model_dump(exclude_unset=True)
    request = posts_pb2.UpdatePostRequest(id=post_id, etag=etag, **changed)
    request.update_mask.paths.extend(sorted(changed))
    return request
