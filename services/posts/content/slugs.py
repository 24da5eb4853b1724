"""Names in URLs, made from titles in any language."""

import re

from anyascii import anyascii
from frontispiece.posts.v1 import posts_pb2

from rpc.limits import limits

_LENGTH = limits(posts_pb2.CreatePostRequest, "slug").max_length
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def slugify(title: str, fallback: str) -> str:
    """`title` in Latin letters a-z, digits and single hyphens, cut to the limit; `fallback` if nothing is left.

    A title that would look like an id gets the fallback before it.
    """
    latin = anyascii(title).lower().replace("'", "")
    slug = "-".join(re.findall(r"[a-z0-9]+", latin))
    if looks_like_an_id(slug):
        slug = f"{fallback}-{slug}"
    if len(slug) > _LENGTH:
        cut = slug[:_LENGTH]
        slug = cut if slug[_LENGTH] == "-" else cut.rpartition("-")[0] or cut
    return slug or fallback


def looks_like_an_id(slug: str) -> bool:
    """Whether `slug` has the form of a UUID. It would hide, or be hidden by, what has that id."""
    return _UUID.fullmatch(slug) is not None


def numbered(slug: str, number: int | str) -> str:
    """`slug` with "-number" at its end, cut so that both fit into the limit."""
    ending = f"-{number}"
    return slug[: _LENGTH - len(ending)].rstrip("-") + ending
