"""A fingerprint of local weights, as their revision."""

import hashlib
from pathlib import Path

_EDGE_BYTES = 1024 * 1024


def fingerprint(path: Path) -> str:
    """A fingerprint of the weights at `path`: 40 hex digits of names, sizes, and the first and last MiB of each file.

    To read all of 7 GB would take seconds at each start. The ends hold the safetensors header and some of the weights.
    """
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        size = file.stat().st_size
        name = file.name if file == path else file.relative_to(path).as_posix()
        digest.update(f"{name}\0{size}\0".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_EDGE_BYTES))
            if size > _EDGE_BYTES:
                stream.seek(max(_EDGE_BYTES, size - _EDGE_BYTES))
                digest.update(stream.read())
    return digest.hexdigest()[:40]
