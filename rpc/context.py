"""What a call carries from hop to hop: its deadline, its request id and the principal on whose behalf it is made.

Each is a context variable, set by the server (rpc.calls) and read by the channel: a handler that calls another service
passes them on without knowing. gRPC for Python does not do this by itself.
"""

import re
import time
import uuid
from contextvars import ContextVar

REQUEST_ID_KEY = "x-request-id"
PRINCIPAL_KEY = "x-principal"

# The caller of a service that was called without a principal: another service, or somebody on the private network.
DEFAULT_PRINCIPAL = "service"

_VISIBLE = re.compile(r"[\x21-\x7e]{1,128}")

deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
"""When the current call ends, in seconds of time.monotonic(); None: never."""

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id that joins the log lines of one request over all processes; empty outside a call."""

principal: ContextVar[str] = ContextVar("principal", default=DEFAULT_PRINCIPAL)
"""Who asks; 1 to 128 visible ASCII characters."""


def remaining_seconds() -> float | None:
    """Seconds left for the current call, never below 0; None when it has no deadline."""
    ends = deadline.get()
    return None if ends is None else max(0.0, ends - time.monotonic())


def set_remaining_seconds(seconds: float | None) -> None:
    """Set the deadline of the current context; None removes it."""
    deadline.set(None if seconds is None else time.monotonic() + seconds)


def accept_id(value: str | None) -> str:
    """`value` if it may serve as an id (1 to 128 visible ASCII characters), else a new UUID."""
    return value if value and _VISIBLE.fullmatch(value) else str(uuid.uuid4())


def accept_principal(value: str | None) -> str:
    """`value` if it may serve as a principal, else DEFAULT_PRINCIPAL."""
    return value if value and _VISIBLE.fullmatch(value) else DEFAULT_PRINCIPAL
