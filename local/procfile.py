"""Reads a Procfile: one process a line, as `name: command`."""

import re
import shlex
import sys
from pathlib import Path

_LINE = re.compile(r"(?P<name>[A-Za-z0-9_-]+):\s*(?P<command>\S.*)")

RELEASE = "release"
"""The name of the command that runs once, before the processes that use the database start."""


def read(path: Path) -> dict[str, list[str]]:
    """The commands by name, in order. A leading `python` becomes this interpreter. Raises ValueError."""
    commands: dict[str, list[str]] = {}
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        line = text.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{path}, line {number}: expected `name: command`")
        command = shlex.split(match["command"])
        if command[0] == "python":
            command[0] = sys.executable
        commands[match["name"]] = command
    return commands
