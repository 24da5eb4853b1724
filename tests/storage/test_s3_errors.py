"""What an operator reads when S3 refuses: the cause, and the setting to change."""

import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from botocore.exceptions import ClientError, NoCredentialsError

from rpc.errors import Unavailable
from services.storage.backends.base import BackendRefused
from services.storage.backends.s3.errors import checked, translated


def error(code: str, status: int = 403, **headers: str) -> ClientError:
    response = {
        "Error": {"Code": code, "Message": "secret account 1234"},
        "ResponseMetadata": {
            "HTTPStatusCode": status,
            "HTTPHeaders": {k.replace("_", "-"): v for k, v in headers.items()},
        },
    }
    return ClientError(response, "PutObject")  # type: ignore[arg-type]


@pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "RequestExpired"])
@pytest.mark.parametrize(
    ("offset", "words"),
    [
        pytest.param(timedelta(minutes=-16), r"0:1[56]:\d\d \(h:mm:ss\) ahead of the clock of S3", id="ahead"),
        pytest.param(timedelta(hours=2), r"(1:59|2:00):\d\d \(h:mm:ss\) behind the clock of S3", id="behind"),
    ],
)
def test_a_wrong_clock_is_named_with_its_difference(code: str, offset: timedelta, words: str) -> None:
    made = checked(error(code, date=format_datetime(datetime.now(UTC) + offset, usegmt=True)), "pictures")
    assert isinstance(made, BackendRefused)
    text = str(made)
    assert f"the bucket 'pictures' cannot be used: {code}; the clock of this machine is wrong" in text
    assert "AWS_" not in text
    assert re.search(words, text)


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_a_wrong_clock_is_named_without_a_date(date: str) -> None:
    text = str(checked(error("RequestTimeTooSkewed", date=date), "pictures"))
    assert text.endswith("the clock of this machine is wrong, set it (by NTP)")


def test_a_caller_learns_of_the_clock_too() -> None:
    made = translated(error("RequestTimeTooSkewed"), "storing")
    assert isinstance(made, Unavailable)
    assert made.reason == "S3_REFUSED"
    assert (
        made.message
        == "S3 refuses (RequestTimeTooSkewed): storing; the clock of this machine is wrong, set it (by NTP)"
    )


@pytest.mark.parametrize(
    ("code", "named"),
    [
        ("ExpiredToken", "AWS_SESSION_TOKEN"),
        ("ExpiredTokenException", "AWS_SESSION_TOKEN"),
        ("TokenRefreshRequired", "AWS_SESSION_TOKEN"),
        ("InvalidToken", "AWS_SESSION_TOKEN"),
        ("InvalidAccessKeyId", "AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY"),
        ("AccessDenied", "AWS_ACCESS_KEY_ID"),
        ("NoSuchBucket", "AWS_S3_BUCKET"),
        ("PermanentRedirect", "AWS_S3_REGION"),
        ("AuthorizationHeaderMalformed", "AWS_S3_REGION"),
        ("SomethingNew", "AWS_ACCESS_KEY_ID"),
    ],
)
def test_the_setting_to_change_is_named(code: str, named: str) -> None:
    made = checked(error(code), "pictures")
    assert isinstance(made, BackendRefused)
    assert code in str(made)
    assert named in str(made)
    assert "1234" not in str(made)


def test_the_region_of_the_bucket_is_named() -> None:
    assert "the bucket is in eu-west-1" in str(
        checked(error("PermanentRedirect", 301, x_amz_bucket_region="eu-west-1"), "b")
    )


def test_missing_keys_are_named() -> None:
    assert "no keys were found: set AWS_ACCESS_KEY_ID" in str(checked(NoCredentialsError(), "b"))


def test_another_failure_is_no_refusal() -> None:
    made = checked(error("NotImplemented", 501), "b")
    assert isinstance(made, Unavailable)
    assert made.message == "S3 failed (NotImplemented): checking"
