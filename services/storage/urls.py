"""Permanent URLs of images, computed from their keys."""

from urllib.parse import quote

_SAFE_IN_PATH = "/!*'()"


class Urls:
    """Makes URLs at the CDN if there is one, otherwise at the gateway."""

    def __init__(self, public_base_url: str, cdn_base_url: str = "") -> None:
        """The addresses of the gateway and of the CDN, without a slash at the end; `cdn_base_url` may be empty."""
        self._media = f"{public_base_url}/media"
        self._cdn = cdn_base_url

    @property
    def base_url(self) -> str:
        """The beginning of every permanent URL."""
        return self._cdn or self._media

    def permanent(self, key: str) -> str:
        """The URL of `key` that keeps working when the image moves."""
        return self._join(self.base_url, key)

    def media(self, key: str) -> str:
        """The URL of `key` at the gateway, which also serves images that the CDN cannot reach yet."""
        return self._join(self._media, key)

    def cdn(self, key: str) -> str | None:
        """The URL of `key` at the CDN; None without a CDN."""
        return self._join(self._cdn, key) if self._cdn else None

    @staticmethod
    def _join(base: str, key: str) -> str:
        return f"{base}/{quote(key, safe=_SAFE_IN_PATH)}"
