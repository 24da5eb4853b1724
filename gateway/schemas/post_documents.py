"""Posts, authors, categories and tags as JSON documents."""

from frontispiece.posts.v1 import posts_pb2

from gateway.schemas.documents import Document, Plan
from gateway.schemas.posts import FeaturedImage, ListedAuthor, ListedCategory, Post, TagCount

_IMAGE_PATHS = {
    "url": "image.url",
    "key": "image.key",
    "width": "image.file.width",
    "height": "image.file.height",
    "thumbhash": "image.thumbhash",
}

_IMAGE = Plan(FeaturedImage, posts_pb2.FeaturedImage, _IMAGE_PATHS)
_POST = Plan(Post, posts_pb2.Post, {"featured_image_url": "featured_image.image.url"}, {"featured_image": _IMAGE})

author_document = Plan(ListedAuthor, posts_pb2.Author)
category_document = Plan(ListedCategory, posts_pb2.Category)
tag_document = Plan(TagCount, posts_pb2.Tag)


def post_document(message: posts_pb2.Post, *, editor: bool) -> Document:
    """A post as JSON, as `schemas.posts.post` gives it. Only editors see its task and who changed it."""
    document = _POST(message)
    if not editor:
        document["task_id"] = document["created_by"] = document["updated_by"] = None
    return document
