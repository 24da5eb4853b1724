"""A checkpoint that a test may spoil."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may spoil."""
    return Path(shutil.copytree(checkpoint, tmp_path / "copy"))
