"""S3 options: what contradicts itself is refused, and nothing shows a secret."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

import pytest

from module_utils._errors import BadInput
from module_utils._source.options import S3Options, parse_sse_key

KEYS: dict[str, Any] = {"access_key": "AKID", "secret_key": "very-secret", "session_token": "token-secret"}

ROLE = "arn:aws:iam::123456789012:role/images"

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("bucket name", {"bucket": ""}),
    ("bucket name", {"bucket": "s3://images"}),
    ("bucket name", {"bucket": "a/b"}),
    ("bucket name", {"bucket": "a..b"}),
    ("bucket name", {"bucket": "a\nb"}),
    ("does not begin with http", {"endpoint_url": "s3.example.net"}),
    ("does not begin with http", {"endpoint_url": "file:///etc"}),
    ("user name or password", {"endpoint_url": "https://user:very-secret@s3.example.net"}),
    ("query or a fragment", {"endpoint_url": "https://s3.example.net?very-secret"}),
    ("query or a fragment", {"endpoint_url": "https://s3.example.net/v1#very-secret"}),
    ("query or a fragment", {"endpoint_url": "https://s3.example.net?"}),
    ("path that cannot be", {"endpoint_url": "https://s3.example.net/a/../b"}),
    ("path that cannot be", {"endpoint_url": "https://s3.example.net/a b"}),
    ("bucket name", {"bucket": ":images"}),
    ("bucket name", {"bucket": "a:b:c"}),
    ("bucket name", {"bucket": "arn:aws:s3:::images"}),
    ("bucket name", {"bucket": "arn:aws:s3:us-east-1:1:accesspoint/a"}),
    ("bucket name", {"bucket": "arn:aws:iam::123456789012:role/a"}),
    ("without assume_role_arn", {"external_id": "very-secret"}),
    ("without assume_role_arn", {"sts_endpoint_url": "https://sts.example.net"}),
    ("no ARN of a role", {"role_arn": "images"}),
    ("anonymous exclude", {"role_arn": ROLE, "anonymous": True}),
    ("sts_endpoint_url does not begin", {"role_arn": ROLE, "sts_endpoint_url": "sts.example"}),
    ("dualstack", {"dualstack": True, "endpoint_url": "https://s3.example.net"}),
    ("version_id", {"version_id": "a b"}),
    ("without TLS", {"sse_key": b"k" * 32, "endpoint_url": "http://s3.example.net"}),
    ("aws_config sets read_timeout, retries", {"config": {"retries": {}, "read_timeout": 1}}),
    ("no host", {"endpoint_url": "https://"}),
    ("no host", {"endpoint_url": "https://a b"}),
    ("is not a URL", {"endpoint_url": "https://host:port"}),
    ("without secret_key", {"access_key": "AKID"}),
    ("without access_key", {"secret_key": "very-secret"}),
    ("session_token is given", {"session_token": "very-secret"}),
    ("exclude each other", {**KEYS, "anonymous": True}),
    ("exclude each other", {**KEYS, "profile": "one"}),
    ("exclude each other", {"profile": "one", "anonymous": True}),
    ("addressing is", {"addressing": "other"}),
    ("time-out", {"read_timeout_seconds": 0}),
    ("time-out", {"connect_timeout_seconds": -1}),
    ("connections", {"max_connections": 0}),
    ("not a file", {"ca_bundle": "/nonexistent.pem"}),
    ("validate_certs is false", {"ca_bundle": __file__, "validate_certs": False}),
]


@pytest.mark.parametrize(("says", "wrong"), WRONG)
def test_options_that_cannot_be_right_are_refused_without_repeating_a_secret(says: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        S3Options(**{"bucket": "images", **wrong})
    assert "very-secret" not in f"{caught.value.msg} {caught.value.hint}"
    assert caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://127.0.0.1:8333",
        "https://s3.example.net/",
        "https://example.net/storage/v1/s3",
        "http://[::1]:9000",
        "http://minio_1:9000",
    ],
)
def test_endpoints_that_may_exist_are_taken(url: str) -> None:
    assert S3Options(bucket="images", endpoint_url=url).endpoint == (url.rstrip("/") or "Amazon S3")


@pytest.mark.parametrize(
    "bucket",
    [
        "tenant:images",
        "images_2",
        "Images.example",
        "arn:aws:s3:us-east-1:123456789012:accesspoint/images",
        "arn:aws-cn:s3:cn-north-1:123456789012:accesspoint:images",
        "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap",
        "arn:aws:s3-object-lambda:us-east-1:123456789012:accesspoint/images",
        "arn:aws:s3-outposts:us-east-1:123456789012:outpost/op-01ac5d28a6a232904/accesspoint/images",
    ],
)
def test_every_way_to_name_a_bucket_is_taken(bucket: str) -> None:
    assert S3Options(bucket=bucket).bucket == bucket


def test_a_key_of_sse_c_is_base64_or_32_characters_and_nothing_else() -> None:
    assert parse_sse_key("") == b""
    assert parse_sse_key("k" * 32) == b"k" * 32
    assert parse_sse_key(base64.b64encode(bytes(range(32))).decode() + "\n") == bytes(range(32))
    for wrong in ("very-secret", base64.b64encode(b"very-secret").decode(), "k" * 33):
        with pytest.raises(BadInput, match="32 bytes") as caught:
            parse_sse_key(wrong)
        assert wrong not in f"{caught.value} {caught.value.hint}"


def test_the_text_of_options_shows_no_secret() -> None:
    options = S3Options(bucket="images", sse_key=b"very-secret", role_arn=ROLE, external_id="very-secret", **KEYS)
    for text in (repr(options), str(options), repr(dataclasses.replace(options, bucket="other"))):
        assert not [secret for secret in KEYS.values() if secret in text]
