"""Calls that may be sent twice: which request made what, remembered in the transaction that made it."""

import hashlib
import json
import uuid
from dataclasses import fields, is_dataclass
from typing import Any

from rpc import errors
from services.posts.database.pool import Connection

RESERVE = """
INSERT INTO idempotency_keys (principal, operation, key, request_hash, result_id) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
RETURNING result_id
"""

FIND = "SELECT request_hash, result_id FROM idempotency_keys WHERE principal = $1 AND operation = $2 AND key = $3"


_LATER: dict[str, object] = {
    "loras": (),
    "guidance_end": None,
    "denoising_end": None,
    "initial_image": None,
    "mask_feather": None,
}


def digest(*parts: object) -> bytes:
    """SHA-256 over dataclasses, tuples and plain values: equal requests have equal digests."""

    def plain(value: object) -> Any:
        if not is_dataclass(value) or isinstance(value, type):
            return str(value)
        # Fields that came later count only when they are given: a key from before an update is still good after it.
        # What is in them comes here in its turn.
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
        return {name: part for name, part in parts.items() if name not in _LATER or part != _LATER[name]}

    return hashlib.sha256(json.dumps(parts, default=plain, sort_keys=True).encode()).digest()


def mismatch(field: str) -> errors.AlreadyExists:
    """The error for a key that was used with another body."""
    return errors.AlreadyExists(
        f"this {field} was used before with another body", reason="IDEMPOTENCY_MISMATCH", metadata={"field": field}
    )


async def reserve(
    connection: Connection, principal: str, operation: str, key: str, request_hash: bytes, result_id: uuid.UUID
) -> uuid.UUID | None:
    """Take `key` for `result_id`: None when it was free, else the result of the request that took it before.

    "" is no key and always free. A request in flight with the same key is waited for. Raises AlreadyExists when its
    body was another.
    """
    if not key or await connection.fetchval(RESERVE, principal, operation, key, request_hash, result_id) is not None:
        return None
    found = await find(connection, principal, operation, key, request_hash)
    if found is None:  # forgotten between the two statements, after many days: take it anew
        raise errors.Aborted("try again", reason="TRANSACTION_CONFLICT")
    return found


async def find(
    connection: Connection, principal: str, operation: str, key: str, request_hash: bytes
) -> uuid.UUID | None:
    """The result of the request that took `key`, or None. Raises AlreadyExists when its body was another."""
    row = await connection.fetchrow(FIND, principal, operation, key)
    if row is None:
        return None
    if row["request_hash"] != request_hash:
        raise mismatch("request_id")
    found: uuid.UUID = row["result_id"]
    return found
