"""The settings of the posts API process, and those that it shares with the worker and the migration."""

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from rpc.image_urls import ImageUrlSettings
from rpc.settings import ProcessSettings, ServerSettings, Target
from services.posts.database import address


class DatabaseSettings(ProcessSettings):
    """Where the database is. The API, the worker and the migration read the same variables."""

    model_config = SettingsConfigDict(env_prefix="POSTS_")

    database_url: SecretStr = Field(
        validation_alias="POSTS_DATABASE_URL",
        description="PostgreSQL, as postgresql://user:password@host:port/database; several hosts separated by commas.",
    )
    database_wait_seconds: float = Field(
        30.0,
        ge=0,
        le=600,
        validation_alias="POSTS_DATABASE_WAIT_SECONDS",
        description="How long to wait at start for a database that does not answer.",
    )

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: SecretStr) -> SecretStr:
        address.parse(value.get_secret_value())
        return value


class MigrationSettings(DatabaseSettings):
    """What the migration reads beside the address of the database."""

    services_database_url: SecretStr = Field(
        SecretStr(""),
        validation_alias="POSTS_SERVICES_DATABASE_URL",
        description="The database as posts and the worker reach it, with a role of their own. The migration makes that "
        "role and gives it what the services need. Empty: they use the role of POSTS_DATABASE_URL.",
    )

    @field_validator("services_database_url")
    @classmethod
    def _is_postgresql_too(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            address.parse(value.get_secret_value())
        return value


class ConnectionSettings(DatabaseSettings, ImageUrlSettings):
    """The connections of a process. The API and the worker read the same variables, except the size of the pool."""

    database_pool_size: int = Field(10, ge=2, le=200, description="Largest number of database connections.")
    generator_targets: Annotated[tuple[Target, ...], NoDecode] = Field(
        ("127.0.0.1:50051",),
        validation_alias="POSTS_GENERATOR_TARGETS",
        description="Generators, separated by commas, for tasks of the worker and checks of the API. `,`: none.",
    )
    storage_target: Target = Field(
        "127.0.0.1:50052", validation_alias="POSTS_STORAGE_TARGET", description="The storage service."
    )

    @field_validator("generator_targets", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(target.strip() for target in value.split(",") if target.strip())
        return value


class PostsSettings(ServerSettings, ConnectionSettings):
    """The settings of the API process."""

    model_config = SettingsConfigDict(env_prefix="POSTS_")

    listen: str = Field("127.0.0.1:50053", description="Address and port to serve on. Port 0 picks a free one.")
    database_reader_pool_size: int = Field(
        6, ge=1, le=200, description="Largest number of further connections, for lists and published posts."
    )
    database_search_pool_size: int = Field(
        2, ge=1, le=200, description="Largest number of further connections, for searches."
    )
    max_attempts: int = Field(5, ge=1, le=100, description="Attempts before a task is FAILED.")
    poll_seconds: float = Field(
        1.0,
        ge=0.05,
        le=60,
        description="Interval at which followed tasks are read from the database, in case a notification was lost.",
    )
