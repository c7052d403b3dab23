"""What S3 announces, and answers that are about something else."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import pytest

from module_utils._errors import FlydError, Transient, Unsupported, Untrusted
from module_utils._source.objects import ObjectInfo, announced, check_answer
from module_utils._source.s3_errors import ObjectChanged, RangesRefused, Where

WHERE = Where("https://s3.example.net", "images", "archive.tar")
INFO = ObjectInfo("archive.tar", 1000, '"etag"')
SUM = hashlib.sha256(b"content")
WHOLE_SUM = base64.b64encode(SUM.digest()).decode()


def head(**fields: Any) -> ObjectInfo:
    return announced("archive.tar", {"ETag": '"etag"', "ContentLength": 1000, **fields}, WHERE)


def test_size_etag_and_version_are_taken() -> None:
    assert head(VersionId="v1") == ObjectInfo("archive.tar", 1000, '"etag"', "v1", "")
    assert head(VersionId="null").version_id == "", "a bucket without versions calls every version null"


@pytest.mark.parametrize(
    ("fields", "taken"),
    [
        ({"ChecksumSHA256": WHOLE_SUM, "ChecksumType": "FULL_OBJECT"}, True),
        ({"ChecksumSHA256": WHOLE_SUM}, True),
        ({"ChecksumSHA256": WHOLE_SUM, "ChecksumType": "COMPOSITE"}, False),
        ({"ChecksumSHA256": WHOLE_SUM + "-2", "ChecksumType": "COMPOSITE"}, False),
        ({"ChecksumSHA256": WHOLE_SUM + "-2"}, False),
        ({"ChecksumSHA256": WHOLE_SUM, "ETag": '"etag-2"'}, False),
        ({"ChecksumSHA256": "c2hvcnQ=", "ChecksumType": "FULL_OBJECT"}, False),
        ({"ChecksumSHA256": "no base64!", "ChecksumType": "FULL_OBJECT"}, False),
        ({"ChecksumCRC64NVME": "AAAAAAAAAAA=", "ChecksumType": "FULL_OBJECT"}, False),
    ],
)
def test_only_a_sha256_of_the_whole_object_is_taken(fields: dict[str, Any], taken: bool) -> None:
    assert head(**fields).sha256 == (SUM.hexdigest() if taken else "")


@pytest.mark.parametrize("fields", [{"ContentLength": None}, {"ContentLength": -1}])
def test_a_head_without_what_is_needed_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(Unsupported):
        head(**fields)


def answer(**fields: Any) -> dict[str, Any]:
    return {"ETag": '"etag"', "ContentLength": 10, "ContentRange": "bytes 10-19/1000", **fields}


@pytest.mark.parametrize(
    "fields",
    [{}, {"ContentRange": "bytes 10-19/*"}, {"ContentLength": None}],
    ids=["all", "unknown total", "no length"],
)
def test_an_answer_about_the_asked_bytes_is_taken(fields: dict[str, Any]) -> None:
    check_answer(answer(**fields), INFO, 10, 19, WHERE)


def test_a_whole_object_needs_no_range() -> None:
    check_answer({"ETag": '"etag"', "ContentLength": 1000}, INFO, 0, 999, WHERE)


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"ETag": '"other"'}, ObjectChanged),
        ({"ContentRange": ""}, RangesRefused),
        ({"ContentRange": "bytes 11-20/1000"}, Untrusted),
        ({"ContentRange": "bytes 10-18/1000"}, Untrusted),
        ({"ContentRange": "bytes 10-19/1001"}, Untrusted),
        ({"ContentRange": "bytes 10-19/10000"}, Untrusted),
        ({"ContentRange": "10-19"}, Untrusted),
        ({"ContentLength": 11}, Untrusted),
        ({"ContentLength": 9}, Transient),
    ],
)
def test_an_answer_about_anything_else_is_refused(fields: dict[str, Any], refusal: type[FlydError]) -> None:
    with pytest.raises(refusal) as caught:
        check_answer(answer(**fields), INFO, 10, 19, WHERE)
    assert type(caught.value) is refusal
