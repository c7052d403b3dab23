"""Digest trust levels: the part that sends no request."""

from __future__ import annotations

import pytest

from module_utils._errors import BadInput, Untrusted
from module_utils._names import Digest, ObjectKey
from module_utils._source.digests.checksum import ChecksumPolicy, Expected, Trust, is_pinned, resolve
from module_utils._source.options import S3Options
from module_utils._source.s3.bucket import Bucket, ObjectInfo

ONE, TWO = "1" * 64, "2" * 64
BUCKET = Bucket(S3Options(bucket="images"))
KEY = ObjectKey("archive.tar")


def expected(checksum: str = "", *, own: str = "", recorded: str = "", policy: str = "first_use") -> Expected:
    info = ObjectInfo(KEY.value, 10, f'"{TWO[:32]}"', sha256=own)
    return resolve(BUCKET, info, KEY, checksum, ChecksumPolicy(policy), recorded_sha256=recorded)


def test_the_operators_word_comes_first() -> None:
    assert expected(f" sha256:{ONE} ", own=ONE, recorded=TWO) == Expected(Digest("sha256", ONE), Trust.PINNED)


def test_the_objects_own_digest_comes_before_the_recorded_one() -> None:
    assert expected(own=ONE, recorded=TWO) == Expected(Digest("sha256", ONE), Trust.OBJECT)


def test_an_etag_is_never_a_digest() -> None:
    assert expected() == Expected(None, Trust.FIRST_USE)


def test_a_contradiction_is_reported_before_the_download() -> None:
    with pytest.raises(Untrusted) as caught:
        expected(f"sha256:{ONE}", own=TWO)
    assert caught.value.details == {"expected": f"sha256:{ONE}", "found": f"sha256:{TWO}"}


def test_digests_of_two_kinds_do_not_contradict_each_other() -> None:
    assert expected(f"sha512:{ONE * 2}", own=TWO).digest == Digest("sha512", ONE * 2)


def test_require_refuses_first_use_even_when_a_digest_was_recorded() -> None:
    with pytest.raises(Untrusted):
        expected(recorded=ONE, policy="require")


@pytest.mark.parametrize("checksum", ["sha256:12", f"sha256:{ONE}0", f"sha512:{ONE}", "SHA256:"])
def test_a_digest_that_is_none_is_refused_and_not_taken_for_a_file(checksum: str) -> None:
    assert is_pinned(checksum)
    with pytest.raises(BadInput):
        expected(checksum)


def test_a_bare_digest_is_not_taken_for_the_name_of_a_file() -> None:
    with pytest.raises(BadInput, match="without its algorithm"):
        expected(ONE)
