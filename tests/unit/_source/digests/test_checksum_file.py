"""Checksum files: every known form is understood, and no other is guessed at."""

from __future__ import annotations

import pytest

from module_utils._errors import Untrusted
from module_utils._names import Digest
from module_utils._source.digests.checksum_file import Entry, find_digest, parse

ONE, TWO, LONG = "1" * 64, "2" * 64, "a" * 128
KEY = "images/redis_latest.tar"
FOUND = [
    (f"{ONE}  redis_latest.tar\n", ONE),
    (f"{ONE} *redis_latest.tar\n", ONE),
    (f"{ONE}  ./redis_latest.tar\r\n", ONE),
    (f"{ONE}  images/redis_latest.tar", ONE),
    (f"{ONE}  /home/builder/out/redis_latest.tar", ONE),
    (f"SHA256 (redis_latest.tar) = {ONE}\n", ONE),
    (ONE, ONE),
    (f"{ONE.upper()}\n", ONE),
    (f"sha256:{ONE}\n", ONE),
    (f"sha256:{ONE}  redis_latest.tar\n", ONE),
    (f"\ufeff{ONE}\n", ONE),
    (f"# checksums\n\n{TWO}  other.tar\n{ONE}  redis_latest.tar\n", ONE),
    (f"{ONE}  redis_latest.tar\n{ONE}  images/redis_latest.tar\n", ONE),
    (f"{LONG}  redis_latest.tar\n{ONE}  redis_latest.tar\n", ONE),
]
REFUSED = [
    ("", "names nothing"),
    (f"{TWO}  other.tar\n", r"it names other\.tar"),
    (f"{ONE}\n{TWO}\n", "names nothing"),
    (f"{ONE}  redis_latest.tar\n{TWO}  ./redis_latest.tar\n", "several digests"),
    (f"{ONE[:-1]}  redis_latest.tar\n", "line 1"),
    (f"{ONE}  redis_latest.tar\n<html>\n", "line 2"),
    (f"SHA512 (redis_latest.tar) = {ONE}\n", "line 1"),
    (f"MD5 (redis_latest.tar) = {ONE[:32]}\n", "line 1"),
    (f"sha512:{ONE}\n", "line 1"),
]


@pytest.mark.parametrize(("content", "found"), FOUND)
def test_the_digest_of_the_archive_is_found(content: str, found: str) -> None:
    assert find_digest(content.encode(), KEY, where="the file") == Digest("sha256", found)


@pytest.mark.parametrize(("content", "says"), REFUSED)
def test_a_file_that_does_not_tell_one_digest_of_the_archive_is_refused(content: str, says: str) -> None:
    with pytest.raises(Untrusted, match=says):
        find_digest(content.encode(), KEY, where="the file")


def test_a_sha512_is_taken_when_there_is_nothing_else() -> None:
    assert find_digest(f"{LONG}  redis_latest.tar".encode(), KEY, where="the file") == Digest("sha512", LONG)


def test_escaped_names_are_read_as_sha256sum_writes_them() -> None:
    line = f"\\{ONE}  a\\\\b\\nc\n"
    assert parse(line.encode(), where="the file") == [Entry(Digest("sha256", ONE), "a\\b\nc")]


def test_bytes_that_are_no_text_are_refused_in_one_printable_line() -> None:
    with pytest.raises(Untrusted) as caught:
        parse(b"\x1f\x8b\x08\x00\xff\n", where="the file")
    assert caught.value.msg.isprintable()
