"""Authors, categories and tags."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from frontispiece.posts.v1 import posts_pb2

from gateway.cache.answers import Answer
from gateway.context import app_context
from gateway.middleware.access import is_editor
from gateway.routes.dependencies import EDITOR, Context
from gateway.routes.post_reads import CURRENT, PRIVATE, PUBLIC, Known
from gateway.routes.problems import READ, WRITE, problems
from gateway.routes.reads import ReadRoute
from gateway.schemas import posts as schemas
from gateway.schemas.documents import Plan
from gateway.schemas.post_documents import author_document, category_document, tag_document
from rpc.limits import limits

router = APIRouter(prefix="/api", tags=["authors, categories, tags"])
reads = APIRouter(prefix="/api", tags=["authors, categories, tags"], route_class=ReadRoute)

_PAGE_SIZE = int(limits(posts_pb2.ListAuthorsRequest, "page_size").max)
_MOST = 1000


async def _answer(
    method: Callable[[Any], Awaitable[Any]], request: Any, field: str, plan: Plan, query: schemas.ListPage
) -> Answer:
    """A page of a list. Without a page size it has as many items as ten calls return."""
    request.page_token = query.page_token
    request.page_size = query.page_size or _PAGE_SIZE
    items: list[Any] = []
    while True:
        response = await method(request)
        items.extend(getattr(response, field))
        request.page_token = response.next_page_token
        if query.page_size or not request.page_token or len(items) >= _MOST:
            document = {field: [plan(one) for one in items], "next_page_token": request.page_token}
            return Answer.json(document, PRIVATE if is_editor() else PUBLIC)


@reads.get("/authors", responses=READ | CURRENT, response_model=schemas.AuthorList, summary="List authors")
async def list_authors(
    request: Request, query: Annotated[schemas.ListPage, Query()], if_none_match: Known = ""
) -> Answer:
    """Authors, by name."""
    method = app_context(request).clients.posts.ListAuthors
    return await _answer(method, posts_pb2.ListAuthorsRequest(), "authors", author_document, query)


@router.post("/authors", status_code=201, responses=WRITE | problems(409), dependencies=EDITOR, summary="Add an author")
async def create_author(app: Context, body: schemas.NewAuthor) -> schemas.ListedAuthor:
    """Add an author."""
    request = posts_pb2.CreateAuthorRequest()
    body.fill(request)
    return schemas.ListedAuthor.from_messages((await app.clients.posts.CreateAuthor(request)).author)


@reads.get("/categories", responses=READ | CURRENT, response_model=schemas.CategoryList, summary="List categories")
async def list_categories(
    request: Request, query: Annotated[schemas.ListPage, Query()], if_none_match: Known = ""
) -> Answer:
    """Categories, by name."""
    method = app_context(request).clients.posts.ListCategories
    return await _answer(method, posts_pb2.ListCategoriesRequest(), "categories", category_document, query)


@router.post(
    "/categories", status_code=201, responses=WRITE | problems(409), dependencies=EDITOR, summary="Add a category"
)
async def create_category(app: Context, body: schemas.NewCategory) -> schemas.ListedCategory:
    """Add a category."""
    request = posts_pb2.CreateCategoryRequest()
    body.fill(request)
    return schemas.ListedCategory.from_messages((await app.clients.posts.CreateCategory(request)).category)


@reads.get("/tags", responses=READ | CURRENT, response_model=schemas.TagList, summary="List tags")
async def list_tags(request: Request, query: Annotated[schemas.ListPage, Query()], if_none_match: Known = "") -> Answer:
    """The tags of published posts, the most used first."""
    method = app_context(request).clients.posts.ListTags
    return await _answer(method, posts_pb2.ListTagsRequest(), "tags", tag_document, query)
