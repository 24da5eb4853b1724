"""Settings of `make run`, from environment variables."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from rpc.settings import ProcessSettings


class RunSettings(ProcessSettings):
    """Settings of the launcher. Every other variable is passed to the processes unchanged."""

    model_config = SettingsConfigDict(env_prefix="")

    data: Path = Field(
        Path("var"),
        validation_alias="FRONTISPIECE_DATA",
        description="Folder of all data: database, images, models, token.",
    )
    gateway_host: str = Field("127.0.0.1", description="Address that the gateway listens on.")
    gateway_port: int = Field(8080, ge=1, le=65535, description="Port that the gateway listens on.")
    public_base_url: str = Field(
        "", description="Address by which browsers reach the gateway. Empty: host and port above."
    )
    database_url: SecretStr = Field(
        SecretStr(""),
        validation_alias="POSTS_DATABASE_URL",
        description="URL of a running PostgreSQL. Empty: one is started.",
    )
    postgres_binaries: str = Field(
        "", description="PostgreSQL's bin folder. Empty: that of the wheel, else an installed one."
    )

    @property
    def local_host(self) -> str:
        """The address at which this machine reaches the gateway."""
        return "127.0.0.1" if self.gateway_host in ("0.0.0.0", "::") else self.gateway_host

    @property
    def local_url(self) -> str:
        """The URL of the gateway on this machine."""
        return f"http://{self.local_host}:{self.gateway_port}"

    @property
    def base_url(self) -> str:
        """The URL at which browsers reach the gateway."""
        return self.public_base_url.rstrip("/") or self.local_url
