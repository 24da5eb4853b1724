"""Stock photos from the Pexels API, for requests that want a photograph instead of a painting."""

import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2

from rpc.errors import FailedPrecondition, NotFound, ResourceExhausted, Unavailable
from services.generator.models import Attribution, Image, ImageSource

log = logging.getLogger(__name__)

_PHOTOS_A_PAGE = 15
_MAX_ANSWER_BYTES = 1024 * 1024
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True)
class PexelsOptions:
    """See the settings of the same names."""

    api_key: str
    api_url: str
    image_hosts: frozenset[str]
    timeout_seconds: float
    max_bytes: int


class StockPhotos:
    """Searches Pexels and fetches one photo."""

    def __init__(self, options: PexelsOptions, client: httpx2.AsyncClient) -> None:
        """Use `client` for every exchange."""
        self._options = options
        self._client = client

    @property
    def available(self) -> bool:
        """Whether there is a key."""
        return bool(self._options.api_key)

    async def fetch(self, prompt: str, width: int, height: int) -> Image:
        """A photo that answers `prompt`, about the size and shape asked for.

        The same prompt gives the same photo as long as Pexels answers the same.
        Raises FailedPrecondition (no key, or it is refused), NotFound (no photo), ResourceExhausted (limit reached),
        Unavailable (Pexels is down, slow, or answers what it should not).
        """
        if not self.available:
            raise FailedPrecondition(
                "stock photos are not configured: set PEXELS_API_KEY", reason="STOCK_NOT_CONFIGURED"
            )
        photos = await self._search(prompt, width, height)
        if not photos:
            raise NotFound("no stock photo answers the prompt", reason="STOCK_NOT_FOUND")
        pick = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:4]) % len(photos)
        return await self._download(photos[pick], width, height)

    async def _search(self, prompt: str, width: int, height: int) -> list[dict[str, Any]]:
        shape = "square" if width == height else "landscape" if width > height else "portrait"
        query = {"query": prompt[:200], "per_page": str(_PHOTOS_A_PAGE), "orientation": shape}
        content, _ = await self._get(
            f"{self._options.api_url}/search", _MAX_ANSWER_BYTES, query, {"Authorization": self._options.api_key}
        )
        try:
            photos = httpx2.Response(200, content=content).json()["photos"]
            return [photo for photo in photos if isinstance(photo["src"]["original"], str)]
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable("Pexels answered something else than photos", reason="STOCK_UNAVAILABLE") from error

    async def _download(self, photo: dict[str, Any], width: int, height: int) -> Image:
        address = urlsplit(photo["src"]["original"])
        if (address.hostname or "").lower() not in self._options.image_hosts:
            raise Unavailable("Pexels names a photo on a host that is not allowed", reason="STOCK_UNAVAILABLE")
        size = {"auto": "compress", "cs": "srgb", "fit": "crop", "w": str(width), "h": str(height)}
        content, _ = await self._get(address._replace(query="").geturl(), self._options.max_bytes, size, {})
        kind = next((kind for start, kind in _SIGNATURES.items() if content.startswith(start)), None)
        if kind is None:
            raise Unavailable("Pexels sent something that is neither PNG nor JPEG", reason="STOCK_UNAVAILABLE")
        real_width, real_height = _dimensions(content)
        attribution = Attribution(
            provider="pexels",
            author=str(photo.get("photographer", "")),
            author_url=str(photo.get("photographer_url", "")),
            source_url=str(photo.get("url", "")),
            description=str(photo.get("alt") or ""),
        )
        return Image(kind, content, real_width, real_height, ImageSource.STOCK, attribution=attribution)

    async def _get(
        self, url: str, max_bytes: int, query: dict[str, str], headers: dict[str, str]
    ) -> tuple[bytes, httpx2.Headers]:
        try:
            async with self._client.stream("GET", url, params=query, headers=headers) as response:
                _check_status(response)
                content = bytearray()
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > max_bytes:
                        raise Unavailable(f"Pexels sent more than {max_bytes} bytes", reason="STOCK_TOO_LARGE")
                return bytes(content), response.headers
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
        raise ResourceExhausted("the Pexels limit is reached", reason="STOCK_LIMIT", retry_after_seconds=60)
    raise Unavailable(f"Pexels answered {status}", reason="STOCK_UNAVAILABLE", retry_after_seconds=5)


def _dimensions(content: bytes) -> tuple[int, int]:
    from io import BytesIO

    from PIL import Image as Pillow

    try:
        with Pillow.open(BytesIO(content), formats=["PNG", "JPEG"]) as picture:
            return picture.size
    except (OSError, Pillow.DecompressionBombError) as error:
        raise Unavailable("Pexels sent a broken photo", reason="STOCK_UNAVAILABLE") from error


@asynccontextmanager
async def open_stock(options: PexelsOptions) -> AsyncIterator[StockPhotos]:
    """Stock photos for as long as the block lasts. Redirects are not followed: they could lead anywhere."""
    limits = httpx2.Limits(max_connections=8)
    async with httpx2.AsyncClient(
        timeout=options.timeout_seconds, limits=limits, follow_redirects=False, trust_env=True
    ) as client:
        yield StockPhotos(options, client)
