"""S3 options: what contradicts itself is refused, and nothing shows a secret."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from module_utils._errors import BadInput
from module_utils._source.options import S3Options

KEYS: dict[str, Any] = {"access_key": "AKID", "secret_key": "very-secret", "session_token": "token-secret"}

WRONG: list[tuple[str, dict[str, Any]]] = [
    ("bucket name", {"bucket": ""}),
    ("bucket name", {"bucket": "s3://images"}),
    ("bucket name", {"bucket": "a/b"}),
    ("bucket name", {"bucket": "a..b"}),
    ("bucket name", {"bucket": "a\nb"}),
    ("does not begin with http", {"endpoint_url": "s3.example.net"}),
    ("does not begin with http", {"endpoint_url": "file:///etc"}),
    ("user name or password", {"endpoint_url": "https://user:very-secret@s3.example.net"}),
    ("more than a server", {"endpoint_url": "https://s3.example.net/bucket"}),
    ("more than a server", {"endpoint_url": "https://s3.example.net?very-secret"}),
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
    "url", ["", "http://127.0.0.1:8333", "https://s3.example.net/", "http://[::1]:9000", "http://minio_1:9000"]
)
def test_endpoints_that_may_exist_are_taken(url: str) -> None:
    assert S3Options(bucket="images", endpoint_url=url).endpoint == (url.rstrip("/") or "Amazon S3")


def test_the_text_of_options_shows_no_secret() -> None:
    options = S3Options(bucket="images", **KEYS)
    for text in (repr(options), str(options), repr(dataclasses.replace(options, bucket="other"))):
        assert not [secret for secret in KEYS.values() if secret in text]
