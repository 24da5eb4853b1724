"""Why the database cannot be used, in words for operators. No message holds an address or a name."""

import errno
import socket
import ssl

import asyncpg

NO_ANSWER = "the database does not answer"


def refusal(error: asyncpg.InvalidAuthorizationSpecificationError) -> str:
    """Why the server does not let us in."""
    text = str(error)
    if "pg_hba.conf" in text:
        how = ": it may require TLS (sslmode=require)" if "no encryption" in text or "SSL off" in text else ""
        return f"the database does not admit our address, user and database (pg_hba.conf){how}"
    return "the database refuses our user or password"


def loss(error: BaseException) -> str:
    """Why there is no connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{NO_ANSWER} as it should: its certificate is not accepted"
    if isinstance(error, ssl.SSLError):
        return f"{NO_ANSWER} as it should: TLS fails"
    if isinstance(error, socket.gaierror):
        return f"{NO_ANSWER}: its host name is not known"
    if isinstance(error, ConnectionError) and "rejected SSL" in str(error):
        return f"{NO_ANSWER} as it should: it offers no TLS, which sslmode requires"
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return "the database server has no database of that name"
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return "no database server accepts writes"
    if isinstance(error, asyncpg.TooManyConnectionsError):
        return "the database server has no free connection"
    if isinstance(error, asyncpg.ProtocolViolationError):
        return "the pooler in front of the database refuses our session: use the direct address"
    if isinstance(error, OSError) and _is_refused(error):
        return f"{NO_ANSWER}: nothing listens at its address and port"
    return NO_ANSWER


def _is_refused(error: OSError) -> bool:
    """Whether a connection was refused. With several addresses, asyncio joins the texts of the errors."""
    return error.errno == errno.ECONNREFUSED or f"[Errno {errno.ECONNREFUSED}]" in str(error)
