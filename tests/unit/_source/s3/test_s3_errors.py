"""The table of S3's answers: each has one kind, and none repeats a secret."""

from __future__ import annotations

import email.utils
import time

import pytest

from module_utils._errors import ErrorKind
from module_utils._source.s3_errors import (
    CODES,
    STATUSES,
    ObjectChanged,
    Where,
    from_answer,
    redacted,
    retry_after_seconds,
)

WHERE = Where("https://s3.example.net", "images", "archive.tar", ("very-secret",))

KINDS = [
    (403, "AccessDenied", ErrorKind.BAD_INPUT),
    (403, "InvalidAccessKeyId", ErrorKind.BAD_INPUT),
    (400, "ExpiredToken", ErrorKind.BAD_INPUT),
    (404, "NoSuchKey", ErrorKind.BAD_INPUT),
    (404, "NoSuchBucket", ErrorKind.BAD_INPUT),
    (301, "PermanentRedirect", ErrorKind.BAD_INPUT),
    (403, "RequestTimeTooSkewed", ErrorKind.UNSUPPORTED),
    (412, "PreconditionFailed", ErrorKind.TRANSIENT),
    (416, "InvalidRange", ErrorKind.TRANSIENT),
    (429, "", ErrorKind.TRANSIENT),
    (500, "InternalError", ErrorKind.TRANSIENT),
    (503, "SlowDown", ErrorKind.TRANSIENT),
    (599, "", ErrorKind.TRANSIENT),
    (501, "NotImplemented", ErrorKind.UNSUPPORTED),
    (400, "SomethingNew", ErrorKind.BAD_INPUT),
    (503, "SomethingNew", ErrorKind.TRANSIENT),
    (200, "SlowDown", ErrorKind.TRANSIENT),  # S3 may fail after it has sent its head
]


@pytest.mark.parametrize(("status", "code", "kind"), KINDS)
def test_every_answer_has_one_kind(status: int, code: str, kind: ErrorKind) -> None:
    error = from_answer(status, code, "", {}, WHERE)
    assert error.kind is kind
    assert error.retryable is (kind is ErrorKind.TRANSIENT)
    assert error.details["http_status"] == status


def test_every_row_says_what_to_do() -> None:
    for fault in [*CODES.values(), *STATUSES.values()]:
        assert fault.what.format(it=WHERE, bucket=WHERE.bucket, endpoint=WHERE.endpoint) != fault.what, (
            "it names the object"
        )
        assert fault.hint


def test_a_replaced_object_is_an_error_of_its_own() -> None:
    assert isinstance(from_answer(412, "", "", {}, WHERE), ObjectChanged)


def test_the_buckets_region_is_reported() -> None:
    error = from_answer(301, "PermanentRedirect", "", {"x-amz-bucket-region": "eu-west-1"}, WHERE)
    assert error.details["region"] == "eu-west-1"
    assert "the bucket is in eu-west-1" in error.msg


def test_the_clocks_difference_is_reported() -> None:
    headers = {"date": email.utils.formatdate(time.time() - 7200, usegmt=True)}
    error = from_answer(403, "RequestTimeTooSkewed", "", headers, WHERE)
    assert any(f"this host's clock is {seconds} s ahead of the server's" in error.msg for seconds in range(7198, 7203))


def test_what_the_server_says_is_on_one_line_and_without_secrets() -> None:
    said = "no\x1b[31m\nway, very-secret, Signature=0123456789abcdef0123"
    error = from_answer(403, "AccessDenied\n", said, {"x-amz-request-id": "ID\n"}, WHERE)
    assert error.msg.isprintable()
    assert "very-secret" not in error.msg
    assert "0123456789abcdef" not in error.msg
    assert "no\\x1b[31m\\nway" in error.msg
    assert all(str(value).isprintable() for value in error.details.values())


def test_the_text_of_where_shows_no_secret() -> None:
    assert "very-secret" not in f"{WHERE} {WHERE!r}"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("", None),
        ("5", 5.0),
        (" 5 ", 5.0),
        ("-5", None),
        ("soon", None),
        ("1e3", None),
        ("999999999", 86400.0),
        ("²", None),
    ],
)
def test_a_wait_in_seconds_is_understood(value: str, seconds: float | None) -> None:
    assert retry_after_seconds(value) == seconds


def test_a_wait_until_a_date_is_understood() -> None:
    found = retry_after_seconds(email.utils.formatdate(time.time() + 60, usegmt=True))
    assert found is not None
    assert 58 <= found <= 61
    assert retry_after_seconds(email.utils.formatdate(time.time() - 60, usegmt=True)) == 0


def test_empty_secrets_strike_nothing() -> None:
    assert redacted("text", ("",)) == "text"
