# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and sizes, parsed at the door.

Invariant: an object of one of these types is valid; code that has one checks nothing again. An object key never becomes
the name of a file or a device: those are made of ULIDs and digests only.
"""

from __future__ import annotations

import os
import re
import time
from typing import NamedTuple

from ._errors import BadInput, MissingLibrary

MAX_FILE_BYTES = (1 << 63) - 1  # off_t
MAX_KEY_BYTES = 1024  # S3: "object key names", UTF-8 bytes
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_SHORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
# As Ansible's human_to_bytes has it, and KiB beside: a lower-case b behind a prefix would be bits.
_SIZE = re.compile(
    r"([0-9]{1,15}|[0-9]{0,15}\.[0-9]{1,15})\s*(?:([KMGTPEZYkmgtpezy]?)(B|iB)?|b|(?i:(kilo|mega|giga|tera|peta|exa|zetta|yotta)?byte))"
)
_SIZE_UNITS = {unit: 1 << 10 * power for power, unit in enumerate(("", *"KMGTPEZY"))}
_ULID_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_DIGEST_HEX_LENGTH = {"sha256": 64, "sha512": 128}


def printable(raw: bytes | str, limit: int = 200) -> str:
    """``raw`` for logs and messages: one line, no control characters, at most ``limit`` characters and an ellipsis."""
    text = raw.decode("utf-8", "surrogateescape") if isinstance(raw, bytes) else raw
    joined = "".join(_printable_char(char) for char in text[:limit])
    return joined if len(text) <= limit and len(joined) <= limit else joined[:limit] + "…"


def _printable_char(char: str) -> str:
    if 0xDC80 <= ord(char) <= 0xDCFF:  # a byte that was no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    if char == "\\":
        return "\\\\"
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


class _Name(NamedTuple):
    value: str

    def __str__(self) -> str:
        return self.value


class ObjectKey(_Name):
    """The key of an object in S3, or of a family of objects when it ends in ``/``."""

    __slots__ = ()

    def __new__(cls, value: str) -> ObjectKey:
        """Raises ``BadInput`` for what no key can be."""
        problem = _key_problem(value, value.encode("utf-8", "surrogatepass"))
        if problem:
            raise BadInput(
                f"the object key {printable(value)!r} {problem}",
                hint="give the key as the bucket lists it, for example images/redis_latest.tar",
            )
        return super().__new__(cls, value)

    @property
    def is_family(self) -> bool:
        """Whether the key names the objects under it, each of them one layer."""
        return self.value.endswith("/")


def _key_problem(value: str, raw: bytes) -> str:
    if not value:
        return "is empty"
    if len(raw) > MAX_KEY_BYTES:
        return f"is {len(raw)} bytes long; S3 allows {MAX_KEY_BYTES}"
    if any(ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) <= 0xDFFF for char in value):
        return "holds a control character or is not UTF-8"
    return ""


class Digest(NamedTuple):
    """A content digest, ``sha256:<64 hex>`` or ``sha512:<128 hex>`` (OCI image-spec, descriptor digests)."""

    algorithm: str
    hex: str

    @classmethod
    def parse(cls, text: str, *, what: str = "the digest") -> Digest:
        """Parse ``algorithm:hex``; raises ``BadInput`` that names ``what`` it was."""
        algorithm, _colon, value = text.strip().partition(":")
        digest = cls(algorithm.lower(), value.lower())
        if len(value) != _DIGEST_HEX_LENGTH.get(digest.algorithm, -1) or not re.fullmatch(r"[0-9a-f]+", digest.hex):
            raise BadInput(
                f"{what} {printable(text)!r} is not sha256:<64 hex digits> or sha512:<128 hex digits>",
                hint="copy the whole digest, with its algorithm in front, into checksum",
            )
        return digest

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class Ulid(_Name):
    """A ULID in canonical form: 26 characters of Crockford's base 32. A name, never a thin id."""

    __slots__ = ()

    def __new__(cls, value: str) -> Ulid:
        """Raises ``BadInput`` for anything else."""
        if not _ULID.fullmatch(value):
            raise BadInput(
                f"{printable(value)!r} is not a ULID",
                hint="a ULID has 26 characters, such as 01J9Z3M4N5P6Q7R8S9T0V1W2X3: see flyd_info",
            )
        return super().__new__(cls, value)


def new_ulid() -> Ulid:
    """A new ULID; raises ``MissingLibrary`` when python-ulid is not installed."""
    try:
        from ulid import ULID
    except ImportError:
        raise MissingLibrary("ulid", "python-ulid") from None
    return Ulid(str(ULID()))


def new_run_id() -> Ulid:
    """A ULID for a run. Every run has one, also where python-ulid is missing and where there is nothing to do, so no package makes it."""
    number = int(time.time() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    return Ulid("".join(_ULID_DIGITS[number >> 5 * place & 31] for place in reversed(range(26))))


class ShortName(_Name):
    """A name that an operator gives to a pool or a snapshot: 1 to 63 letters, digits, ``_ . -``, not first a sign."""

    __slots__ = ()

    def __new__(cls, value: str) -> ShortName:
        """Raises ``BadInput`` for any other name."""
        if not _SHORT_NAME.fullmatch(value):
            raise BadInput(
                f"the name {printable(value)!r} cannot be used",
                hint="give a name of 1 to 63 letters, digits, underscores, dots and hyphens, beginning with a letter or a digit",
            )
        return super().__new__(cls, value)


def parse_bytes(text: str, *, what: str) -> int:
    """Bytes from ``2G``, ``1.5 GB``, ``512MiB``, ``1048576``: units of 1024. Raises ``BadInput`` that names ``what``."""
    match = _SIZE.fullmatch(text.strip())
    size_bytes = _bytes_of(match[1], (match[2] or (match[4] or "")[:1]).upper()) if match else 0
    if size_bytes == 0:
        raise BadInput(
            f"{what} is {printable(text)!r}, which is not a size above zero",
            hint=f"write {what} as a number with K, M, G or T, for example 512M",
        )
    if size_bytes > MAX_FILE_BYTES:
        raise BadInput(
            f"{what} is {printable(text)!r}, which is more than any file can have",
            hint=f"write a smaller {what}, for example 512M",
        )
    return size_bytes


_UNITS = ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB"))


def option_size(size_bytes: int) -> str:
    """A size as an option takes it, in the largest unit that leaves nothing: "4G", "320M", "1000"."""
    for shift, unit in ((40, "T"), (30, "G"), (20, "M"), (10, "K")):
        if size_bytes and not size_bytes % (1 << shift):
            return f"{size_bytes >> shift}{unit}"
    return str(size_bytes)


def size_text(size_bytes: int) -> str:
    """A size for messages, rounded, in the largest unit of 1024 that it fills: "255 MiB", "1.5 GiB", "12 bytes"."""
    for shift, unit in _UNITS:
        if size_bytes >= 1 << shift:
            return f"{size_bytes / (1 << shift):.1f}".removesuffix(".0") + f" {unit}"
    return "1 byte" if size_bytes == 1 else f"{size_bytes} bytes"


def exact_size_text(size_bytes: int) -> str:
    """The same where every byte counts: in the largest unit that needs no rounding."""
    for shift, unit in _UNITS:
        if size_bytes >= 1 << shift and not size_bytes * 10 % (1 << shift):
            return (
                size_text(size_bytes)
                if size_bytes < 1 << (shift + 10)
                else f"{size_bytes / (1 << shift):.1f}".removesuffix(".0") + f" {unit}"
            )
    return "1 byte" if size_bytes == 1 else f"{size_bytes} bytes"


def _bytes_of(number: str, unit: str) -> int:
    """``number`` of ``unit``, exactly, rounded to a byte."""
    whole, _point, part = number.partition(".")
    scale: int = 10 ** len(part)
    return (2 * int(whole + part) * _SIZE_UNITS[unit] + scale) // (2 * scale)
