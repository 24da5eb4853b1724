"""Full-text search without regard to case and accents, independent of the locale of the database."""

import re
import unicodedata

# A tsvector holds at most 1 MiB. This many characters fit in any script.
MAX_CHARACTERS = 100_000


def fold(text: str) -> str:
    """`text` without case, accents and compatibility forms, cut to MAX_CHARACTERS."""
    decomposed = unicodedata.normalize("NFKD", text[:MAX_CHARACTERS].casefold())
    return "".join(c for c in decomposed if not unicodedata.combining(c))[:MAX_CHARACTERS]


def query(text: str) -> str | None:
    """The tsquery for posts that contain all words of `text`, each as the beginning of a word. None if `text` is blank.

    Only letters and digits are used, so nothing in `text` can act as an operator. Without any, no post matches.
    """
    if not text.strip():
        return None
    return " & ".join(f"'{word}':*" for word in re.findall(r"\w+", fold(text)))
