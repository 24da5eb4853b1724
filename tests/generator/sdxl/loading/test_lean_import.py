"""In a process of its own: what is imported stays imported."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROGRAM = """
import sys
from pathlib import Path
import torch
from services.generator.sdxl.loading.lean_import import lean_import

with lean_import():
    from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.loading.checkpoints import ModelSource
from services.generator.sdxl.options import SdxlOptions

assert torch.distributed.is_available()
folder = Path(sys.argv[1])
options = SdxlOptions(models_dir=folder.parent, device="cpu", threads=1)
engine = SdxlEngine([ModelSource.parse("", str(folder))], options)
engine.warm_up()
for package in ("torch._dynamo.eval_frame", "torch.distributed.tensor"):
    assert package not in sys.modules, package

def double(x):
    return 2 * x

assert torch.compile(double, backend="eager")(torch.ones(1)) == 2
assert "torch._dynamo.eval_frame" in sys.modules
assert torch._dynamo.allow_in_graph.__module__ == "torch._dynamo.decorators"
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
"""


def test_generates_without_the_compiler_which_is_imported_when_it_is_used(checkpoint: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(checkpoint)],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
