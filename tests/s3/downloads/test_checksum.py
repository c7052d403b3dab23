"""Digest trust levels: every way to say it, with real objects and checksum files."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from module_utils._errors import BadInput, ErrorKind, FlydError, Untrusted
from module_utils._names import Digest
from module_utils._source.digests.checksum import ChecksumPolicy, Expected, Trust, resolve
from module_utils._source.s3.bucket import Bucket
from tests.faults import kinds
from tests.faults.proxy import FaultProxy
from tests.s3.conftest import Host, Stored
from tests.s3.server import BUCKET

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

Store = Callable[..., Stored]
OTHER = "sha256:" + "0" * 64


@pytest.fixture
def stored(store: Store) -> Stored:
    return store(1000)


@pytest.fixture
def summed(admin: S3Client, store: Store) -> Stored:
    """An object whose SHA-256 the server knows."""
    stored = store(1000)
    admin.put_object(Bucket=BUCKET, Key=stored.key.value, Body=stored.content, ChecksumAlgorithm="SHA256")
    return stored


def expected(
    bucket: Bucket, stored: Stored, checksum: str = "", policy: str = "first_use", recorded: str = ""
) -> Expected:
    info = bucket.head(stored.key)
    return resolve(bucket, info, stored.key, checksum, ChecksumPolicy(policy), recorded_sha256=recorded)


def test_a_pinned_digest_needs_no_request(bucket: Bucket, proxy: FaultProxy, stored: Stored) -> None:
    found = expected(bucket, stored, f"SHA256:{stored.sha256.upper()}", "require")
    assert found == Expected(Digest("sha256", stored.sha256), Trust.PINNED)
    assert [one.request.method for one in proxy.seen] == ["HEAD"]


def test_a_pinned_digest_that_contradicts_the_servers_is_refused_before_the_download(
    host: Host, proxy: FaultProxy, summed: Stored
) -> None:
    with pytest.raises(Untrusted) as caught:
        host.fetch(summed, checksum=OTHER)
    assert caught.value.details == {"expected": OTHER, "found": f"sha256:{summed.sha256}", "attempts": 1}
    assert proxy.asked() == []


def test_the_objects_own_digest_is_used(bucket: Bucket, summed: Stored) -> None:
    assert expected(bucket, summed, policy="require") == Expected(Digest("sha256", summed.sha256), Trust.OBJECT)


def test_an_object_that_is_not_what_its_own_digest_says_is_refused(
    host: Host, proxy: FaultProxy, summed: Stored
) -> None:
    proxy.plan(kinds.corrupted(5), times=-1)
    with pytest.raises(Untrusted):
        host.fetch(summed)
    assert host.files() == []


def test_without_any_digest_the_first_one_counts(host: Host, stored: Stored) -> None:
    fetched = host.fetch(stored)
    assert fetched.expected == Expected(None, Trust.FIRST_USE)
    assert fetched.downloaded.sha256 == stored.sha256


def test_the_recorded_first_digest_is_expected_from_then_on(bucket: Bucket, stored: Stored) -> None:
    assert expected(bucket, stored, recorded=stored.sha256) == Expected(
        Digest("sha256", stored.sha256), Trust.FIRST_USE
    )


def test_first_use_is_refused_when_a_digest_is_required(bucket: Bucket, stored: Stored) -> None:
    with pytest.raises(Untrusted, match="checksum_policy is require"):
        expected(bucket, stored, policy="require", recorded=stored.sha256)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
@pytest.mark.parametrize("flags", [[], ["--binary"], ["--tag"]], ids=["text", "binary", "tag"])
@pytest.mark.parametrize("program", ["sha256sum", "sha512sum"])
def test_what_sha256sum_wrote_is_understood(
    host: Host, admin: S3Client, stored: Stored, tmp_path: Path, program: str, flags: list[str]
) -> None:
    name = stored.key.value.rpartition("/")[2]
    (tmp_path / name).write_bytes(stored.content)
    (tmp_path / "another.tar").write_bytes(b"another")
    said = subprocess.run([program, *flags, "another.tar", name], cwd=tmp_path, check=True, capture_output=True).stdout
    admin.put_object(Bucket=BUCKET, Key="sums", Body=said)
    fetched = host.fetch(stored, checksum="sums", policy="require")
    assert fetched.expected.trust is Trust.SIDECAR
    assert fetched.expected.digest == Digest(program[:6], hashlib.new(program[:6], stored.content).hexdigest())


def test_a_checksum_file_that_reports_another_digest_refuses_the_object(
    host: Host, admin: S3Client, stored: Stored
) -> None:
    admin.put_object(Bucket=BUCKET, Key="wrong.sha256", Body=OTHER.encode())
    with pytest.raises(Untrusted):
        host.fetch(stored, checksum="wrong.sha256")
    assert host.files() == []


def test_a_checksum_file_that_is_missing_is_no_first_use(host: Host, stored: Stored) -> None:
    with pytest.raises(BadInput, match=r"the checksum file nowhere\.sha256 does not exist in bucket"):
        host.fetch(stored, checksum="nowhere.sha256")


def test_a_checksum_file_of_another_bucket_is_found(bucket: Bucket, admin: S3Client, stored: Stored) -> None:
    admin.put_object(Bucket="public", Key="sums/one", Body=stored.sha256.encode())
    assert expected(bucket, stored, "s3://public/sums/one").trust is Trust.SIDECAR


def test_a_checksum_file_on_a_web_server_is_found(bucket: Bucket, stored: Stored, website: str, tmp_path: Path) -> None:
    (tmp_path / "sums").write_text(stored.sha256)
    assert expected(bucket, stored, f"{website}/sums?token=secret").digest == Digest("sha256", stored.sha256)


def test_a_web_server_without_the_checksum_file_is_reported_without_the_urls_query(
    bucket: Bucket, stored: Stored, website: str
) -> None:
    with pytest.raises(FlydError, match=r"the checksum file .*/sums\?\*\*\* does not exist \(HTTP 404\)") as caught:
        expected(bucket, stored, f"{website}/sums?token=secret")
    assert caught.value.kind is ErrorKind.BAD_INPUT
    assert "secret" not in f"{caught.value} {caught.value.hint} {caught.value.details}"


def test_a_page_instead_of_a_checksum_file_is_refused(
    bucket: Bucket, stored: Stored, website: str, tmp_path: Path
) -> None:
    (tmp_path / "sums").write_text("<!DOCTYPE html>\n<html>Please log in</html>\n")
    with pytest.raises(Untrusted, match="line 1 of the checksum file"):
        expected(bucket, stored, f"{website}/sums")


@pytest.mark.parametrize("place", ["ftp://host/sums", "https://user:password@host/sums", "https:///sums"])
def test_other_places_are_refused_without_a_password_in_the_message(bucket: Bucket, stored: Stored, place: str) -> None:
    with pytest.raises(BadInput, match="neither a digest nor a place") as caught:
        expected(bucket, stored, place)
    assert "password@" not in caught.value.msg
