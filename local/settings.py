"""Settings of `make run`, from environment variables."""

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
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
    services_database_url: SecretStr = Field(
        SecretStr(""),
        validation_alias="POSTS_SERVICES_DATABASE_URL",
        description="The same PostgreSQL with a role that has fewer rights, for posts and the worker. Empty: they use "
        "POSTS_DATABASE_URL; with a PostgreSQL of our own they always have a role of their own.",
    )
    postgres_binaries: str = Field(
        "", description="PostgreSQL's bin folder. Empty: that of the wheel, else an installed one."
    )

    print_token: Literal["auto", "true", "false"] = Field(
        "auto",
        validation_alias="FRONTISPIECE_PRINT_TOKEN",
        description="Whether the printed link of the editor page holds the token. `auto`: on a terminal only.",
    )

    @field_validator("gateway_host")
    @classmethod
    def _without_brackets(cls, value: str) -> str:
        return value.strip().removeprefix("[").removesuffix("]")

    @property
    def local_host(self) -> str:
        """The address at which this machine reaches the gateway."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.gateway_host, self.gateway_host)

    @property
    def local_url(self) -> str:
        """The URL of the gateway on this machine."""
        host = f"[{self.local_host}]" if ":" in self.local_host else self.local_host
        return f"http://{host}:{self.gateway_port}"

    @property
    def base_url(self) -> str:
        """The URL at which browsers reach the gateway."""
        return self.public_base_url.rstrip("/") or self.local_url
