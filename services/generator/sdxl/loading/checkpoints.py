"""Finds, checks and loads checkpoints: only safetensors, no foreign code, hub models at a fixed commit."""

import json
import logging
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from diffusers.loaders.single_file_utils import SingleFileComponentError
from safetensors import SafetensorError

from services.generator.engine import CheckpointError
from services.generator.sdxl.loading.fingerprint import fingerprint

log = logging.getLogger(__name__)

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LIBRARIES = frozenset({"diffusers", "transformers"})
# Pickles, code and archives. None of them is read, whatever the folder holds; to refuse them shows what was copied.
_FORBIDDEN_SUFFIXES = frozenset({".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle", ".npy", ".npz", ".h5", ".msgpack"})
_FORBIDDEN_SUFFIXES |= {".py", ".pyc", ".so", ".dll", ".dylib", ".exe", ".sh", ".gz", ".zip", ".tar"}
_HUB_FILES = ("*.json", "*.txt", "*.safetensors", "*.model")
_HUB_TOP_FILES = ("model_index.json", "frontispiece.json", "config.json", "diffusion_pytorch_model.safetensors")
# While accelerate builds a model without memory it patches torch.nn.Module, and restores it afterwards. Two loads that
# overlap would leave it patched.
_ONE_LOAD = threading.Lock()
_DIGESTS = "digests.json"


@dataclass(frozen=True)
class ModelSource:
    """Where a checkpoint comes from: a folder, a single .safetensors file, or a hub id with its commit."""

    name: str
    location: str
    commit: str = ""

    @classmethod
    def parse(cls, name: str, text: str) -> "ModelSource":
        """`text` is a path or a hub id, the latter optionally with `@commit`. An empty `name` is derived from it.

        Raises CheckpointError.
        """
        location, _, commit = text.partition("@") if _HUB_ID.fullmatch(text.partition("@")[0]) else (text, "", "")
        if commit and not _COMMIT.fullmatch(commit):
            raise CheckpointError(f"{text}: a revision is a commit of 40 hexadecimal digits, not {commit!r}")
        return cls(name or _usual_name(location), location, commit)


@dataclass(frozen=True)
class Checkpoint:
    """A checked checkpoint on this machine. `about` is its frontispiece.json."""

    name: str
    path: Path
    revision: str
    about: dict[str, Any]
    is_refiner: bool = False

    @property
    def configuration(self) -> Path | None:
        """The folder of its JSON files: its own, or for a single file the folder beside it with the same name."""
        folder = self.path if self.path.is_dir() else self.path.with_suffix("")
        return folder if folder.is_dir() else None


def find(source: ModelSource, models_dir: Path, *, is_refiner: bool = False) -> Checkpoint:
    """Download a checkpoint if it is not on this machine, and check it. Raises CheckpointError."""
    path = Path(source.location)
    if path.is_dir():
        check_folder(path, is_refiner=is_refiner)
        revision = fingerprint(path, models_dir / _DIGESTS)
        return Checkpoint(source.name, path, revision, _read_about(path), is_refiner)
    if path.is_file():
        if path.suffix != ".safetensors":
            raise CheckpointError(f"{path}: single files must be .safetensors")
        beside = path.with_suffix("")
        if beside.is_dir():
            _check_index(beside, is_refiner)
        revision = fingerprint(path, models_dir / _DIGESTS)
        return Checkpoint(source.name, path, revision, _read_about(beside), is_refiner)
    if not _is_hub_id(source.location):
        raise CheckpointError(f"{source.location}: no such folder or file")
    folder, commit = _download(source, models_dir)
    check_folder(folder, is_refiner=is_refiner)
    return Checkpoint(source.name, folder, commit, _read_about(folder), is_refiner)


def check_folder(folder: Path, *, is_refiner: bool = False) -> None:
    """Raises CheckpointError for anything but a plain SDXL pipeline, or refiner, in safetensors."""
    _check_index(folder, is_refiner)
    _check_suffixes(folder)
    for component in ("unet", "vae"):
        if not list((folder / component).glob("*.safetensors")):
            raise CheckpointError(f"{folder}: {component} has no safetensors")


def _check_suffixes(folder: Path) -> None:
    """Raises CheckpointError for a folder with a file of a forbidden kind: `unet.PKL`, `weights.bin.index.txt`."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and not _FORBIDDEN_SUFFIXES.isdisjoint(suffix.lower() for suffix in file.suffixes):
            raise CheckpointError(f"{folder}: holds {file.relative_to(folder)}; only safetensors are loaded")


def _check_index(folder: Path, is_refiner: bool) -> None:
    """Check the classes and libraries in model_index.json: they are imported by name."""
    index = read_json(folder / "model_index.json")
    kind, wanted = index.get("_class_name"), _pipeline_class(is_refiner).__name__
    if kind == "StableDiffusionXLInpaintPipeline":
        raise CheckpointError(f"{folder}: a {kind} can only inpaint; use a {wanted}, which inpaints too")
    if kind != wanted:
        raise CheckpointError(f"{folder}: a {wanted} is needed, not {kind!r}")
    for component, declared in index.items():
        if component.startswith("_") or not isinstance(declared, list):
            continue
        if declared[0] is not None and declared[0] not in _LIBRARIES:
            raise CheckpointError(f"{folder}: {component} comes from {declared[0]!r}, which is not loaded")


@dataclass(frozen=True)
class Vae:
    """A checked VAE on this machine: a folder with its configuration, or a .safetensors file."""

    path: Path
    revision: str


def find_vae(text: str, models_dir: Path) -> Vae | None:
    """A VAE by a path or a hub id; None for "". Raises CheckpointError for anything but safetensors."""
    if not text:
        return None
    source = ModelSource.parse("vae", text)
    path, revision = Path(source.location), ""
    if not path.exists():
        if not _is_hub_id(source.location):
            raise CheckpointError(f"{text}: no such folder or file")
        path, revision = _download(source, models_dir)
    if path.is_file() and path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: a VAE in a single file must be .safetensors")
    if path.is_dir():
        _check_suffixes(path)
        if not list(path.glob("*.safetensors")):
            raise CheckpointError(f"{path}: the VAE has no safetensors")
    return Vae(path, revision or fingerprint(path, models_dir / _DIGESTS))


def load(checkpoint: Checkpoint, dtype: torch.dtype, vae: Vae | None = None, *, in_background: bool = False) -> Any:
    """The pipeline of a checkpoint, on the CPU. Raises CheckpointError.

    `in_background`: other threads compute meanwhile. The libraries set the default type of PyTorch, which all threads
    share, to the type that they load: noise drawn at that moment would be bfloat16. So the weights are then read as
    float32, the default type, and converted afterwards.
    """
    read_as = torch.float32 if in_background else dtype
    options: dict[str, Any] = {"dtype": read_as, "use_safetensors": True, "local_files_only": True}
    try:
        with _ONE_LOAD:
            pipeline = _read(checkpoint, vae, options)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, SingleFileComponentError) as error:
        raise CheckpointError(f"{checkpoint.path}: {error}") from error
    _check_complete(checkpoint, pipeline)
    pipeline.to(dtype)
    if dtype == torch.float16 and pipeline.vae.config.force_upcast:
        # This VAE overflows in float16. To convert it for each image would cost more than float16 saves.
        pipeline.vae.to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    for module in (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        if module is not None:
            module.requires_grad_(False).eval()
    return pipeline


def _check_complete(checkpoint: Checkpoint, pipeline: Any) -> None:
    """Raises CheckpointError if weights are missing: the libraries leave them without memory, to fail later."""
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        module = getattr(pipeline, part)
        for name, weight in module.named_parameters() if module is not None else ():
            if weight.is_meta:
                raise CheckpointError(f"{checkpoint.path}: {part} lacks the weights of {name}")


def _pipeline_class(is_refiner: bool) -> Any:
    return StableDiffusionXLImg2ImgPipeline if is_refiner else StableDiffusionXLPipeline


def _read(checkpoint: Checkpoint, vae: Vae | None, options: dict[str, Any]) -> Any:
    path, pipeline_class = checkpoint.path, _pipeline_class(checkpoint.is_refiner)
    if vae is not None:
        if vae.path.is_file():  # the hub may have to supply the configuration of a single file
            options["vae"] = AutoencoderKL.from_single_file(str(vae.path), dtype=options["dtype"])
        else:
            options["vae"] = AutoencoderKL.from_pretrained(str(vae.path), **options)
    if path.is_file():
        return _load_file(path, checkpoint.configuration, pipeline_class, options)
    return pipeline_class.from_pretrained(path, add_watermarker=False, trust_remote_code=False, **options)


def _load_file(path: Path, configuration: Path | None, pipeline_class: Any, options: dict[str, Any]) -> Any:
    """The folder beside the file, with the same name, has the tokenizers; without it the hub has them."""
    if configuration is not None:
        options["config"] = str(configuration)
    options["local_files_only"] = configuration is not None
    return pipeline_class.from_single_file(str(path), add_watermarker=False, **options)


def _usual_name(location: str) -> str:
    path = Path(location)
    if path.is_file():
        return path.stem
    return path.name if path.is_dir() or not _is_hub_id(location) else location


def _is_hub_id(text: str) -> bool:
    return _HUB_ID.fullmatch(text) is not None and not text.startswith((".", "/"))


def _download(source: ModelSource, models_dir: Path) -> tuple[Path, str]:
    """The snapshot of a hub model. The first download without a commit pins the current one, for all later starts."""
    from huggingface_hub import HfApi, snapshot_download

    pins_file = models_dir / "pins.json"
    pins = read_json(pins_file) if pins_file.is_file() else {}
    commit = source.commit or str(pins.get(source.location, ""))
    try:
        if not commit:
            commit = str(HfApi().model_info(source.location).sha)
            pins[source.location] = commit
            models_dir.mkdir(parents=True, exist_ok=True)
            pins_file.write_text(json.dumps(pins, indent=2, sort_keys=True) + "\n")
            log.warning("%s is pinned to its current commit", source.location, extra={"commit": commit})
        folder = snapshot_download(
            source.location,
            revision=commit,
            cache_dir=models_dir / "hub",
            allow_patterns=[*(f"*/{pattern}" for pattern in _HUB_FILES), *_HUB_TOP_FILES],
            ignore_patterns=["*.fp16.*", "*_openvino*", "*.onnx*", "*/flax_*"],
        )
    except Exception as error:
        raise CheckpointError(f"{source.location}@{commit or 'main'}: {error}") from error
    return Path(folder), commit


def _read_about(folder: Path) -> dict[str, Any]:
    """The optional frontispiece.json beside model_index.json: description, example prompts, defaults, limits."""
    file = folder / "frontispiece.json"
    return read_json(file) if file.is_file() else {}


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises CheckpointError."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file}: not a JSON object")
    return content
