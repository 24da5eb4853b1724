"""Errors of PostgreSQL and asyncpg as ours: why the database cannot be used. No message holds an address or a name."""

import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Iterator

import asyncpg

from rpc import errors

log = logging.getLogger(__name__)

_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,  # shutdown, crash, dropped database
    asyncpg.InsufficientResourcesError,  # too many connections, disk full, out of memory
    asyncpg.TargetServerAttributeNotMatched,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server ended the connection, but the socket is not closed yet
    asyncpg.ProtocolViolationError,  # of poolers
    OSError,
)

_WRONG_PARAMETER = (
    asyncpg.UndefinedObjectError,
    asyncpg.InvalidParameterValueError,
    asyncpg.CantChangeRuntimeParamError,
)

NO_ANSWER = "the database does not answer"


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Raise our errors in place of those of PostgreSQL and asyncpg that mean "cannot serve". Others pass unchanged."""
    try:
        yield
    except Exception as error:
        public = _translation(error)
        if public is None:
            raise
        raise public from error


def _translation(error: BaseException) -> errors.RpcError | None:
    if isinstance(error, asyncpg.SerializationError | asyncpg.DeadlockDetectedError):
        return errors.Aborted(
            "another change came in between; try again", reason="TRANSACTION_CONFLICT", retry_after_seconds=0.1
        )
    if isinstance(error, TimeoutError | asyncpg.QueryCanceledError | asyncpg.LockNotAvailableError):
        return _unavailable("the database is too slow now", "DATABASE_TIMEOUT")
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return _unavailable("the database does not accept writes now", "DATABASE_READ_ONLY")
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return _unavailable(_refusal(error), "DATABASE_REFUSED", 5.0)
    if isinstance(error, _WRONG_PARAMETER) and "parameter" in str(error):
        return _unavailable("the database refuses a parameter of its URL", "DATABASE_REFUSED", 5.0)
    # asyncpg's own DataError is a ValueError: the service passed a wrong argument. So is that of a wrong certificate.
    if isinstance(error, _LOST) and (not isinstance(error, ValueError) or isinstance(error, ssl.SSLError)):
        log.debug("database lost", exc_info=error)
        return _unavailable(_loss(error), "DATABASE_UNAVAILABLE")
    return None


def _unavailable(message: str, reason: str, retry_after_seconds: float = 1.0) -> errors.Unavailable:
    return errors.Unavailable(message, reason=reason, retry_after_seconds=retry_after_seconds)


def _refusal(error: asyncpg.InvalidAuthorizationSpecificationError) -> str:
    """Why the server does not let us in."""
    text = str(error)
    if "pg_hba.conf" in text:
        how = ": it may require TLS (sslmode=require)" if "no encryption" in text or "SSL off" in text else ""
        return f"the database does not admit our address, user and database (pg_hba.conf){how}"
    return "the database refuses our user or password"


def _loss(error: BaseException) -> str:
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
