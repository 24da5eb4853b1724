"""The fp8 kernels without a GPU: run by Triton's interpreter, and compiled for one."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.generator.sdxl.fp8.tiles import TILES, Tile

pytestmark = [
    pytest.mark.fp8,
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is made for Linux only"),
]

SHARED_BYTES = 227 * 1024  # what one block of an H200 may have
POINTERS = {"x": "*fp8e4nv", "weight": "*fp8e4nv", "scales": "*fp32", "weight_scales": "*fp32", "bias": "*bf16"}


@pytest.mark.timeout(400)  # half a minute on a free core
def test_they_compute_what_the_reference_computes() -> None:
    file = Path(__file__).with_name("interpreted_kernels.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", str(file)]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=380)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"^\d\d passed", done.stdout, re.MULTILINE), done.stdout[-3000:]


def compiled(kernel: Any, types: dict[str, str], constants: dict[str, Any], **options: int) -> Any:
    """The kernel for an H100 or H200, made here: the compiler needs no GPU."""
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = kernel.arg_names
    signature = {name: types.get(name, "constexpr" if name in constants else "i32") for name in names}
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in names if name not in constants}
    values = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature, values, aligned)
    return compile(source, target=GPUTarget("cuda", 90, 32), options={**options, "enable_fp_fusion": False})


@pytest.mark.parametrize("tile", TILES)
def test_the_convolution_uses_the_tensor_cores_of_an_h200(
    tile: Tile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from services.generator.sdxl.fp8 import kernels

    constants = {"KERNEL": 3, "STRIDE": 1, "PADDING": 1, "HAS_BIAS": True, "GROUP": 8}
    constants |= {"PIXELS": tile.pixels, "OUTPUTS": tile.outputs, "CHANNELS": tile.channels}
    types = {**POINTERS, "y": "*bf16"}
    made = compiled(kernels._conv, types, constants, num_warps=tile.warps, num_stages=tile.stages)
    assert re.search(r"wgmma\S+e4m3\.e4m3", made.asm["ptx"])
    assert re.search(r"cp\.async\.cg\.shared\.global \[[^]]+\], \[[^]]+\], 0x10", made.asm["ptx"]), "loads of 16 bytes"
    assert "st.local" not in made.asm["ptx"]
    assert made.metadata.shared <= SHARED_BYTES


def test_casts_round_to_nearest_in_the_hardware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    from services.generator.sdxl.fp8 import kernels

    types = {"x": "*bf16", "q": "*fp8e4nv", "scales": "*fp32"}
    rows = compiled(kernels._quantize_rows, types, {"BLOCK": 1024}, num_warps=4)
    images = compiled(kernels._cast_images, {**types, "bits": "*i32"}, {"CHUNK": 4096}, num_warps=8)
    for made in (rows, images):
        assert "cvt.rn.satfinite.e4m3x2.f32" in made.asm["ptx"]
        assert "div.rn.f32" in made.asm["ptx"]
        assert "fma" not in made.asm["ptx"]
