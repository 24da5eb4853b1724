"""Which checkpoints are loaded and which are refused, and their revisions."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from services.generator.engine import CheckpointError
from services.generator.sdxl.engine import SdxlEngine
from services.generator.sdxl.loading import checkpoints
from services.generator.sdxl.loading.checkpoints import ModelSource
from tests.generator.harness import cpu_options, sdxl


class TestFingerprint:
    def test_a_byte_anywhere_changes_it(self, tmp_path: Path) -> None:
        file = tmp_path / "model.safetensors"
        file.write_bytes(bytes(5 * 1024 * 1024))
        before = checkpoints.fingerprint(tmp_path)
        with file.open("r+b") as stream:
            stream.seek(file.stat().st_size // 2)
            stream.write(b"x")
        assert checkpoints.fingerprint(tmp_path) != before

    def test_the_digest_of_a_large_file_is_kept_until_the_file_changes(self, tmp_path: Path) -> None:
        folder, digests = tmp_path / "model", tmp_path / "models" / "digests.json"
        folder.mkdir()
        file = folder / "model.safetensors"
        with file.open("wb") as stream:
            stream.truncate(65 * 1024 * 1024)
        before = checkpoints.fingerprint(folder, digests)
        assert checkpoints.fingerprint(folder, digests) == before == checkpoints.fingerprint(folder)
        digests.write_text(digests.read_text().replace(hashlib.sha256(file.read_bytes()).hexdigest(), "0" * 64))
        assert checkpoints.fingerprint(folder, digests) != before, "the kept digest was not used"
        times = file.stat()
        with file.open("r+b") as stream:
            stream.write(b"x")
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        changed = checkpoints.fingerprint(folder, digests)
        assert changed == checkpoints.fingerprint(folder) != before
        digests.write_text("no JSON")
        assert checkpoints.fingerprint(folder, digests) == changed


class TestVae:
    def test_pickles_are_refused(self, copy: Path, tmp_path: Path) -> None:
        vae = tmp_path / "vae"
        vae.mkdir()
        (vae / "config.json").write_text((copy / "vae" / "config.json").read_text())
        with pytest.raises(CheckpointError, match="no safetensors"):
            checkpoints.find_vae(str(vae), tmp_path)
        (vae / "diffusion_pytorch_model.bin").write_bytes(b"x")
        with pytest.raises(CheckpointError, match="only safetensors"):
            checkpoints.find_vae(str(vae), tmp_path)
        with pytest.raises(CheckpointError, match="single file"):
            checkpoints.find_vae(str(vae / "diffusion_pytorch_model.bin"), tmp_path)

    def test_a_pickle_that_is_called_safetensors_is_refused(self, copy: Path, tmp_path: Path) -> None:
        torch.save({"w": torch.zeros(1)}, tmp_path / "vae.safetensors")
        engine = sdxl(copy, vae=str(tmp_path / "vae.safetensors"))
        with pytest.raises(CheckpointError):
            engine.warm_up()

    def test_it_is_part_of_the_revision(self, checkpoint: Path) -> None:
        plain, other = sdxl(checkpoint), sdxl(checkpoint, vae=str(checkpoint / "vae"))
        plain.warm_up()
        other.warm_up()
        assert plain.models[0].revision != other.models[0].revision


class TestRefused:
    @pytest.mark.parametrize(
        "name", ["unet/diffusion_pytorch_model.bin", "pipeline.py", "unet/x.ckpt", "x.PKL", "x.bin.gz", "x.so"]
    )
    def test_pickles_and_code(self, copy: Path, name: str) -> None:
        (copy / name).write_bytes(b"x")
        with pytest.raises(CheckpointError, match="only safetensors"):
            checkpoints.check_folder(copy)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("_class_name", "StableDiffusionPipeline"),
            ("unet", ["my_module", "UNet2DConditionModel"]),
        ],
    )
    def test_another_pipeline_or_library(self, copy: Path, key: str, value: Any) -> None:
        index = json.loads((copy / "model_index.json").read_text())
        (copy / "model_index.json").write_text(json.dumps({**index, key: value}))
        with pytest.raises(CheckpointError):
            checkpoints.check_folder(copy)

    @pytest.mark.parametrize(
        "spoil",
        ["model_index.json", "unet/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"],
    )
    def test_something_missing(self, copy: Path, spoil: str) -> None:
        (copy / spoil).unlink()
        with pytest.raises(CheckpointError):
            checkpoints.check_folder(copy)

    @pytest.mark.parametrize("text", ["nowhere", "/no/such/folder", "owner/name@main"])
    def test_a_source_that_is_none(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(CheckpointError):
            checkpoints.find(ModelSource.parse("", text), tmp_path)

    def test_a_single_file_that_is_a_pickle(self, tmp_path: Path) -> None:
        (tmp_path / "model.ckpt").write_bytes(b"x")
        with pytest.raises(CheckpointError, match="safetensors"):
            checkpoints.find(ModelSource.parse("", str(tmp_path / "model.ckpt")), tmp_path)

    def test_truncated_weights(self, copy: Path) -> None:
        weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:1000])
        with pytest.raises(CheckpointError):
            SdxlEngine([ModelSource("m", str(copy))], cpu_options(copy)).warm_up()
