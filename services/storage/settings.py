"""Settings of the storage process. No other module here reads the environment."""

from pathlib import Path
from typing import Literal, Self

from frontispiece.storage.v1.images_pb2 import StoreImageHeader
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError
from pydantic_settings import SettingsConfigDict

from rpc.image_urls import ImageUrlSettings, web_address
from rpc.limits import limits
from rpc.settings import ServerSettings

_MIB = 1024 * 1024

MAX_IMAGE_BYTES = int(limits(StoreImageHeader, "size_bytes").max)
"""The size of the largest image, as it comes and as it is stored."""


class StorageSettings(ServerSettings, ImageUrlSettings):
    """The settings of the storage process."""

    model_config = SettingsConfigDict(env_prefix="STORAGE_")

    listen: str = Field("127.0.0.1:50052", description="Address and port to serve on. Port 0 chooses a free port.")
    local_root: Path = Field(Path("var/media"), description="Folder for images when S3 is not used.")
    spool_root: Path | None = Field(
        None, description="Folder for images that S3 could not store yet. Default: `spool` beside STORAGE_LOCAL_ROOT."
    )
    spool_max_bytes: int = Field(
        10 * 1024 * _MIB, ge=0, description="Largest size of the spool in bytes. Above it, uploads fail until S3 works."
    )
    spool_min_free_bytes: int = Field(256 * _MIB, ge=0, description="Free bytes to keep on the disk of the spool.")

    s3_region: str = Field(
        "us-east-1",
        validation_alias=AliasChoices("AWS_S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"),
        description="Region of the bucket.",
    )
    access_key_id: SecretStr = Field(
        SecretStr(""),
        validation_alias="AWS_ACCESS_KEY_ID",
        description="AWS access key. Default: the role of the machine or container.",
    )
    secret_access_key: SecretStr = Field(
        SecretStr(""), validation_alias="AWS_SECRET_ACCESS_KEY", description="Secret key of the access key."
    )
    session_token: SecretStr = Field(
        SecretStr(""), validation_alias="AWS_SESSION_TOKEN", description="Session token of temporary keys."
    )
    s3_endpoint_url: str = Field(
        "",
        validation_alias=AliasChoices("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        description="Address of an S3-compatible server. Default: AWS.",
    )
    s3_encryption: Literal["auto", "AES256", "aws:kms", "none"] = Field(
        "auto", description="Server-side encryption to request. `auto`: AES256 on AWS, none on compatible servers."
    )
    s3_threads: int = Field(16, ge=1, le=256, description="Concurrent calls to S3.")

    world_readable: bool = Field(
        False, description="Whether every user of the machine may read the files of STORAGE_LOCAL_ROOT."
    )

    decode_processes: int = Field(2, ge=1, le=64, description="Uploaded images to decode at once.")
    decode_max_bytes: int = Field(
        384 * _MIB,
        ge=64 * _MIB,
        description="Bytes of memory for decoding images, all together. An image waits until its share is free; one "
        "that needs more than this is refused.",
    )
    max_inflight_bytes: int = Field(
        1024 * _MIB,
        ge=MAX_IMAGE_BYTES,
        description="Bytes of uploads that have come and are not stored yet, on the disk of STORAGE_LOCAL_ROOT or of "
        "the spool. Above it, uploads are refused with UNAVAILABLE.",
    )
    upload_seconds: float = Field(
        300.0,
        gt=0,
        le=3600,
        description="Seconds that the bytes of one upload may take to arrive. One that brings fewer than 4 KiB a "
        "second for 15 seconds ends earlier.",
    )
    health_seconds: float = Field(10.0, gt=0, le=3600, description="Seconds between two health checks of the backend.")

    @property
    def spool_folder(self) -> Path:
        """The folder of the spool."""
        return self.spool_root or self.local_root.parent / "spool"

    @field_validator("s3_endpoint_url")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        return web_address(value, "http://127.0.0.1:8333") if value else ""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Refuse an incomplete configuration of S3, unless S3 is not used."""
        if self.use_s3 == "true" and not self.s3_bucket:
            raise _missing("s3_bucket", "must be set when USE_S3=true")
        if self.s3_chosen:
            key, secret = bool(self.access_key_id.get_secret_value()), bool(self.secret_access_key.get_secret_value())
            if key != secret:
                field = "secret_access_key" if key else "access_key_id"
                raise _missing(field, "must be set together with the other key (set neither to use a role)")
        return self

    def ignored(self) -> list[str]:
        """The variables that are set and have no effect, for a warning at start."""
        if self.s3_chosen:
            return []
        given = {
            "AWS_S3_BUCKET": self.s3_bucket,
            "AWS_ACCESS_KEY_ID": self.access_key_id.get_secret_value(),
            "AWS_ENDPOINT_URL_S3": self.s3_endpoint_url,
            "AWS_CLOUDFRONT_DOMAIN": self.cloudfront_domain,
            "STORAGE_CDN_BASE_URL": self.cdn_base_url,
        }
        return [name for name, value in given.items() if value]


def _missing(field: str, problem: str) -> ValidationError:
    """An error about one field that was found by comparing several."""
    details = InitErrorDetails(type=PydanticCustomError("missing_setting", problem), loc=(field,), input="")
    return ValidationError.from_exception_data("StorageSettings", [details])
