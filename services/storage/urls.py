"""URLs of images: the lasting one that is handed out, computed from the key and never stored."""

from urllib.parse import quote

_SAFE_IN_PATH = "/!*'()"


class Urls:
    """Makes lasting URLs: of the CDN where there is one, else of the gateway."""

    def __init__(self, public_base_url: str, cdn_base_url: str = "") -> None:
        """`public_base_url`: of the gateway; `cdn_base_url`: of the CDN, or empty; no slash at the end of either."""
        self._media = f"{public_base_url}/media"
        self._cdn = cdn_base_url

    @property
    def base_url(self) -> str:
        """What every URL begins with."""
        return self._cdn or self._media

    def lasting(self, key: str) -> str:
        """The URL of `key` that goes on working wherever its bytes move."""
        return self._join(self.base_url, key)

    def media(self, key: str) -> str:
        """The URL of `key` at the gateway, which knows where the bytes are even when the CDN does not."""
        return self._join(self._media, key)

    def cdn(self, key: str) -> str | None:
        """The URL of `key` at the CDN; None without a CDN."""
        return self._join(self._cdn, key) if self._cdn else None

    @staticmethod
    def _join(base: str, key: str) -> str:
        return f"{base}/{quote(key, safe=_SAFE_IN_PATH)}"
