"""Authors and categories: created, numbered, listed in the order of people; the first ones are the default."""

import asyncio
import uuid

import grpc
from frontispiece.posts.v1 import posts_pb2 as p

from tests.posts.conftest import Client, reason, wrong_fields
from tests.posts.content.calls import make, refused


async def test_authors_and_categories_are_created_and_listed(idle: Client) -> None:
    async def author(name: str, slug: str = "") -> p.Author:
        return (await idle.posts.CreateAuthor(p.CreateAuthorRequest(name=name, slug=slug))).author  # type: ignore[no-any-return]

    assert (await author("Ada Lovelace")).slug == "ada-lovelace"
    assert (await author("Ada Lovelace")).slug == "ada-lovelace-2"
    assert (await author("Ada Lovelace", "ada")).slug == "ada"
    error = await refused(author("Ada", "ada"))
    assert (error.code(), reason(error)) == (grpc.StatusCode.ALREADY_EXISTS, "SLUG_TAKEN")
    error = await refused(author("Ada", "12345678-1234-1234-1234-123456789abc"))
    assert (error.code(), wrong_fields(error)) == (grpc.StatusCode.INVALID_ARGUMENT, {"slug"})
    names = [one.name for one in (await idle.posts.ListAuthors(p.ListAuthorsRequest())).authors]
    assert names == ["Ada Lovelace", "Ada Lovelace", "Ada Lovelace", "Editorial team"]
    await idle.posts.CreateCategory(p.CreateCategoryRequest(name="海", slug="sea"))
    names = [one.name for one in (await idle.posts.ListCategories(p.ListCategoriesRequest())).categories]
    assert sorted(names) == ["General", "海"]


async def test_names_in_any_script_get_slugs_and_numbers(idle: Client) -> None:
    names = ("Новости", "Статьи", "新闻", "新闻", "😀", "...", "…")
    slugs = [(await idle.posts.CreateCategory(p.CreateCategoryRequest(name=name))).category.slug for name in names]
    assert slugs == ["novosti", "stati", "xinwen", "xinwen-2", "grinning", "category", "category-2"]


async def test_many_at_once_with_one_name_get_different_slugs(idle: Client) -> None:
    made = await asyncio.gather(
        *(idle.posts.CreateAuthor(p.CreateAuthorRequest(name="Анна Петрова")) for _ in range(8))
    )
    assert len({response.author.slug for response in made}) == 8


async def test_first_author_and_category_are_the_default_wherever_they_are_shown(idle: Client, images: str) -> None:
    """Not the first by name."""
    author = (await idle.posts.CreateAuthor(p.CreateAuthorRequest(name="Aaron"))).author
    category = (await idle.posts.CreateCategory(p.CreateCategoryRequest(name="Aardvarks"))).category
    assert (author.is_default, category.is_default) == (False, False)
    authors = (await idle.posts.ListAuthors(p.ListAuthorsRequest())).authors
    categories = (await idle.posts.ListCategories(p.ListCategoriesRequest())).categories
    assert [(one.name, one.is_default) for one in authors] == [("Aaron", False), ("Editorial team", True)]
    assert [(one.name, one.is_default) for one in categories] == [("Aardvarks", False), ("General", True)]
    plain = (await idle.posts.CreatePost(p.CreatePostRequest(title="T", featured_image_key=images))).post
    assert (plain.author, plain.category) == (authors[1], categories[1])
    chosen = await make(idle, {"author_id": author.id, "category_id": category.id})
    assert (chosen.author, chosen.category) == (author, category)


async def test_names_are_in_the_order_of_people(idle: Client) -> None:
    for name in ("Zoe", "adam", "Ärla", "Ben", "Émile", "Иван", "анна", "Яна", "adam", "Łukasz", "ßa"):
        await idle.posts.CreateAuthor(p.CreateAuthorRequest(name=name, slug=f"s{uuid.uuid4().hex[:8]}"))
    names, token = [], ""
    while True:
        page = await idle.posts.ListAuthors(p.ListAuthorsRequest(page_size=2, page_token=token))
        names += [author.name for author in page.authors]
        token = page.next_page_token
        if not token:
            break
    assert names == [
        *("adam", "adam", "Ärla", "Ben", "Editorial team", "Émile", "Łukasz", "ßa", "Zoe"),
        *("анна", "Иван", "Яна"),
    ]
