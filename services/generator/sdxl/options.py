"""The settings of the SDXL engine. GeneratorSettings inherits them, so nothing copies them."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

CUDA_LADDER = "1,2,4,6,8,12,16,24,32"


class SdxlOptions(BaseModel):
    """Which models are served and how they are computed. As a setting, each has the prefix GENERATOR_."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models_dir: Path = Field(Path("var/models"), description="Folder for models that are built or downloaded.")
    vae: str = Field("", description="Another VAE for the default model: a folder, file or hub id.")
    refiner: str = Field("", description="Refiner for the SDXL models: a folder, file or hub id. Empty: none.")
    preview_decoder: Path | None = Field(
        None,
        description="Tiny decoder (AutoencoderTiny, such as TAESDXL) for the previews of the default model: a folder "
        "or .safetensors file. Sharper than the built-in projection, and slower. Empty: none.",
    )
    loras_dir: Path | None = Field(
        None, description="Folder of LoRAs (.safetensors). Requests name a LoRA by its file name without the suffix."
    )
    memory_budget_gib: float = Field(
        0.0,
        ge=0,
        description="Limit of the weights in memory, in GiB. Above it the least recently used model is unloaded. "
        "0: no limit.",
    )

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Device. auto: CUDA if available.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Type of the weights. auto: bfloat16 on CUDA, float32 on the CPU."
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads of PyTorch. 0: one fewer than there are cores.")
    max_batch: int = Field(
        0, ge=0, le=64, description="Largest batch, in images. 0: chosen at the start by measuring the throughput."
    )
    prompt_cache: int = Field(
        256, ge=0, le=100_000, description="Encoded prompts in the cache; about 0.5 MB for each 75 tokens with SDXL."
    )
    compile: Literal["off", "default", "max-autotune-no-cudagraphs"] = Field(
        "off",
        description="Compile the UNet for the default size. Minutes at the first start, then up to 1.3 times as fast.",
    )
    cuda_graphs: bool = Field(True, description="Replay the UNet as CUDA graphs at the default size. CUDA only.")
    channels_last: bool = Field(True, description="Channels-last memory format for weights and images. CUDA only.")
    fuse_qkv: bool = Field(False, description="One matrix for query, key and value. Excludes LoRAs.")
    fp8: Literal["off", "linear", "all"] = Field(
        "off",
        description="8-bit floating point in the UNet, for linear layers or for convolutions too, where a layer is "
        "faster with it. Needs a CUDA device of compute capability 8.9 or more. Excludes LoRAs.",
    )
    fp8_tolerance: float = Field(
        0.1,  # measured: docs/decisions/0029-fp8.md
        gt=0,
        le=1,
        description="Largest relative error of the guided prediction of the UNet, at any noise level, that fp8 may "
        "cause. A model with a larger error is refused.",
    )
    attention: Literal["auto", "cudnn", "flash"] = Field("auto", description="Preferred attention kernel. CUDA only.")
    ladder: str = Field(
        "",
        description="Batch sizes of the UNet, comma-separated, in rows (two for an image with guidance); a smaller "
        f"batch is padded to the next size. Empty: exact sizes on the CPU, {CUDA_LADDER} on CUDA. With a single size "
        "every image is independent, to the last bit, of the other images in its batch.",
    )

    @field_validator("ladder")
    @classmethod
    def _check_ladder(cls, value: str) -> str:
        if any(not size.strip().isdecimal() or int(size) < 1 for size in value.split(",") if value):
            raise ValueError("must be whole numbers, separated by commas")
        return value

    @model_validator(mode="after")
    def _check_loras(self) -> "SdxlOptions":
        if self.loras_dir is not None and (self.fp8 != "off" or self.fuse_qkv):
            raise ValueError("GENERATOR_LORAS_DIR cannot be used with GENERATOR_FP8 or GENERATOR_FUSE_QKV")
        return self

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """`ladder` as ascending numbers."""
        return tuple(sorted({int(size) for size in self.ladder.split(",")})) if self.ladder else ()

    @property
    def compiled_dir(self) -> Path:
        """Folder for compiled kernels, which outlive the process."""
        return self.models_dir.absolute() / "compiled"

    def for_device(self, device: str) -> "SdxlOptions":
        """These options with what has an effect on `device` only."""
        if device == "cuda":
            return self.model_copy(update={"ladder": self.ladder or CUDA_LADDER})
        return self.model_copy(update={"cuda_graphs": False, "channels_last": False, "attention": "auto"})
