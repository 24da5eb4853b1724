"""The files in a folder of a running storage service."""

import time
from pathlib import Path

_OURS = (".tmp/", ".probe/")


def files_below(folder: Path) -> list[str]:
    """Relative paths of all files except lock files and the temporary files of a health check."""
    found = _listing(folder)
    until = time.monotonic() + 2
    while any(name.startswith(_OURS) for name in found) and time.monotonic() < until:
        time.sleep(0.02)
        found &= _listing(folder)
    return sorted(found)


def _listing(folder: Path) -> set[str]:
    files = (path for path in folder.rglob("*") if path.name != ".lock" and path.is_file())
    return {str(path.relative_to(folder)) for path in files}
