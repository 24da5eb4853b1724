"""The admin token: read from the settings or from a file, which is created on the first start."""

import contextlib
import os
import secrets
from pathlib import Path
from tempfile import NamedTemporaryFile

from gateway.settings import MIN_TOKEN_LENGTH, GatewaySettings


class TokenFileError(Exception):
    """The token file cannot be used. The message names the file and the reason."""


def admin_token(settings: GatewaySettings) -> str:
    """The token of the settings, else that of the token file. Creates a missing file. Raises TokenFileError."""
    if settings.token is not None:
        return settings.token.get_secret_value()
    return read_or_create(settings.token_file)


def read_or_create(path: Path) -> str:
    """The token in the file at `path`; a missing file gets a new random token. Raises TokenFileError."""
    try:
        if not path.exists():
            _create(path)
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise TokenFileError(f"token file {path}: {error.strerror}") from error
    if len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise TokenFileError(f"token file {path}: needs {MIN_TOKEN_LENGTH} or more visible ASCII characters")
    return token


def hub_link(base_url: str, token: str) -> str:
    """The link that signs an editor in. The token is in the fragment, which browsers never send to a server."""
    return f"{base_url}/hub#token={token}"


def _create(path: Path) -> None:
    """Write a new token (mode 0600), atomically: one of several processes wins, and no reader sees half a file."""
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
