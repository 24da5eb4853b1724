"""Times as REST writes them."""

from google.protobuf.timestamp_pb2 import Timestamp


def rfc3339(time: Timestamp) -> str:
    """Such as 2026-11-21T05:00:00.250Z."""
    return time.ToJsonString()
