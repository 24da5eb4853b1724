"""What is in a folder of storage, looked at while the service lives."""

import time
from pathlib import Path

_OURS = (".tmp/", ".probe/")


def files_below(folder: Path) -> list[str]:
    """Relative paths of all files but lock files; what a health check writes for a moment does not count."""
    found = _listing(folder)
    until = time.monotonic() + 2
    while any(name.startswith(_OURS) for name in found) and time.monotonic() < until:
        time.sleep(0.02)
        found &= _listing(folder)
    return sorted(found)


def _listing(folder: Path) -> set[str]:
    files = (path for path in folder.rglob("*") if path.name != ".lock" and path.is_file())
    return {str(path.relative_to(folder)) for path in files}
