"""Translation of boto exceptions into errors for the caller."""

import logging

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError, ProfileNotFound
from urllib3.exceptions import HTTPError

from rpc.errors import DataLoss, NotFound, RpcError, Unavailable
from services.storage.backends.base import BackendRefused

log = logging.getLogger(__name__)

Boto3Error = (ClientError, BotoCoreError, HTTPError, OSError)
"""What a call to S3 may raise: errors of boto, and of urllib3 and the socket while a body is read."""

RETRY_SECONDS = 2.0
_REFUSED_RETRY_SECONDS = 30.0

_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, ProfileNotFound)
_REFUSALS = frozenset({
    "AccessDenied",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidBucketName",
    "InvalidToken",
    "NoSuchBucket",
    "PermanentRedirect",
    "SignatureDoesNotMatch",
})  # fmt: skip


def code_of(error: Exception) -> str:
    """The S3 error code, such as NoSuchKey; for a HEAD, which has no body, the HTTP status; otherwise empty."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""


def status_of(error: Exception) -> int:
    """The HTTP status of the response; 0 if there was none."""
    if not isinstance(error, ClientError):
        return 0
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_missing(error: Exception) -> bool:
    """Whether S3 said that the object does not exist. A missing bucket, 403 or no response do not count."""
    return code_of(error) in ("NoSuchKey", "404")


def is_taken(error: Exception) -> bool:
    """Whether a conditional put found an existing object, or another put in progress."""
    return status_of(error) in (409, 412)


def is_refusal(error: Exception) -> bool:
    """Whether S3, or the search for credentials, failed for a reason that only an operator can remove."""
    return isinstance(error, _NO_CREDENTIALS) or code_of(error) in _REFUSALS or status_of(error) in (401, 403)


def translated(error: Exception, doing: str, key: str = "") -> RpcError:
    """The error for the caller. Hosts and account details are only logged."""
    if key and is_missing(error):
        return NotFound(f"there is no image {key}", reason="IMAGE_NOT_FOUND")
    log.warning("S3: %s failed: %s", doing, error, extra={"code": code_of(error) or type(error).__name__})
    if code_of(error) in ("BadDigest", "XAmzContentSHA256Mismatch"):
        return DataLoss(f"the bytes changed on their way to S3: {doing}", reason="CHECKSUM_MISMATCH")
    if is_refusal(error):
        return Unavailable(
            f"S3 refuses ({_public_code(error)}): {doing}",
            reason="S3_REFUSED",
            retry_after_seconds=_REFUSED_RETRY_SECONDS,
        )
    return Unavailable(
        f"S3 failed ({_public_code(error)}): {doing}",
        reason="S3_UNAVAILABLE",
        retry_after_seconds=RETRY_SECONDS,
    )


def checked(error: Exception, bucket: str) -> Exception:
    """The error of a check. BackendRefused names the settings to correct."""
    if not is_refusal(error):
        return translated(error, "checking")
    log.warning("S3: checking failed: %s", error, extra={"code": _public_code(error)})
    code = code_of(error)
    variable = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the role)"
    if code in ("NoSuchBucket", "404"):
        variable = "AWS_S3_BUCKET"
    elif code in ("PermanentRedirect", "AuthorizationHeaderMalformed"):
        variable = "AWS_S3_REGION"
    return BackendRefused(f"the bucket {bucket!r} cannot be used: {_public_code(error)}; check {variable}")


def _public_code(error: Exception) -> str:
    return code_of(error) or type(error).__name__
