"""The committed stubs are those that the contracts generate."""

import shutil
import subprocess
import sys
from pathlib import Path

PROTOS = Path(__file__).parents[2] / "protos"


def test_generating_the_stubs_again_changes_nothing(tmp_path: Path) -> None:
    copy = tmp_path / "protos"
    shutil.copytree(PROTOS, copy, ignore=shutil.ignore_patterns("*_pb2*", "__pycache__"))
    binaries = Path(sys.executable).parent
    result = subprocess.run(
        [binaries / "buf", "generate"],
        cwd=copy,
        env={"PATH": f"{binaries}:/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    fresh = {path.relative_to(copy): path.read_text() for path in copy.rglob("*_pb2*")}
    committed = {path.relative_to(PROTOS): path.read_text() for path in PROTOS.rglob("*_pb2*") if path.is_file()}
    committed = {path: text for path, text in committed.items() if "__pycache__" not in path.parts}
    assert fresh.keys() == committed.keys()
    stale = [str(path) for path, text in fresh.items() if committed[path] != text]
    assert not stale, f"run `make protos`: {stale}"
