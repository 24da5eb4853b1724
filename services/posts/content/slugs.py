"""Names in URLs, made from titles in any language."""

import re
import unicodedata

# Letters that do not decompose into a base letter and a mark.
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h"}
)
_MOST = 100


def slugify(title: str, fallback: str) -> str:
    """`title` as lower-case letters a-z, digits and single hyphens, at most 100; `fallback` when nothing is left."""
    folded = unicodedata.normalize("NFKD", title.casefold().translate(_LETTERS))
    words = re.findall(r"[a-z0-9]+", "".join(c for c in folded if not unicodedata.combining(c)).replace("'", ""))
    slug = "-".join(words)
    if len(slug) > _MOST:
        cut = slug[:_MOST]
        slug = cut if slug[_MOST] == "-" else cut.rpartition("-")[0] or cut
    return slug or fallback


def numbered(slug: str, number: int | str) -> str:
    """`slug` with a number added, cut so that both fit into 100 characters."""
    ending = f"-{number}"
    return slug[: _MOST - len(ending)].rstrip("-") + ending
