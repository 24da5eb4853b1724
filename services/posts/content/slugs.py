"""Names in URLs, made from titles in any language."""

import re
import unicodedata

from frontispiece.posts.v1 import posts_pb2

from rpc.limits import limits

# Letters that Unicode does not decompose into a base letter and a mark.
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h"}
)
_LENGTH = limits(posts_pb2.CreatePostRequest, "slug").max_length


def slugify(title: str, fallback: str) -> str:
    """`title` as lower-case letters a-z, digits and single hyphens, cut to the limit; `fallback` if nothing is left."""
    folded = unicodedata.normalize("NFKD", title.casefold().translate(_LETTERS))
    words = re.findall(r"[a-z0-9]+", "".join(c for c in folded if not unicodedata.combining(c)).replace("'", ""))
    slug = "-".join(words)
    if len(slug) > _LENGTH:
        cut = slug[:_LENGTH]
        slug = cut if slug[_LENGTH] == "-" else cut.rpartition("-")[0] or cut
    return slug or fallback


def numbered(slug: str, number: int | str) -> str:
    """`slug` with "-number" at its end, cut so that both fit into the limit."""
    ending = f"-{number}"
    return slug[: _LENGTH - len(ending)].rstrip("-") + ending
