# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names and sizes, parsed at the door.

Invariant: an object of one of these types is valid; whoever holds one checks nothing again. An object key never becomes
the name of a file or a device: those are made of ULIDs and digests only.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ._errors import BadInput, MissingLibrary

MAX_FILE_BYTES = (1 << 63) - 1  # off_t
MAX_KEY_BYTES = 1024  # S3: "object key names", UTF-8 bytes
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")
_SHORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_SIZE = re.compile(r"([0-9]{1,15})\s*([KMGTPkmgtp]?)(i?[bB])?")
_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
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
        """Raises ``BadInput`` for what no key can be, or no file system should meet."""
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
    if any(part in (".", "..") for part in value.split("/")):
        return "has a `.` or `..` component"
    if value.startswith("/"):
        return "begins with a slash"
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
                hint="copy the digest whole, with its algorithm in front",
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
                hint="a ULID has 26 characters, such as 01J9Z3M4N5P6Q7R8S9T0V1W2X3",
            )
        return super().__new__(cls, value)


def new_ulid() -> Ulid:
    """A new ULID; raises ``MissingLibrary`` when python-ulid is not installed."""
    try:
        from ulid import ULID
    except ImportError:
        raise MissingLibrary("ulid", "python-ulid") from None
    return Ulid(str(ULID()))


class ShortName(_Name):
    """A name that an operator gives to a pool or a snapshot: 1 to 63 letters, digits, ``_ . -``, not first a sign."""

    __slots__ = ()

    def __new__(cls, value: str) -> ShortName:
        """Raises ``BadInput`` for a name that is none of these."""
        if not _SHORT_NAME.fullmatch(value):
            raise BadInput(
                f"the name {printable(value)!r} cannot be used",
                hint="use 1 to 63 letters, digits, underscores, dots and hyphens, beginning with a letter or a digit",
            )
        return super().__new__(cls, value)


def parse_bytes(text: str, *, what: str) -> int:
    """Bytes from ``2G``, ``512M``, ``1048576``: units of 1024. Raises ``BadInput`` that names ``what``."""
    match = _SIZE.fullmatch(text.strip())
    if not match or int(match[1]) == 0:
        raise BadInput(
            f"{what} is {printable(text)!r}, which is no size above zero",
            hint="write a number with K, M, G or T, for example 512M",
        )
    size_bytes = int(match[1]) * _SIZE_UNITS[match[2].upper()]
    if size_bytes > MAX_FILE_BYTES:
        raise BadInput(
            f"{what} is {printable(text)!r}, which is more than any file can have",
            hint="write a size below 8E, for example 512M",
        )
    return size_bytes
