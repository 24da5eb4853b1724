"""The URL of the database, as providers print it: read, checked, and turned into arguments of asyncpg.

It imports no driver, so that a launcher can check a URL quickly.
"""

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

_SCHEMES = ("postgresql", "postgres")
_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]:@/?#\s]*)(?::(?P<port>\d{1,5}))?")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_UNESCAPED = (
    "write special characters of the user and the password escaped: @ is %40, : %3A, / %2F, ? %3F, # %23, % %25"
)

_OF_THE_DRIVER = {
    *_FILES,
    *("host", "port", "dbname", "database", "user", "password", "service", "sslmode", "sslpassword", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib"),
    # Settings of the session.
    *("options", "search_path"),
}
_WITHOUT_EFFECT = {
    # We set the name; the driver encodes in UTF-8, checks connections itself and does not speak GSS encryption.
    *("application_name", "fallback_application_name", "client_encoding", "gssencmode"),
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
    # Of Prisma: the size of its pool. Ours is a setting.
    *("connection_limit", "pool_timeout"),
}

TRANSACTION_POOLER = (
    "names a transaction pooler ({}). LISTEN and the lock of migrations need a session: use the direct address, or a "
    "session pooler (Supabase: port 5432; Neon: the host without -pooler)"
)


@dataclass(frozen=True)
class Address:
    """Where the database is. `arguments` are those of asyncpg beside the URL."""

    url: str
    arguments: dict[str, Any] = field(default_factory=dict)
    connect_seconds: float | None = None
    """The connect_timeout of the URL; None without one."""


def parse(url: str) -> Address:
    """Read a URL. Raises ValueError, whose message says what is wrong and never holds the password."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme not in _SCHEMES:
        raise ValueError("must begin with postgresql://" + (f", not {scheme}://" if separator else ""))
    if "#" in rest or any(character.isspace() for character in rest):
        raise ValueError(f"holds a # or a space; {_UNESCAPED}")
    location, _, query = rest.partition("?")
    authority, slash, database = location.partition("/")
    user, _, hosts = authority.rpartition("@")
    if "@" in user or "@" in database or "@" in query or _ESCAPE.search(location):
        raise ValueError(f"cannot be read: {_UNESCAPED}")
    _check_hosts(hosts)
    parameters = _parameters(query)
    kept = {name: value for name, value in parameters.items() if name in _OF_THE_DRIVER}
    if parameters.get("schema", "public") != "public":  # of Prisma
        kept["search_path"] = parameters["schema"]
    if reason := _transaction_pooler(hosts, parameters):
        raise ValueError(TRANSACTION_POOLER.format(reason))
    arguments: dict[str, Any] = {}
    if "statement_cache_size" in parameters:
        arguments["statement_cache_size"] = int(_number(parameters, "statement_cache_size"))
    seconds = _number(parameters, "connect_timeout")
    _apply_tls(parameters, kept, arguments)
    text = f"{scheme}://{authority}{slash}{database}" + (f"?{urlencode(kept, quote_via=quote)}" if kept else "")
    return Address(text, arguments, seconds or None)


def _check_hosts(hosts: str) -> None:
    for host in unquote(hosts).split(","):
        match = _HOST.fullmatch(host)
        if not match and not host.startswith("/"):
            raise ValueError(f"has no host and port that can be read; {_UNESCAPED}")
        if match and match["port"] and not 0 < int(match["port"]) <= 65535:
            raise ValueError(f"port {match['port']} is not between 1 and 65535")


def _parameters(query: str) -> dict[str, str]:
    try:
        found = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
    except ValueError:
        raise ValueError("what follows the ? must be name=value, joined by &") from None
    known = {*_OF_THE_DRIVER, *_WITHOUT_EFFECT}
    known |= {"channel_binding", "connect_timeout", "pgbouncer", "schema", "statement_cache_size"}
    for name in found:
        if name not in known:
            raise ValueError(f"parameter {name} is not known; remove it")
    for name in _FILES:
        path = found.get(name, "")
        if path and not (name == "sslrootcert" and path == "system") and not Path(path).is_file():
            raise ValueError(f"parameter {name}: there is no file {path}")
    _choice(found, "sslmode", _MODES)
    _choice(found, "channel_binding", ("disable", "prefer", "require"))
    _choice(found, "sslnegotiation", ("postgres", "direct"))
    _choice(found, "pgbouncer", ("true", "false"))
    encoding = found.get("client_encoding", "utf8").lower().replace("-", "")
    if encoding not in ("utf8", "auto"):
        raise ValueError("parameter client_encoding must be utf8")
    return found


def _choice(parameters: dict[str, str], name: str, choices: tuple[str, ...]) -> None:
    if name in parameters and parameters[name] not in choices:
        raise ValueError(f"parameter {name} must be one of {', '.join(choices)}")


def _number(parameters: dict[str, str], name: str) -> float:
    text = parameters.get(name, "0")
    if not text.isascii() or not text.isdigit() or len(text) > 5:
        raise ValueError(f"parameter {name} must be a whole number")
    return float(text)


def _transaction_pooler(hosts: str, parameters: dict[str, str]) -> str:
    """What says that the server is a transaction pooler; empty if nothing does."""
    if parameters.get("pgbouncer") == "true":
        return "pgbouncer=true"
    for host in hosts.lower().split(","):
        name, _, port = host.partition(":")
        if name.endswith(".neon.tech") and name.partition(".")[0].endswith("-pooler"):
            return name
        if name.endswith((".supabase.com", ".supabase.co")) and port == "6543":
            return f"{name}:6543"
    return ""


def _apply_tls(parameters: dict[str, str], kept: dict[str, str], arguments: dict[str, Any]) -> None:
    """What the driver does not know: the system's authorities, and channel binding.

    Channel binding proves that no one stands between. A certificate that is verified in full proves the same.
    """
    mode = parameters.get("sslmode", "")
    binding = parameters.get("channel_binding") == "require"
    if binding and mode in ("disable", "allow", "prefer"):
        raise ValueError(f"channel_binding=require needs TLS, and sslmode={mode} does not insist on it")
    root = parameters.get("sslrootcert", "")
    by_system = root == "system" or (not root and (binding or mode in ("verify-ca", "verify-full")))
    if root == "system" and mode not in ("", "verify-full"):
        raise ValueError("sslrootcert=system needs sslmode=verify-full")
    if binding:
        kept["sslmode"] = "verify-full"
    if by_system:
        kept.pop("sslrootcert", None)
        kept.pop("sslmode", None)
        context = ssl.create_default_context()
        context.check_hostname = mode != "verify-ca" or binding
        if parameters.get("sslcert"):
            context.load_cert_chain(
                parameters["sslcert"], parameters.get("sslkey") or None, parameters.get("sslpassword") or None
            )
        if parameters.get("sslnegotiation") == "direct":
            context.set_alpn_protocols(["postgresql"])
        arguments["ssl"] = context
