"""The boto3 client, created when it is first needed, with options that work on AWS and on compatible servers."""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.handlers import add_expect_header

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

CONNECT_SECONDS = 2
READ_SECONDS = 10
ATTEMPTS = 3


@dataclass(frozen=True)
class S3Options:
    """The bucket and how to reach it. Empty keys: boto looks for a role. Empty endpoint: AWS."""

    bucket: str
    region: str
    endpoint_url: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    encryption: str = ""
    threads: int = 16


class LazyClient:
    """One client for all threads. Creating it takes 0.5 s and is not thread-safe; using it is."""

    def __init__(self, options: S3Options) -> None:
        """Does not create the client yet."""
        self._options = options
        self._lock = threading.Lock()
        self._client: S3Client | None = None

    def get(self) -> "S3Client":
        """The client. Blocks while it is created."""
        with self._lock:
            if self._client is None:
                self._client = _make(self._options)
            return self._client

    def close(self) -> None:
        """Close its connections."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None


def _make(options: S3Options) -> "S3Client":
    # Virtual-hosted addresses need DNS names that compatible servers seldom have, and a certificate for
    # *.s3.amazonaws.com does not cover a bucket name with a dot.
    path_style = bool(options.endpoint_url) or "." in options.bucket
    session = boto3.session.Session(
        aws_access_key_id=options.access_key_id or None,
        aws_secret_access_key=options.secret_access_key or None,
        aws_session_token=options.session_token or None,
        region_name=options.region,
    )
    client = session.client(
        "s3",
        endpoint_url=options.endpoint_url or None,
        config=Config(
            signature_version="s3v4",  # presigned URLs are SigV2 otherwise
            s3={"addressing_style": "path" if path_style else "virtual"},
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            # Over TLS boto sends its own checksum as an aws-chunked trailer, which several servers store as content.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            tcp_keepalive=True,
            max_pool_connections=options.threads + 4,
        ),
    )
    # boto asks "Expect: 100-continue" for every body that is a file. Not every compatible server knows it.
    client.meta.events.unregister("before-call.s3", add_expect_header)
    return client
