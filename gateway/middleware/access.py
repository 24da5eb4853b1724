"""The admin token: where it comes from, and whether a request carries it."""

import contextlib
import hmac
import os
import secrets
from pathlib import Path
from tempfile import NamedTemporaryFile

from gateway.settings import MIN_TOKEN_LENGTH, GatewaySettings
from rpc import context, errors

ADMIN = "admin"
ANONYMOUS = "anonymous"


class TokenFileError(Exception):
    """The token file cannot be used; the text says why and names the file."""


def admin_token(settings: GatewaySettings) -> str:
    """The token of the settings, or that of the token file, which is made when missing."""
    if settings.token is not None:
        return settings.token.get_secret_value()
    try:
        return _read_or_create(settings.token_file)
    except OSError as error:
        raise TokenFileError(f"token file {settings.token_file}: {error.strerror}") from error


def hub_link(base_url: str, token: str) -> str:
    """The link that signs an editor in; the token is in the fragment, which browsers never send."""
    return f"{base_url}/hub#token={token}"


def _read_or_create(path: Path) -> str:
    if not path.exists():
        _create(path)
    token = path.read_text(encoding="utf-8").strip()
    if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise TokenFileError(f"token file {path}: needs {MIN_TOKEN_LENGTH} or more visible ASCII characters")
    return token


def _create(path: Path) -> None:
    """Write a fresh token. Of two processes that do it at once one wins, and no reader sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile("w", dir=path.parent, prefix=".token-", delete=False) as file:  # has mode 0600
        file.write(secrets.token_urlsafe(32) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(file.name, path)
    finally:
        os.unlink(file.name)


class Authenticator:
    """Knows the admin token and tells who asks."""

    def __init__(self, token: str) -> None:
        """`token`: the admin token."""
        self._token = token.encode()

    def principal(self, authorization: bytes | None) -> str:
        """ADMIN with the token, ANONYMOUS without one. Raises Unauthenticated for a wrong token.

        Another scheme counts as no token: a proxy in front may ask for a password of its own.
        """
        scheme, _, credentials = (authorization or b"").partition(b" ")
        if scheme.lower() != b"bearer":
            return ANONYMOUS
        if not hmac.compare_digest(credentials.strip(), self._token):
            raise errors.Unauthenticated("the bearer token is not valid", reason="INVALID_TOKEN")
        return ADMIN


def is_editor() -> bool:
    """Whether the current request carries the admin token."""
    return context.principal.get() == ADMIN


def require_editor() -> None:
    """Raise Unauthenticated unless the current request carries the admin token."""
    if not is_editor():
        raise errors.Unauthenticated("this needs the admin token: Authorization: Bearer …", reason="UNAUTHENTICATED")
