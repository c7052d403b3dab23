"""Making a client: what is missing is reported, and nothing shows a secret."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from module_utils._errors import MissingLibrary
from module_utils._names import ObjectKey
from module_utils._source.options import S3Options
from module_utils._source.s3.bucket import Bucket
from module_utils._source.s3.client import connect

OPTIONS = S3Options(
    bucket="images", region="us-east-1", access_key="AKID", secret_key="very-secret", session_token="token-secret"
)


def test_a_missing_boto3_is_named_with_the_role_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.split(".")[0] in ("boto3", "botocore")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(MissingLibrary) as caught:
        Bucket(OPTIONS).head(ObjectKey("archive.tar"))
    assert caught.value.library == "boto3"
    assert "prepare" in caught.value.hint


def test_a_bucket_can_be_made_without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert "very-secret" not in repr(Bucket(OPTIONS))


def test_botocore_sends_each_request_once_and_hashes_nothing() -> None:
    pytest.importorskip("boto3", reason="boto3 is not installed")
    made: Any = connect(OPTIONS)  # the types of botocore do not say that there is a config
    config = made.s3.meta.config
    assert config.retries == {"total_max_attempts": 1, "mode": "standard"}
    assert config.response_checksum_validation == "when_required"
    made.s3.close()


def test_a_connection_knows_its_secrets_and_does_not_show_them() -> None:
    pytest.importorskip("boto3", reason="boto3 is not installed")
    made: Any = connect(OPTIONS)  # the types of botocore do not say that there is a config
    assert set(made.secrets) == {"AKID", "very-secret", "token-secret"}
    assert "secret" not in repr(made)
    made.s3.close()
