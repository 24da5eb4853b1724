"""Authors, categories and tags."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter
from frontispiece.posts.v1 import posts_pb2

from gateway.routes.dependencies import EDITOR, Context
from gateway.routes.problems import READ, WRITE, problems
from gateway.schemas import posts as schemas
from rpc.limits import limits

router = APIRouter(prefix="/api", tags=["authors, categories, tags"])

_PAGE_SIZE = int(limits(posts_pb2.ListAuthorsRequest, "page_size").max)


async def all_pages(method: Callable[[Any], Awaitable[Any]], request: Any, field: str) -> list[Any]:
    """The items of all pages of a list method; `field`: the name of the items in a response."""
    items: list[Any] = []
    while True:
        request.page_size = _PAGE_SIZE
        response = await method(request)
        items.extend(getattr(response, field))
        request.page_token = response.next_page_token
        if not request.page_token:
            return items


@router.get("/authors", responses=READ, summary="List authors")
async def list_authors(app: Context) -> schemas.AuthorList:
    """All authors, by name."""
    authors = await all_pages(app.clients.posts.ListAuthors, posts_pb2.ListAuthorsRequest(), "authors")
    return schemas.AuthorList(authors=[schemas.Author.from_messages(one) for one in authors])


@router.post("/authors", status_code=201, responses=WRITE | problems(409), dependencies=EDITOR, summary="Add an author")
async def create_author(app: Context, body: schemas.NewAuthor) -> schemas.Author:
    """Add an author."""
    request = posts_pb2.CreateAuthorRequest()
    body.fill(request)
    return schemas.Author.from_messages((await app.clients.posts.CreateAuthor(request)).author)


@router.get("/categories", responses=READ, summary="List categories")
async def list_categories(app: Context) -> schemas.CategoryList:
    """All categories, by name."""
    categories = await all_pages(app.clients.posts.ListCategories, posts_pb2.ListCategoriesRequest(), "categories")
    return schemas.CategoryList(categories=[schemas.Category.from_messages(one) for one in categories])


@router.post(
    "/categories", status_code=201, responses=WRITE | problems(409), dependencies=EDITOR, summary="Add a category"
)
async def create_category(app: Context, body: schemas.NewCategory) -> schemas.Category:
    """Add a category."""
    request = posts_pb2.CreateCategoryRequest()
    body.fill(request)
    return schemas.Category.from_messages((await app.clients.posts.CreateCategory(request)).category)


@router.get("/tags", responses=READ, summary="List tags")
async def list_tags(app: Context) -> schemas.TagList:
    """The tags of published posts, the most used first."""
    tags = await all_pages(app.clients.posts.ListTags, posts_pb2.ListTagsRequest(), "tags")
    return schemas.TagList(tags=[schemas.TagCount.from_messages(one) for one in tags])
