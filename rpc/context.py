"""The context of a call: its deadline, its request id, and the principal on whose behalf it is made.

Each is a context variable. The server sets it (rpc.interceptors), and a channel sends it with each call (rpc.channel).
A handler need not pass it on. gRPC for Python does not do this itself.
"""

import re
import time
import uuid
from contextvars import ContextVar

REQUEST_ID_KEY = "x-request-id"
PRINCIPAL_KEY = "x-principal"

# The principal of a call that names none: the call of another service, or one from the private network.
DEFAULT_PRINCIPAL = "service"

_VISIBLE = re.compile(r"[\x21-\x7e]{1,128}")

deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
"""The time at which the current call ends, in seconds of time.monotonic(); None: no deadline."""

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id that the log lines of one request share in all processes; empty outside a call."""

principal: ContextVar[str] = ContextVar("principal", default=DEFAULT_PRINCIPAL)
"""The user or service that makes the request; 1 to 128 visible ASCII characters."""


def remaining_seconds() -> float | None:
    """Seconds left for the current call, 0 or more; None if it has no deadline."""
    ends = deadline.get()
    return None if ends is None else max(0.0, ends - time.monotonic())


def set_remaining_seconds(seconds: float | None) -> None:
    """Set the deadline of the current context; None removes it."""
    deadline.set(None if seconds is None else time.monotonic() + seconds)


def accept_id(value: str | None) -> str:
    """`value` if it is a valid id (1 to 128 visible ASCII characters), otherwise a new UUID."""
    return value if value and _VISIBLE.fullmatch(value) else str(uuid.uuid4())


def accept_principal(value: str | None) -> str:
    """`value` if it is a valid principal (1 to 128 visible ASCII characters), otherwise DEFAULT_PRINCIPAL."""
    return value if value and _VISIBLE.fullmatch(value) else DEFAULT_PRINCIPAL
