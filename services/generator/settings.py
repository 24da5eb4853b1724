"""Settings of the generator; the only reader of its environment."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from rpc.settings import ServerSettings

# Measured: see docs/decisions/0029-fp8.md.
FP8_TOLERANCE = 0.1


class GeneratorSettings(ServerSettings):
    """What the generator can be told; each is an environment variable with the prefix GENERATOR_."""

    model_config = SettingsConfigDict(
        env_prefix="GENERATOR_", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    listen: str = Field("127.0.0.1:50051", description="Address and port to serve on.")
    max_message_bytes: int = Field(
        24 * 1024 * 1024,
        ge=1024,
        le=64 * 1024 * 1024,
        description="Largest message received, in bytes; a picture to begin from may have 16 MiB and its mask 1 MiB.",
    )
    drain_seconds: float = Field(30.0, ge=0, le=3600, description="How long images in work may take at shutdown.")

    model: str = Field(
        "house",
        description="The default model: a diffusers folder, a .safetensors file or a hub id, optionally `@commit`. "
        "`house`: the small one that comes along. `tiny`: random weights, made on the first start, for load tests.",
    )
    models: str = Field(
        "",
        description="Further models that requests may name, comma-separated `name=source`; nothing else is loaded.",
    )
    models_dir: Path = Field(Path("var/models"), description="Where models are made and hub models are kept.")
    vae: str = Field("", description="Another VAE for the default model: a folder, file or hub id.")
    refiner: str = Field(
        "",
        description="Refiner that may end what an SDXL model begins: a folder, file or hub id. Empty: none.",
    )
    preview_decoder: Path | None = Field(
        None,
        description="Tiny decoder (AutoencoderTiny, such as TAESDXL) for previews: a folder or .safetensors file, for "
        "the default model's latents. Sharper than the built-in projection, and dearer. Empty: none.",
    )
    loras_dir: Path | None = Field(None, description="Folder of LoRAs as .safetensors; requests name them by stem.")
    memory_budget_gib: float = Field(
        0.0,
        ge=0,
        description="Weights kept in memory, in GiB; beyond, the least recently used model goes. 0: no limit.",
    )

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to compute; auto: CUDA if there is one.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Type of the weights; auto: bfloat16 on CUDA, float32 on the CPU."
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads of PyTorch; 0: all cores but one.")
    max_batch: int = Field(
        0, ge=0, le=64, description="Images painted at once; 0: as many as still pay, measured at start."
    )
    queue_capacity: int = Field(64, ge=0, le=10_000, description="Requests that may wait before RESOURCE_EXHAUSTED.")
    decode_chunk: int = Field(4, ge=1, le=64, description="Finished images decoded together between two steps.")
    prompt_cache: int = Field(
        256, ge=0, le=100_000, description="Encoded prompts kept; about 0.5 MB for each 75 tokens with SDXL."
    )
    compile: Literal["off", "default", "max-autotune-no-cudagraphs"] = Field(
        "off",
        description="Compile the UNet for the default size: minutes at the first start, then up to 1.3 times fast.",
    )
    cuda_graphs: bool = Field(True, description="Replay the UNet as CUDA graphs at the default size; CUDA only.")
    channels_last: bool = Field(True, description="Keep weights and images channel by channel last; CUDA only.")
    fuse_qkv: bool = Field(False, description="One matrix for query, key and value; not together with LoRAs.")
    fp8: Literal["off", "linear", "all"] = Field(
        "off",
        description="Linear layers of the UNet in 8-bit floats, or convolutions too: those that are faster so, if the "
        "pictures stand it. Needs a CUDA device of compute capability 8.9 or more; not together with LoRAs.",
    )
    fp8_tolerance: float = Field(
        FP8_TOLERANCE,
        gt=0,
        le=1,
        description="What fp8 may change in the UNet's guided prediction, as a share of it, at any noise level; more "
        "is refused.",
    )
    attention: Literal["auto", "cudnn", "flash"] = Field("auto", description="Preferred attention kernel; CUDA only.")
    ladder: str = Field(
        "",
        description="Batch sizes of the UNet, comma-separated, two rows for a guided image; others are padded up. "
        "Empty: exact sizes on the CPU, 1,2,4,6,8,12,16,24,32 on CUDA. A single one makes images independent, to the "
        "last bit, of what else is being painted.",
    )
    step_timeout_seconds: float = Field(
        120.0, gt=0, le=3600, description="A denoising step or decode that takes longer ends the process as hung."
    )

    pexels_api_key: SecretStr = Field(
        SecretStr(""), validation_alias="PEXELS_API_KEY", description="Key of the Pexels API; empty: no stock photos."
    )
    pexels_api_url: str = Field(
        "https://api.pexels.com/v1", validation_alias="PEXELS_API_URL", description="Base address of the Pexels API."
    )
    pexels_image_hosts: str = Field(
        "images.pexels.com",
        validation_alias="PEXELS_IMAGE_HOSTS",
        description="Hosts that photos may be fetched from, comma-separated.",
    )
    pexels_timeout_seconds: float = Field(
        10.0, gt=0, le=120, validation_alias="PEXELS_TIMEOUT_SECONDS", description="Limit of one Pexels request."
    )
    pexels_max_bytes: int = Field(
        32 * 1024 * 1024,
        ge=1024,
        le=256 * 1024 * 1024,
        validation_alias="PEXELS_MAX_BYTES",
        description="Largest photo accepted, in bytes.",
    )

    @field_validator("models")
    @classmethod
    def _check_models(cls, value: str) -> str:
        for entry in filter(None, map(str.strip, value.split(","))):
            name, _, source = entry.partition("=")
            if not name.strip() or not source.strip():
                raise ValueError(f"{entry!r} is not `name=source`")
        return value

    @field_validator("pexels_api_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if not value.startswith(("https://", "http://")):
            raise ValueError("must be an http or https address")
        return value.rstrip("/")

    @field_validator("ladder")
    @classmethod
    def _check_ladder(cls, value: str) -> str:
        if any(not rung.strip().isdecimal() or int(rung) < 1 for rung in value.split(",") if value):
            raise ValueError("must be whole numbers, separated by commas")
        return value

    @model_validator(mode="after")
    def _check_loras(self) -> "GeneratorSettings":
        if self.loras_dir is not None and (self.fp8 != "off" or self.fuse_qkv):
            raise ValueError("GENERATOR_LORAS_DIR cannot be used with GENERATOR_FP8 or GENERATOR_FUSE_QKV")
        return self

    @property
    def rungs(self) -> tuple[int, ...]:
        """GENERATOR_LADDER as numbers."""
        return tuple(int(rung) for rung in self.ladder.split(",")) if self.ladder else ()

    @property
    def further_models(self) -> dict[str, str]:
        """GENERATOR_MODELS as name → source."""
        entries = [entry.partition("=") for entry in self.models.split(",") if entry.strip()]
        return {name.strip(): source.strip() for name, _, source in entries}

    @property
    def image_hosts(self) -> frozenset[str]:
        """PEXELS_IMAGE_HOSTS as a set."""
        return frozenset(host.strip().lower() for host in self.pexels_image_hosts.split(",") if host.strip())
