"""Settings of a run of the whole system on one machine."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from rpc.settings import ProcessSettings


class RunSettings(ProcessSettings):
    """What `make run` can be told; every other variable is passed on to the processes as it is."""

    model_config = SettingsConfigDict(env_prefix="")

    data: Path = Field(
        Path("var"),
        validation_alias="FRONTISPIECE_DATA",
        description="Folder of everything that is kept: postgres, media, models, token.",
    )
    gateway_host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    gateway_port: int = Field(8080, ge=1, le=65535, description="Port the gateway listens on.")
    public_base_url: str = Field("", description="Public address of the gateway; empty: its own host and port.")
    database_url: SecretStr = Field(
        SecretStr(""),
        validation_alias="POSTS_DATABASE_URL",
        description="A running PostgreSQL to use; empty: one is started.",
    )
    postgres_binaries: str = Field(
        "", description="PostgreSQL's bin folder; empty: the wheel's, else an installed one."
    )

    @property
    def local_url(self) -> str:
        """Where this machine reaches the gateway."""
        host = "127.0.0.1" if self.gateway_host in ("0.0.0.0", "::") else self.gateway_host
        return f"http://{host}:{self.gateway_port}"

    @property
    def base_url(self) -> str:
        """Where people reach the gateway."""
        return self.public_base_url.rstrip("/") or self.local_url
