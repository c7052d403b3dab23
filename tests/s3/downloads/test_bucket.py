"""What a bucket says of its objects, asked of a real server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from module_utils._errors import BadInput, ErrorKind, FlydError, Transient
from module_utils._names import ObjectKey
from module_utils._source.s3.bucket import Bucket, ObjectChanged, ObjectInfo, S3Options
from tests.faults import kinds
from tests.faults.proxy import FaultProxy
from tests.s3.conftest import Stored
from tests.s3.server import BUCKET, PUBLIC_BUCKET

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

Store = Callable[..., Stored]
PART_BYTES = 5 << 20  # the least that S3 takes for a part


def read_all(bucket: Bucket, info: ObjectInfo, first: int = 0, last: int | None = None) -> bytes:
    with bucket.open(info, first, last) as body:
        return b"".join(iter(lambda: body.read(1000), b""))


def upload_in_parts(admin: S3Client, key: str, *parts: bytes) -> None:
    upload = admin.create_multipart_upload(Bucket=BUCKET, Key=key, ChecksumAlgorithm="SHA256")["UploadId"]
    done: list[Any] = []
    for number, part in enumerate(parts, 1):
        answer = admin.upload_part(
            Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=number, Body=part, ChecksumAlgorithm="SHA256"
        )
        done.append({"ETag": answer["ETag"], "PartNumber": number, "ChecksumSHA256": answer["ChecksumSHA256"]})
    admin.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": done})


def test_head_is_one_request_and_reports_size_and_etag(bucket: Bucket, proxy: FaultProxy, store: Store) -> None:
    stored = store(12_345)
    info = bucket.head(stored.key)
    assert (info.key, info.size_bytes, info.sha256, info.version_id) == (stored.key.value, 12_345, "", "")
    assert info.etag.startswith('"')
    assert [one.request.method for one in proxy.seen] == ["HEAD"]


def test_the_sha256_of_the_whole_object_is_taken(bucket: Bucket, admin: S3Client) -> None:
    admin.put_object(Bucket=BUCKET, Key="summed", Body=b"content", ChecksumAlgorithm="SHA256")
    assert bucket.head(ObjectKey("summed")).sha256 == hashlib.sha256(b"content").hexdigest()


def test_the_composite_sha256_of_a_multipart_upload_is_not_taken(bucket: Bucket, admin: S3Client) -> None:
    upload_in_parts(admin, "parts", bytes(PART_BYTES), b"rest")
    answer = admin.head_object(Bucket=BUCKET, Key="parts", ChecksumMode="ENABLED")
    assert answer["ChecksumType"] == "COMPOSITE"
    assert bucket.head(ObjectKey("parts")).sha256 == ""


@pytest.mark.parametrize(("first", "last"), [(0, None), (0, 0), (10, 19), (999, 999), (1, None)])
def test_the_bytes_asked_for_are_the_bytes_that_come(
    bucket: Bucket, store: Store, first: int, last: int | None
) -> None:
    stored = store(1000)
    end = 1000 if last is None else last + 1
    assert read_all(bucket, bucket.head(stored.key), first, last) == stored.content[first:end]


def test_a_connection_is_used_again_once_its_answer_was_read(bucket: Bucket, proxy: FaultProxy, store: Store) -> None:
    info = bucket.head(store(1000).key)
    before = set(proxy.lines)
    for _ in range(3):
        read_all(bucket, info)
    assert set(proxy.lines) == before


def test_an_object_that_was_replaced_is_not_read(bucket: Bucket, store: Store) -> None:
    stored = store(1000)
    info = bucket.head(stored.key)
    stored.replace(stored.content[::-1])
    with pytest.raises(ObjectChanged):
        bucket.open(info)


def test_an_object_with_a_version_is_read_as_that_version(versioned: str, options: S3Options, admin: S3Client) -> None:
    admin.put_object(Bucket=versioned, Key="archive", Body=b"first")
    with Bucket(replace(options, bucket=versioned)) as bucket:
        info = bucket.head(ObjectKey("archive"))
        assert info.version_id
        admin.put_object(Bucket=versioned, Key="archive", Body=b"other")
        assert read_all(bucket, info) == b"first"
        assert bucket.head(ObjectKey("archive")).version_id != info.version_id


def test_a_family_is_in_natural_order_without_its_checksum_files(bucket: Bucket, admin: S3Client) -> None:
    for name in ("10.tar", "9.tar", "1.tar", "1.tar.sha256", ""):
        admin.put_object(Bucket=BUCKET, Key=f"family/{name}", Body=b"")
    admin.put_object(Bucket=BUCKET, Key="family2/1.tar", Body=b"")
    found = bucket.list_family(ObjectKey("family/"))
    assert [one.key for one in found] == ["family/1.tar", "family/9.tar", "family/10.tar"]


def test_a_family_of_nothing_is_refused(bucket: Bucket) -> None:
    with pytest.raises(BadInput, match="there is no object under nothing/"):
        bucket.list_family(ObjectKey("nothing/"))


def test_a_small_object_is_read_whole_and_a_large_one_refused(bucket: Bucket, store: Store) -> None:
    stored = store(1000)
    assert bucket.read_small(stored.key, 1000) == stored.content
    with pytest.raises(BadInput, match="at most 999"):
        bucket.read_small(stored.key, 999)


def refused_by(options: S3Options, key: str = "nothing-here") -> FlydError:
    with Bucket(options) as bucket, pytest.raises(FlydError) as caught:
        bucket.head(ObjectKey(key))
    return caught.value


WRONG_OPTIONS: list[tuple[str, dict[str, object], ErrorKind, str]] = [
    ("key", {}, ErrorKind.BAD_INPUT, "NoSuchKey"),
    ("bucket", {"bucket": "no-such-bucket"}, ErrorKind.BAD_INPUT, "NoSuchBucket"),
    ("secret", {"secret_key": "wrong"}, ErrorKind.BAD_INPUT, "SignatureDoesNotMatch"),
    ("key id", {"access_key": "UNKNOWN"}, ErrorKind.BAD_INPUT, "InvalidAccessKeyId"),
    ("nobody", {"access_key": "", "secret_key": "", "anonymous": True}, ErrorKind.BAD_INPUT, "AccessDenied"),
    ("port", {"endpoint_url": "http://127.0.0.1:9"}, ErrorKind.TRANSIENT, "EndpointConnectionError"),
    ("TLS", {"endpoint_url": "https"}, ErrorKind.BAD_INPUT, ""),
]


@pytest.mark.parametrize(
    ("wrong", "kind", "code"), [row[1:] for row in WRONG_OPTIONS], ids=[row[0] for row in WRONG_OPTIONS]
)
def test_what_is_wrong_with_the_options_is_reported(
    options: S3Options, s3_port: int, wrong: dict[str, Any], kind: ErrorKind, code: str
) -> None:
    if wrong.get("endpoint_url") == "https":
        wrong = {"endpoint_url": f"https://127.0.0.1:{s3_port}"}
    error = refused_by(replace(options, **wrong))
    assert (error.kind, error.retryable) == (kind, kind is ErrorKind.TRANSIENT)
    assert error.details.get("code", "") == code
    assert error.hint


def test_a_public_bucket_is_read_without_credentials(options: S3Options, store: Store) -> None:
    stored = store(10, PUBLIC_BUCKET)
    nobody = replace(options, bucket=PUBLIC_BUCKET, access_key="", secret_key="", anonymous=True)
    with Bucket(nobody) as bucket:
        assert read_all(bucket, bucket.head(stored.key)) == stored.content


@pytest.mark.usefixtures("bare_environment")
def test_missing_credentials_are_reported(options: S3Options) -> None:
    error = refused_by(replace(options, access_key="", secret_key=""))
    assert (error.kind, error.details["code"]) == (ErrorKind.BAD_INPUT, "NoCredentials")


@pytest.mark.usefixtures("bare_environment")
def test_a_profile_that_does_not_exist_is_reported(options: S3Options) -> None:
    error = refused_by(replace(options, access_key="", secret_key="", profile="nobody"))
    assert (error.kind, error.details["code"]) == (ErrorKind.BAD_INPUT, "ProfileNotFound")


@pytest.mark.usefixtures("bare_environment")
def test_credentials_of_the_environment_are_used(
    options: S3Options, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options.secret_key)
    with Bucket(replace(options, access_key="", secret_key="")) as bucket:
        assert bucket.head(store(10).key).size_bytes == 10


def test_the_bucket_is_asked_in_its_own_region_when_the_operator_left_it_open(
    options: S3Options, proxy: FaultProxy, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    stored = store(10)
    elsewhere = kinds.refused(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-north-1"})
    proxy.plan(elsewhere, method="HEAD")
    proxy.plan(elsewhere)
    with Bucket(replace(options, region="")) as bucket:
        assert bucket.head(stored.key).size_bytes == 10
    assert [one.request.method for one in proxy.seen] == ["HEAD", "GET", "HEAD"]
    assert "/eu-north-1/s3/" in proxy.seen[-1].request.headers["authorization"]


def test_a_redirect_without_end_is_not_followed(bucket: Bucket, proxy: FaultProxy, store: Store) -> None:
    key = store(10).key
    for method in ("HEAD", "GET"):
        proxy.plan(kinds.refused(307, headers={"location": proxy.url}), method=method, times=-1)
    with pytest.raises(BadInput):
        bucket.head(key)
    assert len(proxy.seen) == 2


def test_an_answer_that_is_no_xml_is_no_traceback(bucket: Bucket, proxy: FaultProxy, store: Store) -> None:
    key = store(10).key
    proxy.plan(kinds.refused(502, "</Code>]]><html>"))
    proxy.plan(kinds.refused(400), method="HEAD")
    with pytest.raises(Transient):
        bucket.head(key)
