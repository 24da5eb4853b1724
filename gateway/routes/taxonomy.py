"""Authors, categories and tags."""

from typing import Annotated

from fastapi import APIRouter, Depends
from frontispiece.posts.v1 import posts_pb2

from gateway.messages import posts as messages
from gateway.routes.responses import EDITOR, READ, WRITE, problems
from gateway.schemas import posts as schemas
from gateway.state import Gateway, gateway

router = APIRouter(prefix="/api", tags=["authors, categories, tags"])

Here = Annotated[Gateway, Depends(gateway)]


@router.get("/authors", responses=READ, summary="List authors")
async def list_authors(here: Here) -> schemas.AuthorList:
    """All authors, by name."""
    answer = await here.clients.posts.ListAuthors(posts_pb2.ListAuthorsRequest())
    return schemas.AuthorList(authors=[messages.author(one) for one in answer.authors])


@router.post("/authors", status_code=201, responses=WRITE | problems(409), dependencies=EDITOR, summary="Add an author")
async def create_author(here: Here, body: schemas.NewAuthor) -> schemas.Author:
    """Add an author."""
    request = posts_pb2.CreateAuthorRequest(name=body.name, slug=body.slug or "")
    return messages.author((await here.clients.posts.CreateAuthor(request)).author)


@router.get("/categories", responses=READ, summary="List categories")
async def list_categories(here: Here) -> schemas.CategoryList:
    """All categories, by name."""
    answer = await here.clients.posts.ListCategories(posts_pb2.ListCategoriesRequest())
    return schemas.CategoryList(categories=[messages.category(one) for one in answer.categories])


@router.post(
    "/categories", status_code=201, responses=WRITE | problems(409), dependencies=EDITOR, summary="Add a category"
)
async def create_category(here: Here, body: schemas.NewCategory) -> schemas.Category:
    """Add a category."""
    request = posts_pb2.CreateCategoryRequest(name=body.name, slug=body.slug or "")
    return messages.category((await here.clients.posts.CreateCategory(request)).category)


@router.get("/tags", responses=READ, summary="List tags")
async def list_tags(here: Here) -> schemas.TagList:
    """The tags of published posts, the most used first."""
    answer = await here.clients.posts.ListTags(posts_pb2.ListTagsRequest())
    return schemas.TagList(tags=[schemas.TagCount(name=one.name, post_count=one.post_count) for one in answer.tags])
