"""The URL of an image, made from its key by the settings of the process that returns it.

No process stores a URL of ours, except in a column that is written again when these settings change.
"""

import re
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

from pydantic import AliasChoices, Field, field_validator

from rpc.settings import ProcessSettings

_SAFE_IN_PATH = "/!*'()"
_HOST = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

MEDIA_PATH = "/media/"
"""The path of images at the gateway, below its base URL."""


class ImageUrlSettings(ProcessSettings):
    """The settings that decide where image URLs begin. All processes read the same ones."""

    public_base_url: str = Field(
        "http://127.0.0.1:8080",
        validation_alias="PUBLIC_BASE_URL",
        description="URL at which browsers reach the gateway; it may have a path. Image URLs begin with it if there is "
        "no CDN. All processes need the same value.",
    )
    use_s3: Literal["auto", "true", "false"] = Field(
        "auto",
        validation_alias="USE_S3",
        description="Whether to store images in S3. `auto`: if a bucket is set.",
    )
    s3_bucket: str = Field(
        "",
        validation_alias=AliasChoices("AWS_S3_BUCKET", "S3_BUCKET_NAME"),
        description="S3 bucket for the images.",
    )
    cloudfront_domain: str = Field(
        "",
        validation_alias="AWS_CLOUDFRONT_DOMAIN",
        description="Host of the CloudFront distribution of the bucket, such as d111.cloudfront.net.",
    )
    cdn_base_url: str = Field(
        "",
        validation_alias="STORAGE_CDN_BASE_URL",
        description="Address of another CDN, such as http://localhost:8081. Image URLs begin with it. "
        "Default: https://AWS_CLOUDFRONT_DOMAIN.",
    )

    @property
    def s3_chosen(self) -> bool:
        """Whether images are stored in S3."""
        return self.use_s3 == "true" or (self.use_s3 == "auto" and bool(self.s3_bucket))

    @property
    def cdn(self) -> str:
        """The beginning of URLs at the CDN, without a slash at the end; empty without a CDN."""
        if not self.s3_chosen:
            return ""
        return self.cdn_base_url or (f"https://{self.cloudfront_domain}" if self.cloudfront_domain else "")

    @field_validator("use_s3", mode="before")
    @classmethod
    def _truth(cls, value: object) -> object:
        words = {"1": "true", "yes": "true", "on": "true", "0": "false", "no": "false", "off": "false"}
        text = str(value).strip().lower()
        return words.get(text, text)

    @field_validator("public_base_url")
    @classmethod
    def _base_url(cls, value: str) -> str:
        return web_address(value, "https://blog.example.org")

    @field_validator("cdn_base_url")
    @classmethod
    def _cdn_base_url(cls, value: str) -> str:
        return web_address(value, "http://localhost:8081") if value else ""

    @field_validator("cloudfront_domain")
    @classmethod
    def _domain(cls, value: str) -> str:
        host = value.strip().lower().removeprefix("https://").removesuffix("/")
        if host and not _HOST.fullmatch(host):
            raise ValueError(f"{value!r} is not a bare host such as d111.cloudfront.net")
        return host

    @field_validator("s3_bucket")
    @classmethod
    def _bucket(cls, value: str) -> str:
        if value and not _BUCKET.fullmatch(value):
            raise ValueError(f"{value!r} is not a bucket name: 3 to 63 of a-z, 0-9, dot and hyphen")
        return value


class ImageUrls:
    """Makes URLs at the CDN if there is one, otherwise at the gateway."""

    def __init__(self, public_base_url: str, cdn_base_url: str = "") -> None:
        """The addresses of the gateway and of the CDN, without a slash at the end; `cdn_base_url` may be empty."""
        self.media_base_url = f"{public_base_url}{MEDIA_PATH.rstrip('/')}"
        """The beginning of the URL of every image that the gateway serves."""
        self.cdn_base_url = cdn_base_url

    @classmethod
    def of(cls, settings: ImageUrlSettings) -> "ImageUrls":
        """The URLs of a process with these settings."""
        return cls(settings.public_base_url, settings.cdn)

    @property
    def base_url(self) -> str:
        """The beginning of the URL of every image in the bucket, or of every image without a CDN."""
        return self.cdn_base_url or self.media_base_url

    def url(self, key: str, *, in_bucket: bool) -> str:
        """The URL of `key`. The CDN reaches only what is in the bucket; the gateway serves the rest."""
        return self._join(self.base_url if in_bucket else self.media_base_url, key)

    def cdn(self, key: str) -> str | None:
        """The URL of `key` at the CDN; None without a CDN."""
        return self._join(self.cdn_base_url, key) if self.cdn_base_url else None

    @staticmethod
    def _join(base: str, key: str) -> str:
        return f"{base}/{quote(key, safe=_SAFE_IN_PATH)}"


def key_of(url: str, bases: tuple[str, ...]) -> str:
    """The key of the image at `url`, which begins with one of `bases` or with MEDIA_PATH; "" for any other URL."""
    for base in (*bases, MEDIA_PATH.rstrip("/")):
        if url.startswith(f"{base}/"):
            return unquote(urlsplit(url.removeprefix(f"{base}/")).path)
    return ""


def web_address(value: str, example: str) -> str:
    """An http or https address without a slash at its end. Raises ValueError for anything else."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query or parts.fragment:
        raise ValueError(f"{value!r} is not an address such as {example}")
    return value.rstrip("/")
