"""JSON of posts and of what they refer to."""

from typing import Literal

from pydantic import ConfigDict, Field

from gateway.schemas.text import AltText, Content, Input, Key, Name, Output, Slug, Tags, Title, Uuid

PostState = Literal["draft", "published"]


class Author(Output):
    """Somebody who writes."""

    id: str
    slug: str
    name: str


class Category(Output):
    """A shelf of posts."""

    id: str
    slug: str
    name: str


class TagCount(Output):
    """A tag and how often it is used."""

    name: str
    post_count: int = Field(description="Published posts that carry it.")


class FeaturedImage(Output):
    """The picture of a post."""

    url: str
    key: str
    alt_text: str
    width: int
    height: int
    thumbhash: str
    image_source: str


class Post(Output):
    """A post. `task_id`, `created_by` and `updated_by` are null for readers without the token."""

    id: str
    slug: str
    state: PostState
    title: str
    content: str
    featured_image_url: str
    featured_image: FeaturedImage
    author: Author
    category: Category
    tags: list[str]
    task_id: str | None
    created_by: str | None
    updated_by: str | None
    create_time: str
    update_time: str
    publish_time: str | None
    etag: str = Field(description="Changes with every change of the post; send it as If-Match, quotes included.")


class PostList(Output):
    """One page of posts, newest first."""

    posts: list[Post]
    next_page_token: str = Field(description="For the next page; empty on the last.")


class NewPost(Input):
    """A new post around an image that is stored already."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"title": "The keeper's hour", "featured_image_key": "generated/1790000000-….png"}]
        }
    )

    title: Title = Field(description="Title.")
    content: Content = Field("", description="Text, Markdown.")
    featured_image_key: Key = Field(description="Name of a stored image.")
    author_id: Uuid = Field(description="The author.")
    category_id: Uuid = Field(description="The category.")
    tags: Tags = Field(default_factory=list, description="Tag names.")
    slug: Slug | None = Field(None, description="Name in URLs; else made from the title.")
    alt_text: AltText = Field("", description="What the picture shows; else the title.")
    publish: bool = Field(False, description="Whether to publish at once.")


class PostChange(Input):
    """What to change; what is not given stays as it is."""

    model_config = ConfigDict(
        json_schema_extra={"minProperties": 1, "examples": [{"title": "The keeper's last hour", "tags": ["sea"]}]}
    )

    # None is not a value that a caller may send: the types are not optional, only absent.
    title: Title = Field("", description="New title.")
    content: Content = Field("", description="New text, Markdown.")
    slug: Slug = Field("", description="New name in URLs; the former one stops working.")
    author_id: Uuid = Field("", description="New author.")
    category_id: Uuid = Field("", description="New category.")
    tags: Tags = Field(default_factory=list, description="New tags; they replace the former ones.")
    featured_image_key: Key = Field("", description="Name of the new picture.")
    alt_text: AltText = Field("", description="New alternative text.")


class NewAuthor(Input):
    """A new author."""

    name: Name = Field(description="Name.", examples=["Ada Byron"])
    slug: Slug | None = Field(None, description="Name in URLs; else made from the name.")


class NewCategory(Input):
    """A new category."""

    name: Name = Field(description="Name.", examples=["Essays"])
    slug: Slug | None = Field(None, description="Name in URLs; else made from the name.")


class AuthorList(Output):
    """All authors, by name."""

    authors: list[Author]


class CategoryList(Output):
    """All categories, by name."""

    categories: list[Category]


class TagList(Output):
    """The tags of published posts, the most used first."""

    tags: list[TagCount]
