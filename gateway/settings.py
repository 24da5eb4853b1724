"""Settings of the gateway, from environment variables."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from frontispiece.storage.v1 import images_pb2
from pydantic import AfterValidator, AliasChoices, Field, SecretStr
from pydantic_settings import NoDecode, SettingsConfigDict

from rpc.image_urls import ImageUrlSettings
from rpc.limits import limits
from rpc.settings import Target

MIN_TOKEN_LENGTH = 16

_HOST_NAME = re.compile(r"[\w.-]+|[0-9a-f:]+")

_MAX_UPLOAD_BYTES = int(limits(images_pb2.StoreImageHeader, "size_bytes").max)


def _origin(value: str) -> str:
    """A URL without its trailing slash. Raises ValueError unless it is absolute."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ValueError("must begin with http:// or https:// and name a host")
    return value.rstrip("/")


def _origins(value: str) -> str:
    for origin in value.split(","):
        if origin.strip():
            parts = urlsplit(_origin(origin.strip()))
            if parts.path or parts.query or parts.fragment:
                raise ValueError(f"{origin.strip()} must have only a scheme, a host and a port")
    return value


def _host_names(value: str) -> str:
    for name in _split(value):
        if not _HOST_NAME.fullmatch(name.removeprefix("*.")):
            raise ValueError(f"{name} must be a host name without scheme, port and path")
    return value


def _networks(value: str) -> str:
    for network in _split(value):
        ip_network(network)
    return value


def _split(value: str) -> tuple[str, ...]:
    return tuple(part.strip().rstrip("/").lower() for part in value.split(",") if part.strip())


def _long_enough(value: SecretStr | None) -> SecretStr | None:
    if value is not None and len(value.get_secret_value()) < MIN_TOKEN_LENGTH:
        raise ValueError(f"must have at least {MIN_TOKEN_LENGTH} characters")
    return value


Origins = Annotated[str, NoDecode, AfterValidator(_origins)]


class GatewaySettings(ImageUrlSettings):
    """The settings of the gateway."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on. 0: a free one.")
    public_base_url: str = Field(
        "http://127.0.0.1:8080",
        validation_alias=AliasChoices("PUBLIC_BASE_URL", "GATEWAY_PUBLIC_BASE_URL"),
        description="URL at which browsers reach the gateway; it may have a path. All absolute links begin with it. "
        "All processes need the same value.",
    )
    allowed_hosts: Annotated[str, AfterValidator(_host_names)] = Field(
        "",
        description="Host names (comma-separated, `*.example.org` for all below one) under which the gateway serves, "
        "besides that of PUBLIC_BASE_URL. A request for another one gets status 421. Empty: any name.",
    )
    site_title: str = Field("Frontispiece", min_length=1, max_length=100, description="Name of the public site.")
    posts_target: Target = Field("127.0.0.1:50053", description="Address of the posts service.")
    storage_target: Target = Field("127.0.0.1:50052", description="Address of the storage service.")
    generator_target: Target = Field(
        "127.0.0.1:50051",
        description="Address of the generator whose models `/api/capabilities` shows. Tasks run on all generators of "
        "the worker (POSTS_GENERATOR_TARGETS), which should have the same models.",
    )
    token: Annotated[SecretStr | None, AfterValidator(_long_enough)] = Field(
        None, description="Admin token, at least 16 characters. Not set: the token in the token file."
    )
    token_file: Path = Field(
        Path("var/token"),
        description="File with the admin token. A missing file is created with a random token, mode 0600.",
    )
    cors_origins: Origins = Field(
        "", description="Origins (comma-separated) whose pages may call the API. Empty: none."
    )
    image_origins: Origins = Field(
        "", description="Origins (comma-separated) from which pages may load images, besides every https origin."
    )
    cache_bytes: int = Field(
        64 * 1024 * 1024,
        ge=0,
        description="Memory for finished answers to readers, in bytes. An answer is kept for at most a second, and "
        "only until something changes. 0: none is kept.",
    )
    max_body_bytes: int = Field(
        1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest request body, in bytes."
    )
    max_upload_bytes: int = Field(
        _MAX_UPLOAD_BYTES, ge=1024, le=_MAX_UPLOAD_BYTES, description="Largest uploaded image, in bytes."
    )
    spool_bytes: int = Field(
        128 * 1024 * 1024,
        ge=1024 * 1024,
        description="Largest size of all uploads in progress, in bytes. They are collected in the folder for temporary "
        "files (TMPDIR). More are refused with 503.",
    )
    request_seconds: float = Field(
        15.0, gt=0, le=600, description="Deadline of the service calls of a request, in seconds."
    )
    wait_seconds: float = Field(
        55.0,
        ge=0,
        le=3600,
        description="How long generate-image waits for the image before it returns 202, in seconds.",
    )
    keepalive_seconds: float = Field(
        15.0, gt=0, le=300, description="Interval of the comments on a silent event stream, in seconds."
    )
    max_event_streams: int = Field(
        200,
        ge=1,
        description="Largest number of open event streams, and of calls of generate-image that wait. More are refused "
        "with 429.",
    )
    max_connections: int = Field(
        2000,
        ge=1,
        description="Largest number of connections. At the limit the one that has been idle longest is closed; if none "
        "is idle, a new one gets status 503. The limit of open files may lower it.",
    )
    max_connections_per_address: int = Field(
        256,
        ge=1,
        description="Largest number of connections from one address, or from one /64 network of IPv6. More get status "
        "429.",
    )
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = Field(
        "127.0.0.0/8,::1",
        description="Addresses and networks (comma-separated) of reverse proxies. Each stands for many clients, so "
        "GATEWAY_MAX_CONNECTIONS_PER_ADDRESS does not apply to them.",
    )
    idle_seconds: float = Field(
        75.0,
        gt=0,
        le=3600,
        description="How long a connection may be idle between two requests, in seconds. A load balancer in front "
        "should close it earlier.",
    )
    client_seconds: float = Field(
        10.0,
        gt=0,
        le=300,
        description="Longest time to receive the headers of a request, or the next part of its body, in seconds. A "
        "whole body may take twice this time, and longer if it arrives at 4 KiB a second.",
    )
    stalled_seconds: float = Field(
        60.0,
        ge=1,
        le=3600,
        description="A client that takes less than 1 KiB a second of a response for this long is disconnected, in "
        "seconds.",
    )
    shutdown_seconds: int = Field(
        3, ge=1, le=300, description="Longest time that requests in progress have to end at shutdown, in seconds."
    )

    @property
    def base_path(self) -> str:
        """The path of PUBLIC_BASE_URL, such as `/pictures`; empty at the root of a host."""
        return urlsplit(self.public_base_url).path

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names under which the gateway serves. Empty: any."""
        named = _split(self.allowed_hosts)
        return (*named, urlsplit(self.public_base_url).hostname or "") if named else ()

    @property
    def proxies(self) -> tuple[IPv4Network | IPv6Network, ...]:
        """The networks of reverse proxies."""
        return tuple(ip_network(network) for network in _split(self.trusted_proxies))

    def origins(self, value: str) -> tuple[str, ...]:
        """The origins in a comma-separated setting, as browsers write them."""
        return _split(value)
