"""Calls that may be repeated: the result of each request_id, stored in the transaction that created it."""

import hashlib
import uuid
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from rpc import errors
from services.posts.database.database import Connection
from services.posts.database.sql import Sql

RESERVE = Sql("""
INSERT INTO idempotency_keys (principal, operation, key, request_hash, result_id)
VALUES (:principal, :operation, :key, :request_hash, :result_id)
ON CONFLICT DO NOTHING
RETURNING result_id
""")

FIND = "SELECT request_hash, result_id FROM idempotency_keys WHERE principal = $1 AND operation = $2 AND key = $3"


@dataclass(frozen=True)
class Key:
    """A request_id of a principal for an operation, and the hash of the request. An empty `request_id` is no key."""

    principal: str
    operation: str
    request_id: str
    request_hash: bytes

    @classmethod
    def of(cls, principal: str, operation: str, request: Any) -> "Key":
        """The key of a request that has a field `request_id`."""
        return cls(principal, operation, request.request_id, digest(request, "request_id"))


def digest(request: Message, *without: str) -> bytes:
    """SHA-256 of a normalised request without some of its fields. Equal requests have equal digests."""
    copy = type(request)()
    copy.CopyFrom(request)
    for name in without:
        copy.ClearField(name)
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).digest()


def mismatch(field: str) -> errors.AlreadyExists:
    """The error for a key that was used with another request."""
    return errors.AlreadyExists(
        f"this {field} was used before with another request", reason="IDEMPOTENCY_MISMATCH", metadata={"field": field}
    )


async def reserve(connection: Connection, key: Key, result_id: uuid.UUID) -> uuid.UUID | None:
    """Store `result_id` as the result of `key`. None if the key is new, else the result of the earlier request.

    A request with the same key that is in progress is waited for. Raises AlreadyExists if the earlier request differs.
    """
    if not key.request_id:
        return None
    statement = RESERVE(
        principal=key.principal,
        operation=key.operation,
        key=key.request_id,
        request_hash=key.request_hash,
        result_id=result_id,
    )
    if await connection.fetchval(*statement) is not None:
        return None
    found = await find(connection, key)
    if found is None:  # expired between the two statements: the retry of the transaction stores it again
        raise errors.Aborted("try again", reason="TRANSACTION_CONFLICT")
    return found


async def find(connection: Connection, key: Key) -> uuid.UUID | None:
    """The result of the request with this key, or None. Raises AlreadyExists if that request differs."""
    row = await connection.fetchrow(FIND, key.principal, key.operation, key.request_id) if key.request_id else None
    if row is None:
        return None
    if row["request_hash"] != key.request_hash:
        raise mismatch("request_id")
    found: uuid.UUID = row["result_id"]
    return found
