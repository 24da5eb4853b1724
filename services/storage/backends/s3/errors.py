"""Translation of boto exceptions into errors for the caller."""

import logging
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

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
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidBucketName",
    "InvalidToken",
    "NoSuchBucket",
    "PermanentRedirect",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
})  # fmt: skip

_CLOCK = ("RequestTimeTooSkewed", "RequestExpired")
_REGION = ("PermanentRedirect", "AuthorizationHeaderMalformed")
_KEYS = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the role)"
_EXPIRED = "the temporary keys have expired: renew AWS_SESSION_TOKEN and the keys that belong to it"
_ADVICE = {
    "AccessDenied": f"the key may not use the bucket, or not in this way; {_KEYS}",
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "InvalidAccessKeyId": "S3 does not know the key: check AWS_ACCESS_KEY_ID",
    "InvalidBucketName": "check AWS_S3_BUCKET",
    "InvalidToken": "check AWS_SESSION_TOKEN",
    "NoSuchBucket": "there is no such bucket: check AWS_S3_BUCKET",
    "NotImplemented": "the server does not know a request that is needed",
    "SignatureDoesNotMatch": "check AWS_SECRET_ACCESS_KEY",
    "TokenRefreshRequired": _EXPIRED,
    "404": "there is no such bucket: check AWS_S3_BUCKET",
}
"""What to do, by error code."""


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
            f"S3 refuses ({_public_code(error)}): {doing}{_why(error)}",
            reason="S3_REFUSED",
            retry_after_seconds=_REFUSED_RETRY_SECONDS,
        )
    return Unavailable(
        f"S3 failed ({_public_code(error)}): {doing}{_why(error)}",
        reason="S3_UNAVAILABLE",
        retry_after_seconds=RETRY_SECONDS,
    )


def checked(error: Exception, bucket: str) -> Exception:
    """The error of a check. BackendRefused names the settings to correct."""
    if not is_refusal(error):
        return translated(error, "checking")
    log.warning("S3: checking failed: %s", error, extra={"code": _public_code(error)})
    return BackendRefused(f"the bucket {bucket!r} cannot be used: {_public_code(error)}; {_advice(error) or _KEYS}")


def _why(error: Exception) -> str:
    """What is wrong with the clock, for a caller; other advice is for operators."""
    return f"; {_advice(error)}" if code_of(error) in _CLOCK else ""


def _advice(error: Exception) -> str:
    """What an operator can do; empty if only the code is known."""
    code = code_of(error)
    if code in _CLOCK:
        return _clock(_headers(error).get("date", ""))
    if code in _REGION:
        region = _headers(error).get("x-amz-bucket-region", "")
        return f"check AWS_S3_REGION: the bucket is in {region}" if region else "check AWS_S3_REGION"
    if isinstance(error, NoCredentialsError):
        return "no keys were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use a role"
    return _ADVICE.get(code, "")


def _clock(date: str) -> str:
    """That the clock is wrong, and by how much if the response has the time of S3 (`date`, RFC 9110)."""
    advice = "the clock of this machine is wrong, set it (by NTP)"
    try:
        seconds = (datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds()
    except (TypeError, ValueError):
        return advice
    direction = "ahead of" if seconds > 0 else "behind"
    return f"{advice}: it is {timedelta(seconds=round(abs(seconds)))} (h:mm:ss) {direction} the clock of S3"


def _headers(error: Exception) -> dict[str, str]:
    """The headers of the response; their names are in lower case."""
    if not isinstance(error, ClientError):
        return {}
    return dict(error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {}))


def _public_code(error: Exception) -> str:
    return code_of(error) or type(error).__name__
