"""Settings of the gateway, from environment variables."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, Field, SecretStr
from pydantic_settings import NoDecode, SettingsConfigDict

from rpc.settings import ProcessSettings, Target

MIN_TOKEN_LENGTH = 16


def _origin(value: str) -> str:
    """An address without its trailing slash; raises ValueError unless it is absolute."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ValueError("must begin with http:// or https:// and name a host")
    return value.rstrip("/")


def _origins(value: str) -> str:
    for origin in value.split(","):
        if origin.strip():
            parts = urlsplit(_origin(origin.strip()))
            if parts.path or parts.query or parts.fragment:
                raise ValueError(f"{origin.strip()} is more than scheme, host and port")
    return value


def _long_enough(value: SecretStr | None) -> SecretStr | None:
    if value is not None and len(value.get_secret_value()) < MIN_TOKEN_LENGTH:
        raise ValueError(f"must have at least {MIN_TOKEN_LENGTH} characters")
    return value


Origins = Annotated[str, NoDecode, AfterValidator(_origins)]


class GatewaySettings(ProcessSettings):
    """What the gateway can be told."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_")

    host: str = Field("127.0.0.1", description="Address to serve on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to serve on; 0 picks a free one.")
    public_base_url: Annotated[str, AfterValidator(_origin)] = Field(
        "http://127.0.0.1:8080",
        validation_alias=AliasChoices("PUBLIC_BASE_URL", "GATEWAY_PUBLIC_BASE_URL"),
        description="Address by which browsers reach the gateway; it begins every link that leaves the system.",
    )
    site_title: str = Field("Frontispiece", min_length=1, max_length=100, description="Name of the public site.")
    posts_target: Target = Field("127.0.0.1:50053", description="Where the posts service answers.")
    storage_target: Target = Field("127.0.0.1:50052", description="Where the storage service answers.")
    generator_target: Target = Field("127.0.0.1:50051", description="Where a generator answers.")
    token: Annotated[SecretStr | None, AfterValidator(_long_enough)] = Field(
        None, description="Admin token, at least 16 characters; unset: the one in the token file."
    )
    token_file: Path = Field(
        Path("var/token"), description="File with the admin token; made with mode 0600 when missing."
    )
    cors_origins: Origins = Field(
        "", description="Origins (comma-separated) whose pages may call the API; none by default."
    )
    image_origins: Origins = Field(
        "", description="Further origins (comma-separated) that pages may load images from, besides any https one."
    )
    max_body_bytes: int = Field(
        1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest request body, in bytes."
    )
    max_upload_bytes: int = Field(
        32 * 1024 * 1024, ge=1024, le=32 * 1024 * 1024, description="Largest image that may be uploaded, in bytes."
    )
    request_seconds: float = Field(
        15.0, gt=0, le=600, description="How long the services may take to answer one request."
    )
    wait_seconds: float = Field(
        55.0, ge=0, le=3600, description="How long generate-image waits for the picture before it answers 202."
    )
    keepalive_seconds: float = Field(
        15.0, gt=0, le=300, description="How often a silent event stream says that it is alive."
    )
    max_event_streams: int = Field(200, ge=1, description="Event streams open at once before 429.")
    client_seconds: float = Field(
        10.0, gt=0, le=300, description="How long a client may take to send its headers, and each piece of its body."
    )
    stalled_seconds: float = Field(
        60.0, ge=1, le=3600, description="How long a client may read nothing before its connection is dropped (Linux)."
    )
    shutdown_seconds: int = Field(
        3, ge=1, le=300, description="How long requests in progress may take to end at shutdown."
    )

    def origins(self, value: str) -> tuple[str, ...]:
        """The origins of a comma-separated setting, as browsers write them."""
        return tuple(origin.strip().rstrip("/").lower() for origin in value.split(",") if origin.strip())
