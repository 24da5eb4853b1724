"""Stock photos from the Pexels API, for requests with IMAGE_SOURCE_STOCK."""

import hashlib
import io
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
from frontispiece.types.v1 import generation_pb2 as types
from PIL import Image as PillowImage
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from rpc.errors import FailedPrecondition, FieldViolation, NotFound, ResourceExhausted, Unavailable
from services.generator.models import Image
from services.generator.stock.public_hosts import has_public_addresses, is_address

log = logging.getLogger(__name__)

_PHOTOS_PER_PAGE = 15
_MAX_QUERY_LENGTH = 200
_MAX_SEARCH_BYTES = 1024 * 1024
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


class PexelsOptions(BaseModel):
    """The settings of stock photos. GeneratorSettings inherits them."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    pexels_api_key: SecretStr = Field(
        SecretStr(""), validation_alias="PEXELS_API_KEY", description="Key of the Pexels API. Empty: no stock photos."
    )
    pexels_api_url: str = Field(
        "https://api.pexels.com/v1", validation_alias="PEXELS_API_URL", description="Base URL of the Pexels API."
    )
    pexels_image_hosts: str = Field(
        "images.pexels.com",
        validation_alias="PEXELS_IMAGE_HOSTS",
        description="Hosts from which photos may be fetched, comma-separated. A name must resolve to public addresses "
        "and is reached by https on port 443; an address, such as 127.0.0.1 for a test server, is reached as it is.",
    )
    pexels_timeout_seconds: float = Field(
        10.0, gt=0, le=120, validation_alias="PEXELS_TIMEOUT_SECONDS", description="Timeout of a Pexels request."
    )
    pexels_max_bytes: int = Field(
        32 * 1024 * 1024,
        ge=1024,
        le=256 * 1024 * 1024,
        validation_alias="PEXELS_MAX_BYTES",
        description="Largest accepted photo, in bytes.",
    )

    @field_validator("pexels_api_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme != "https" and not (parts.scheme == "http" and is_address(parts.hostname or "")):
            raise ValueError("must be an https URL; http is accepted for an address, such as http://127.0.0.1:8000")
        if not parts.hostname or parts.username or parts.query or parts.fragment:
            raise ValueError("must have only a scheme, a host, a port and a path")
        return value.rstrip("/")

    @property
    def image_hosts(self) -> frozenset[str]:
        """`pexels_image_hosts` as a set."""
        return frozenset(host.strip().lower() for host in self.pexels_image_hosts.split(",") if host.strip())


class StockPhotos:
    """Searches Pexels and fetches one photo."""

    def __init__(self, options: PexelsOptions, client: httpx2.AsyncClient) -> None:
        """Use `client` for every exchange."""
        self._options = options
        self._client = client

    @property
    def available(self) -> bool:
        """Whether a key is configured."""
        return bool(self._options.pexels_api_key.get_secret_value())

    def check_configured(self) -> None:
        """Raises FailedPrecondition when no key is configured."""
        if not self.available:
            problem = FieldViolation("parameters.source", "stock photos are not configured: set PEXELS_API_KEY")
            raise FailedPrecondition(problem.description, reason="STOCK_NOT_CONFIGURED", violations=[problem])

    async def fetch(self, prompt: str, width: int, height: int) -> Image:
        """A photo that matches `prompt`, of about this size and shape, in pixels.

        The same prompt gives the same photo as long as Pexels returns the same results.
        Raises FailedPrecondition (no key, or Pexels refuses it), NotFound (no photo), ResourceExhausted (request limit
        of Pexels), Unavailable (Pexels is down, slow, or sends an unexpected response).
        """
        self.check_configured()
        photos = await self._search(prompt, width, height)
        if not photos:
            raise NotFound("no stock photo matches the prompt", reason="STOCK_NOT_FOUND")
        pick = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4]) % len(photos)
        return await self._download(photos[pick], prompt, width, height)

    async def _search(self, prompt: str, width: int, height: int) -> list[dict[str, Any]]:
        shape = "square" if width == height else "landscape" if width > height else "portrait"
        query = {"query": prompt[:_MAX_QUERY_LENGTH], "per_page": str(_PHOTOS_PER_PAGE), "orientation": shape}
        headers = {"Authorization": self._options.pexels_api_key.get_secret_value()}
        content = await self._get(f"{self._options.pexels_api_url}/search", _MAX_SEARCH_BYTES, query, headers)
        try:
            photos = httpx2.Response(200, content=content).json()["photos"]
            return [photo for photo in photos if isinstance(photo["src"]["original"], str)]
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable("Pexels sent a response without photos", reason="STOCK_UNAVAILABLE") from error

    async def _download(self, photo: dict[str, Any], prompt: str, width: int, height: int) -> Image:
        original = await self._allowed(photo["src"]["original"])
        size = {"auto": "compress", "cs": "srgb", "fit": "crop", "w": str(width), "h": str(height)}
        content = await self._get(original, self._options.pexels_max_bytes, size, {})
        kind = next((kind for start, kind in _SIGNATURES.items() if content.startswith(start)), None)
        if kind is None:
            raise Unavailable("Pexels sent a file that is neither PNG nor JPEG", reason="STOCK_UNAVAILABLE")
        generation = types.Generation(
            parameters=types.GenerationParameters(prompt=prompt, source=types.IMAGE_SOURCE_STOCK),
            attribution=types.Attribution(
                provider="pexels",
                author=str(photo.get("photographer", "")),
                author_url=str(photo.get("photographer_url", "")),
                source_url=str(photo.get("url", "")),
                description=str(photo.get("alt") or ""),
            ),
        )
        return Image.of(content, kind, _size(content), generation)

    async def _allowed(self, url: str) -> str:
        """The URL of a photo without its query. Raises Unavailable unless it is one that photos may be fetched from."""
        try:
            parts = urlsplit(url)
            host, port = (parts.hostname or "").lower(), parts.port
        except ValueError:  # "//[" or a port that is no number
            host, port = "", None
        if host not in self._options.image_hosts:
            raise Unavailable("Pexels names a photo on a host that is not allowed", reason="STOCK_UNAVAILABLE")
        is_plain = parts.scheme == "https" and port in (None, 443)
        if "@" in parts.netloc or not (is_plain or (is_address(host) and parts.scheme in ("http", "https"))):
            raise Unavailable("Pexels names a photo that is not at an https URL", reason="STOCK_UNAVAILABLE")
        if not is_address(host):
            try:
                is_public = await has_public_addresses(host, 443)
            except OSError as error:
                raise Unavailable("the host of Pexels photos cannot be resolved", reason="STOCK_UNAVAILABLE") from error
            if not is_public:
                raise Unavailable("the host of Pexels photos has a private address", reason="STOCK_UNAVAILABLE")
        return parts._replace(query="", fragment="").geturl()

    async def _get(self, url: str, max_bytes: int, query: dict[str, str], headers: dict[str, str]) -> bytes:
        try:
            async with self._client.stream("GET", url, params=query, headers=headers) as response:
                _check_status(response)
                content = bytearray()
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > max_bytes:
                        raise Unavailable(f"Pexels sent more than {max_bytes} bytes", reason="STOCK_TOO_LARGE")
                return bytes(content)
        except httpx2.HTTPError as error:
            log.warning("Pexels cannot be reached", extra={"error": repr(error)})
            raise Unavailable("Pexels cannot be reached", reason="STOCK_UNAVAILABLE", retry_after_seconds=5) from error


def _check_status(response: httpx2.Response) -> None:
    status = response.status_code
    if status == 200:
        return
    if status in (401, 403):
        raise FailedPrecondition("Pexels refuses the key in PEXELS_API_KEY", reason="STOCK_KEY_REFUSED")
    if status == 429:
        raise ResourceExhausted("the request limit of Pexels is reached", reason="STOCK_LIMIT", retry_after_seconds=60)
    raise Unavailable(f"Pexels responded with status {status}", reason="STOCK_UNAVAILABLE", retry_after_seconds=5)


def _size(content: bytes) -> tuple[int, int]:
    """(width, height) in pixels."""
    try:
        with PillowImage.open(io.BytesIO(content), formats=["PNG", "JPEG"]) as image:
            return image.size
    except (OSError, PillowImage.DecompressionBombError) as error:
        raise Unavailable("Pexels sent a photo that cannot be decoded", reason="STOCK_UNAVAILABLE") from error


@asynccontextmanager
async def open_stock(options: PexelsOptions) -> AsyncIterator[StockPhotos]:
    """Stock photos for as long as the block lasts. Redirects are not followed: they could lead to any host."""
    limits = httpx2.Limits(max_connections=8)
    async with httpx2.AsyncClient(
        timeout=options.pexels_timeout_seconds, limits=limits, follow_redirects=False, trust_env=True
    ) as client:
        yield StockPhotos(options, client)
