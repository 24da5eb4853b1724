"""What the posts service can be told by the environment."""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from rpc.settings import ProcessSettings, ServerSettings, Target


class DatabaseSettings(ProcessSettings):
    """Where the record is; all that a migration needs."""

    model_config = SettingsConfigDict(env_prefix="POSTS_")

    database_url: SecretStr = Field(
        description="PostgreSQL, as postgresql://user:password@host:port/database; several hosts separated by commas."
    )
    database_wait_seconds: float = Field(
        30.0, ge=0, le=600, description="How long to wait at start for a database that does not answer."
    )

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr) -> SecretStr:
        if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
            raise ValueError("must begin with postgresql://")
        return value


class PostsSettings(ServerSettings, DatabaseSettings):
    """What the posts service can be told."""

    model_config = SettingsConfigDict(env_prefix="POSTS_")

    listen: str = Field("127.0.0.1:50053", description="Address and port to serve on; port 0 picks a free one.")
    database_pool_size: int = Field(
        10, ge=2, le=200, description="Most connections for calls; the dispatcher has 4 of its own."
    )
    generator_targets: Annotated[tuple[Target, ...], NoDecode] = Field(
        ("127.0.0.1:50051",), description="Generators, separated by commas; empty: this process dispatches nothing."
    )
    storage_target: Target = Field("127.0.0.1:50052", description="The storage service.")
    dispatch_ahead: int = Field(
        1, ge=0, le=64, description="Images that may wait at each generator, so that it need not wait for the next one."
    )
    max_attempts: int = Field(5, ge=1, le=100, description="Attempts before a task is FAILED.")
    lease_seconds: float = Field(
        30.0, ge=0.5, le=3600, description="How long a task stays claimed after its dispatcher was last heard of."
    )
    sweep_seconds: float = Field(5.0, ge=0.05, le=600, description="How often expired leases are taken back.")
    poll_seconds: float = Field(
        1.0, ge=0.05, le=60, description="How often the database is asked where a notification may have been lost."
    )
    step_timeout_seconds: float = Field(
        120.0, ge=0.1, le=3600, description="A generator that shows no sign of work for so long is given up."
    )
    queue_timeout_seconds: float = Field(
        600.0, ge=0.1, le=86_400, description="How long a request may wait in a generator's queue."
    )
    attempt_timeout_seconds: float = Field(1800.0, ge=1, le=86_400, description="How long one image may take in all.")
    store_timeout_seconds: float = Field(
        60.0, ge=0.1, le=3600, description="How long storing an image is tried before the attempt has failed."
    )
    retry_base_seconds: float = Field(
        2.0, ge=0.01, le=600, description="Wait before the second attempt; it doubles with each one."
    )
    retry_cap_seconds: float = Field(60.0, ge=0.01, le=3600, description="Longest wait between attempts.")
    preview_interval: int = Field(4, ge=0, le=80, description="A preview with about every n-th step; 0: none.")
    idempotency_days: int = Field(30, ge=1, le=3650, description="How long a request_id is remembered.")

    @field_validator("generator_targets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(target.strip() for target in value.split(",") if target.strip())
        return value
