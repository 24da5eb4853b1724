"""The key of a read in the cache: equal for requests that get the same answer."""

from urllib.parse import parse_qsl, urlencode

from starlette.types import Scope

FRONT_FILTERS = {"q": "query", "tag": "tag", "category": "category", "author": "author", "page_token": "page_token"}
"""The query parameters of the front page, each with its field of ListPostsRequest. All others are ignored."""

_PAGE = "/posts/"  # one post, whatever the query
_LISTS = frozenset({"/api/posts", "/api/tags", "/api/authors", "/api/categories"})  # unknown parameters are refused


def key(scope: Scope) -> tuple[str, str] | None:
    """The key of a request: its path and its normalised query. None if its path has no answer that is kept."""
    path: str = scope["path"]
    query: bytes = scope["query_string"]
    if not query or path.startswith(_PAGE):
        return path, ""
    if path == "/":
        return path, urlencode(front_query(query))
    if path in _LISTS:
        return path, urlencode(sorted(_pairs(query)))
    return None


def front_query(query: bytes) -> dict[str, str]:
    """The parameters of the front page that have a value, in the order of FRONT_FILTERS."""
    given = dict(_pairs(query))
    stripped = {name: given.get(name, "").strip() for name in FRONT_FILTERS}
    return {name: value for name, value in stripped.items() if value}


def _pairs(query: bytes) -> list[tuple[str, str]]:
    return parse_qsl(query.decode("latin-1"), keep_blank_values=True)
