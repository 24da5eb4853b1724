"""What makes two names the same tag."""

import unicodedata


def identity(name: str) -> str:
    """What is equal for all spellings of one tag."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(folded.split())
