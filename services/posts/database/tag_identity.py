"""What makes two names the same tag."""

import unicodedata


def identity(name: str) -> str:
    """What is equal for all spellings of one tag: without case, width, invisible characters and double spaces."""
    visible = "".join(c for c in name if unicodedata.category(c) != "Cf" and not "\ufe00" <= c <= "\ufe0f")
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible).casefold())
    return " ".join(folded.split())
