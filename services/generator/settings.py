"""Settings of the generator; the only reader of its environment."""

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from rpc.settings import ServerSettings
from services.generator.sdxl.options import SdxlOptions
from services.generator.stock.pexels import PexelsOptions


class GeneratorSettings(SdxlOptions, PexelsOptions, ServerSettings):
    """The settings of the generator: environment variables with the prefix GENERATOR_, unless an alias is given."""

    model_config = SettingsConfigDict(
        env_prefix="GENERATOR_", env_ignore_empty=True, extra="ignore", frozen=True, populate_by_name=True
    )

    listen: str = Field("127.0.0.1:50051", description="Address and port to serve on.")
    max_message_bytes: int = Field(
        24 * 1024 * 1024,
        ge=1024,
        le=64 * 1024 * 1024,
        description="Largest accepted message, in bytes. An initial image may have 16 MiB.",
    )
    drain_seconds: float = Field(
        30.0, ge=0, le=3600, description="Time that images in progress have to finish at shutdown."
    )

    model: str = Field(
        "house",
        description="The default model: a diffusers folder, a .safetensors file or a hub id, optionally `@commit`. "
        "`house`: the small model that is included. `tiny`: random weights, built at the first start, for load tests.",
    )
    models: str = Field(
        "",
        description="Further models that requests may name, comma-separated `name=source`. No other model is loaded.",
    )
    queue_capacity: int = Field(64, ge=0, le=10_000, description="Requests that may wait before RESOURCE_EXHAUSTED.")
    decode_chunk: int = Field(4, ge=1, le=64, description="Finished images decoded together between two steps.")
    step_timeout_seconds: float = Field(
        120.0, gt=0, le=3600, description="A denoising step or decode that takes longer ends the process as hung."
    )

    @field_validator("models")
    @classmethod
    def _check_models(cls, value: str) -> str:
        for entry in filter(None, map(str.strip, value.split(","))):
            name, _, source = entry.partition("=")
            if not name.strip() or not source.strip():
                raise ValueError(f"{entry!r} is not `name=source`")
        return value

    @property
    def further_models(self) -> dict[str, str]:
        """GENERATOR_MODELS as name → source."""
        entries = [entry.partition("=") for entry in self.models.split(",") if entry.strip()]
        return {name.strip(): source.strip() for name, _, source in entries}
