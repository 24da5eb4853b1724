"""JSON of posts, authors, categories and tags."""

from typing import Any, Literal, Self

from frontispiece.posts.v1 import posts_pb2
from google.protobuf.message import Message
from pydantic import ConfigDict, Field

from gateway.schemas.base import Input, Output
from gateway.schemas.formats import Time, Url, Uuid

PostState = Literal["draft", "published"]


class Author(Output):
    """An author of posts."""

    id: Uuid
    slug: str = Field(description="Name in URLs.")
    name: str


class Category(Output):
    """A category of posts."""

    id: Uuid
    slug: str = Field(description="Name in URLs.")
    name: str


class ListedAuthor(Author):
    """An author, and whether posts get it that name none."""

    is_default: bool = Field(description="Whether a post without an author gets this one.")


class ListedCategory(Category):
    """A category, and whether posts get it that name none."""

    is_default: bool = Field(description="Whether a post without a category gets this one.")


class TagCount(Output):
    """A tag, and how many published posts have it."""

    name: str
    post_count: int = Field(description="Number of published posts with this tag.")


class FeaturedImage(Output):
    """The image of a post."""

    url: Url = Field(description="Absolute URL. It keeps working.")
    key: str = Field(description="Name of the image in storage.")
    alt_text: str = Field(description="Alternative text.")
    width: int = Field(description="Width in pixels.")
    height: int = Field(description="Height in pixels.")
    thumbhash: str = Field(description="Blurred placeholder (ThumbHash), base64. It may be empty.")
    image_source: str = Field(description="`sdxl-s3`, `sdxl-local`, `pexels` or `upload`.")

    @classmethod
    def from_messages(cls, *messages: Message, **given: Any) -> Self:
        """The shape of a posts_pb2.FeaturedImage."""
        (message,) = messages
        assert isinstance(message, posts_pb2.FeaturedImage)
        return super().from_messages(message, message.image, message.image.file, **given)


class Post(Output):
    """A post. `task_id`, `created_by` and `updated_by` are null without the token."""

    id: Uuid
    slug: str = Field(description="Name in URLs.")
    state: PostState
    title: str
    content: str = Field(description="Text, Markdown.")
    excerpt: str = Field(
        description="The beginning of the text without Markdown, at most 220 characters and an ellipsis."
    )
    featured_image_url: Url = Field(description="The `url` of `featured_image`.")
    featured_image: FeaturedImage
    author: Author
    category: Category
    tags: list[str]
    task_id: Uuid | None = Field(description="The task that generated the image.")
    created_by: str | None
    updated_by: str | None
    create_time: Time
    update_time: Time
    publish_time: Time | None = Field(description="When it was published. null for a draft.")
    etag: str = Field(description="Changes with every change of the post. Send it as If-Match, with its quotes.")


class RenderedPost(Post):
    """A post with its text as HTML."""

    html: str = Field(
        description="The text as HTML, safe to show as it is. Images of ours have the address `/media/{key}`, relative "
        "to the gateway."
    )


def post(message: posts_pb2.Post, *, editor: bool) -> Post:
    """A post as JSON. Only editors see its task and who changed it."""
    private = {} if editor else dict.fromkeys(("task_id", "created_by", "updated_by"))
    return Post.from_messages(message, featured_image_url=message.featured_image.image.url, **private)


class PostList(Output):
    """A page of posts, newest first."""

    posts: list[Post]
    next_page_token: str = Field(description="Token of the next page. Empty on the last page.")


class PostFilter(Input):
    """Which posts to list."""

    model_config = ConfigDict(strict=False)
    messages = (posts_pb2.ListPostsRequest,)

    tag: str = Field("", description="Only posts with this tag.")
    category: str = Field("", description="Only posts in the category with this slug or id.")
    author: str = Field("", description="Only posts by the author with this slug or id.")
    query: str = Field("", alias="q", description="Only posts that contain all of these words.")
    state: Literal["published", "draft", "any"] = Field("published", description="`draft` and `any` need the token.")
    page_size: int = Field(
        0, description="Largest number of posts. A larger number than the limit counts as the limit."
    )
    page_token: str = Field("", description="`next_page_token` of the page before.")

    def request(self) -> posts_pb2.ListPostsRequest:
        """The request of ListPosts."""
        request = posts_pb2.ListPostsRequest()
        self.model_copy(update={"state": None if self.state == "any" else self.state}).fill(request)
        return request


class NewPost(Input):
    """A new post with an image that is already stored."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"title": "The keeper's hour", "featured_image_key": "generated/1790000000-a1b2c3.png"}]
        }
    )
    messages = (posts_pb2.CreatePostRequest,)

    title: str = Field(description="Title.")
    content: str = Field("", description="Text, Markdown.")
    featured_image_key: str = Field(description="The `key` of a stored image.")
    author_id: str | None = Field(None, description="Id of the author. Default: the first author.")
    category_id: str | None = Field(None, description="Id of the category. Default: the first category.")
    tags: list[str] = Field(default_factory=list, description="Tag names. Duplicates are removed.")
    slug: str | None = Field(None, description="Name in URLs. Default: derived from the title.")
    alt_text: str = Field("", description="Alternative text of the image. Default: the title.")
    publish: bool = Field(False, description="Whether to publish the post at once. Default: false.")


class PostChange(Input):
    """The fields of a post to change. A field that is not given keeps its value."""

    model_config = ConfigDict(
        json_schema_extra={"minProperties": 1, "examples": [{"title": "The keeper's last hour", "tags": ["sea"]}]}
    )
    messages = (posts_pb2.UpdatePostRequest,)
    never_empty = frozenset({"title", "slug", "author_id", "category_id", "featured_image_key"})

    # The types are not optional: a field may be absent, but not null.
    title: str = Field("", description="New title.")
    content: str = Field("", description="New text, Markdown.")
    slug: str = Field("", description="New name in URLs. The old one leads to the new one.")
    author_id: str = Field("", description="Id of the new author.")
    category_id: str = Field("", description="Id of the new category.")
    tags: list[str] = Field(default_factory=list, description="New tags. They replace the old ones.")
    featured_image_key: str = Field("", description="The `key` of the new image.")
    alt_text: str = Field("", description="New alternative text.")


class NewAuthor(Input):
    """A new author."""

    messages = (posts_pb2.CreateAuthorRequest,)

    name: str = Field(description="Name.", examples=["Ada Byron"])
    slug: str | None = Field(None, description="Name in URLs. Default: derived from the name.")


class NewCategory(Input):
    """A new category."""

    messages = (posts_pb2.CreateCategoryRequest,)

    name: str = Field(description="Name.", examples=["Essays"])
    slug: str | None = Field(None, description="Name in URLs. Default: derived from the name.")


class ListPage(Input):
    """Which part of a list."""

    model_config = ConfigDict(strict=False)
    messages = (posts_pb2.ListTagsRequest,)

    page_size: int = Field(0, description="Largest number of items. Default: 1000. More than 100 counts as 100.")
    page_token: str = Field("", description="`next_page_token` of the page before.")


class AuthorList(Output):
    """Authors, by name."""

    authors: list[ListedAuthor]
    next_page_token: str = Field(description="Token of the next page. Empty on the last page.")


class CategoryList(Output):
    """Categories, by name."""

    categories: list[ListedCategory]
    next_page_token: str = Field(description="Token of the next page. Empty on the last page.")


class TagList(Output):
    """The tags of published posts, the most used first."""

    tags: list[TagCount]
    next_page_token: str = Field(description="Token of the next page. Empty on the last page.")
