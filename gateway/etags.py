"""Entity tags (RFC 9110, 8.8)."""


def weak(etag: str) -> str:
    """The etag of a compressed body: a strong one belongs to exactly one sequence of bytes (8.8.1)."""
    return etag if etag.startswith("W/") else f"W/{etag}"


def matches(if_none_match: str, etag: str) -> bool:
    """Whether an If-None-Match header names `etag`, by the weak comparison (8.8.3.2)."""
    strong = etag.removeprefix("W/")
    return any(one.strip() == "*" or one.strip().removeprefix("W/") == strong for one in if_none_match.split(","))
