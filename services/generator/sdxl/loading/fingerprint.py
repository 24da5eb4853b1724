"""A fingerprint of local weights, as their revision."""

import hashlib
import json
import logging
from pathlib import Path

log = logging.getLogger(__name__)

_CACHED_FROM_BYTES = 64 * 1024 * 1024


def fingerprint(path: Path, digests: Path | None = None) -> str:
    """A fingerprint of the weights at `path`: 40 hex digits of the names and the SHA-256 of all files.

    To read 7 GB takes seconds, so the SHA-256 of a file of 64 MiB or more is kept in the file `digests`. It is computed
    again when the size, the modification time or the change time of the file differs; no program can set the latter.
    """
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    known = _Digests(digests)
    for file in files:
        name = file.name if file == path else file.relative_to(path).as_posix()
        digest.update(f"{name}\0{known.of(file)}\0".encode())
    known.save()
    return digest.hexdigest()[:40]


def combined(*revisions: str) -> str:
    """The revision of weights that come from several places: 40 hex digits."""
    return hashlib.sha256("\0".join(revisions).encode()).hexdigest()[:40]


class _Digests:
    """The SHA-256 of large files, by path and state."""

    def __init__(self, file: Path | None) -> None:
        """Read the digests that `file` holds, if any."""
        self._file = file
        self._known: dict[str, list[str]] = {}
        self._is_changed = False
        try:
            found = json.loads(file.read_text()) if file else {}
            self._known = {str(name): [str(part) for part in value] for name, value in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            pass  # computed again

    def of(self, file: Path) -> str:
        """The SHA-256 of a file, in hex."""
        status, name = file.stat(), str(file.resolve())
        state = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
        if self._file and self._known.get(name, [])[:1] == [state]:
            return self._known[name][1]
        with file.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        if status.st_size >= _CACHED_FROM_BYTES:
            self._known[name] = [state, sha256]
            self._is_changed = True
        return sha256

    def save(self) -> None:
        """Write the digests. A folder that cannot be written costs time at the next start, nothing else."""
        if self._file is None or not self._is_changed:
            return
        temporary = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self._known, indent=1, sort_keys=True))
            temporary.replace(self._file)
        except OSError as error:
            log.info("the digests of the weights are not kept", extra={"error": str(error)})
