# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and sizes are refused at the door, or are what they say."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from module_utils._errors import BadInput, ErrorKind
from module_utils._names import MAX_FILE_BYTES, Digest, ObjectKey, ShortName, Ulid, new_ulid, parse_bytes, printable

SHA256, SHA512 = "0123456789abcdef" * 4, "0123456789abcdef" * 8


def refusal_of(make: Callable[[], object]) -> BadInput:
    """The one clean error that ``make`` must end with: its message is one line that a terminal may show."""
    with pytest.raises(BadInput) as caught:
        make()
    error = caught.value
    assert error.kind is ErrorKind.BAD_INPUT
    assert not error.retryable
    assert error.hint
    assert error.msg.isprintable()
    assert len(error.msg) < 400
    return error


# Object keys


@pytest.mark.parametrize(
    "key",
    [
        "images/redis_latest.tar",
        "images/redis/",
        "a;rm -rf $HOME",
        "`reboot`",
        "{{ lookup('pipe', 'id') }}",
        "-rf",
        "--upload-file=x",
        "a..b/...c",
        "with spaces/and\u00a0more",
        "снимок/イメージ.tar",
        "a//b",
        "/etc/passwd",
        "/",
        "..",
        "../../etc/passwd",
        "images/./x",
        "a+b %20&c?d#e",
        "x" * 1024,
        "é" * 512,
    ],
)
def test_a_key_that_s3_allows_is_kept_to_the_letter(key: str) -> None:
    assert str(ObjectKey(key)) == key


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "is empty"),
        ("a\nb", "control character"),
        ("a\n", "control character"),
        ("a\rb", "control character"),
        ("a\0b", "control character"),
        ("\x1b[2Ja", "control character"),
        ("a\x7fb", "control character"),
        (os.fsdecode(b"a\xffb"), "not UTF-8"),
        ("x" * 1025, "is 1025 bytes long; S3 allows 1024"),
        ("x" * 2000, "is 2000 bytes long; S3 allows 1024"),
        ("é" * 513, "is 1026 bytes long; S3 allows 1024"),
    ],
)
def test_a_key_that_is_a_weapon_or_no_key_is_refused_with_the_reason(key: str, why: str) -> None:
    assert why in refusal_of(lambda: ObjectKey(key)).msg


def test_half_a_surrogate_pair_in_a_key_is_refused() -> None:
    refusal_of(lambda: ObjectKey("a\ud800b"))


def test_a_key_that_ends_in_a_slash_is_a_family() -> None:
    assert ObjectKey("images/redis/").is_family
    assert not ObjectKey("images/redis").is_family


# Digests


@pytest.mark.parametrize(
    ("text", "algorithm"),
    [
        (f"sha256:{SHA256}", "sha256"),
        (f"sha512:{SHA512}", "sha512"),
        (f"SHA256:{SHA256.upper()}", "sha256"),
        (f"  sha256:{SHA256}\n", "sha256"),
    ],
)
def test_a_digest_is_read_whatever_its_case(text: str, algorithm: str) -> None:
    digest = Digest.parse(text)
    assert (digest.algorithm, str(digest)) == (algorithm, text.strip().lower())


@pytest.mark.parametrize(
    "text",
    [
        "",
        SHA256,
        "sha256:",
        f"sha256:{SHA256[:-1]}",
        f"sha256:{SHA256}0",
        f"sha256:{SHA512}",
        f"sha512:{SHA256}",
        f"md5:{SHA256[:32]}",
        f"sha1:{SHA256[:40]}",
        f":{SHA256}",
        f"sha256:{'g' * 64}",
        f"sha256:{'٣' * 64}",
        f"sha256:{SHA256[:-1]}\n",
        f"sha256:{SHA256[:-3]}../",
        "sha256:" + "0" * 10_000,
        "sha256:\x1b[2J" + "0" * 60,
    ],
)
def test_what_is_no_digest_is_refused_and_named(text: str) -> None:
    assert refusal_of(lambda: Digest.parse(text, what="checksum")).msg.startswith("checksum ")


def test_digests_of_the_same_bytes_are_equal() -> None:
    assert Digest.parse(f"SHA256:{SHA256.upper()}") == Digest.parse(f"sha256:{SHA256}")


# ULIDs


@pytest.mark.parametrize("text", ["01J9Z3M4N5P6Q7R8S9T0V1W2X3", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "0" * 26])
def test_a_ulid_is_kept(text: str) -> None:
    assert str(Ulid(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "01J9Z3M4N5P6Q7R8S9T0V1W2X",
        "01J9Z3M4N5P6Q7R8S9T0V1W2X33",
        "01j9z3m4n5p6q7r8s9t0v1w2x3",
        "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
        "01J9Z3M4N5P6Q7R8S9T0V1W2XI",
        "01J9Z3M4N5P6Q7R8S9T0V1W2XL",
        "01J9Z3M4N5P6Q7R8S9T0V1W2XO",
        "01J9Z3M4N5P6Q7R8S9T0V1W2XU",
        "01J9Z3M4N5P6Q7R8S9T0V1W2X3\n",
        "01J9Z3M4N5P6Q7R8S9T0V1W/.3",
    ],
)
def test_what_is_no_ulid_is_refused(text: str) -> None:
    refusal_of(lambda: Ulid(text))


def test_new_ulids_are_ulids_and_never_twice_the_same() -> None:
    pytest.importorskip("ulid")
    assert len({new_ulid().value for _ in range(1000)}) == 1000


# Names that an operator gives


@pytest.mark.parametrize("name", ["pool", "a", "0", "web-1.blue_2", "x" * 63])
def test_a_short_name_is_kept(name: str) -> None:
    assert str(ShortName(name)) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-rf",
        ".hidden",
        "_x",
        "..",
        "a/b",
        "a b",
        "a\n",
        "\na",
        "a\0b",
        "é",
        "٣",
        "x" * 64,
        "x" * 2000,
        "$(id)",
        "a;b",
    ],
)
def test_what_cannot_be_part_of_a_device_name_is_refused(name: str) -> None:
    refusal_of(lambda: ShortName(name))


# Sizes


@pytest.mark.parametrize(
    ("text", "expected_bytes"),
    [
        ("1", 1),
        ("1048576", 1 << 20),
        ("4K", 4 << 10),
        ("512M", 512 << 20),
        ("2G", 2 << 30),
        ("2g", 2 << 30),
        ("2GiB", 2 << 30),
        ("2GB", 2 << 30),
        ("3T", 3 << 40),
        ("1P", 1 << 50),
        (" 10 M ", 10 << 20),
        ("1.5G", 3 << 29),
        (".5K", 512),
        ("7 b", 7),
        ("1 Gigabyte", 1 << 30),
        ("0.001E", 1152921504606847),
    ],
)
def test_a_size_is_read_in_units_of_1024(text: str, expected_bytes: int) -> None:
    assert parse_bytes(text, what="data_size") == expected_bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0G",
        "-1",
        "-2G",
        "+2G",
        "1.5.5G",
        "1.G",
        "0.0001K",
        "1Mb",
        "1 megabytes",
        "1e9",
        "2X",
        "G",
        "2 G G",
        "0x10",
        "٣",
        "2G\0",
        "1\n2",
        "9" * 16,
        "9" * 2000,
    ],
)
def test_what_is_no_size_is_refused_and_named(text: str) -> None:
    assert refusal_of(lambda: parse_bytes(text, what="data_size")).msg.startswith("data_size ")


@pytest.mark.parametrize("number", ["1", "10", "1.5", ".75", "0.25", "15.", "x"])
@pytest.mark.parametrize(
    "unit", [*"BKMGTPEZYbkmgtpezy", "", "KB", "MB", "Gb", "tb", "KILOBYTE", "megabyte", "byte", "GiB", "X", "Kx"]
)
def test_a_size_is_read_as_ansible_reads_one(number: str, unit: str) -> None:
    formatters = pytest.importorskip(
        "ansible.module_utils.common.text.formatters", reason="ansible-core is not installed"
    )
    try:
        expected = formatters.human_to_bytes(number + unit)
    except ValueError:
        expected = 0
    if unit == "GiB" or expected > MAX_FILE_BYTES:
        return
    if expected:
        assert parse_bytes(number + unit, what="size") == expected
    else:
        refusal_of(lambda: parse_bytes(number + unit, what="size"))


def test_a_size_beyond_what_a_file_can_have_is_refused() -> None:
    refusal_of(lambda: parse_bytes("999999999999999P", what="data_size"))


# What is shown of what cannot be trusted


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"plain name", "plain name"),
        ("grün", "grün"),
        (b"gr\xc3\xbcn", "grün"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"line\nline", r"line\nline"),
        (b"\x1b[2J\x1b[31m", r"\x1b[2J\x1b[31m"),
        (b"nul\0byte", r"nul\x00byte"),
        ("right\u202eleft", r"right\u202eleft"),
        ("next\u2028line\x85", r"next\u2028line\x85"),
        ("\ud800", r"\ud800"),
        (b"back\\slash", r"back\\slash"),
    ],
)
def test_what_is_shown_is_one_line_without_control_characters(raw: bytes | str, shown: str) -> None:
    assert printable(raw) == shown


def test_two_different_names_are_never_shown_alike() -> None:
    assert printable(b"\n") != printable(b"\\n")
    assert printable(b"\xff") != printable(b"\\xff")


@pytest.mark.parametrize("raw", [b"a" * 10_000, b"\n" * 10_000, b"\xff" * 10_000, b"\xff" * 100])
def test_what_is_shown_is_bounded(raw: bytes) -> None:
    assert len(printable(raw)) == 201
    assert printable(raw).endswith("…")
    assert len(printable(raw, 20)) == 21
