# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the bytes of an object must be, and on whose word.

Invariant: a digest that was asked for is never weakened: when the operator names one, nothing else is looked at, and when the
policy is ``require``, there is one or there is no download. An ETag is never a hash.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from .._errors import BadInput, Untrusted
from .._names import Digest, ObjectKey, printable
from .options import S3Options
from .s3 import Bucket, ObjectInfo
from .sidecar import MAX_SIDECAR_BYTES, find_digest
from .trust import ChecksumPolicy, Trust, is_pinned
from .web import read_url, without_query

__all__ = [
    "ChecksumPolicy",
    "Expected",
    "Trust",
    "expect",
    "is_pinned",
    "no_digest",
    "read_sidecar",
    "refuse_contradiction",
    "resolve",
]


@dataclass(frozen=True)
class Expected:
    """The digest that the bytes must have; ``None`` only when ``trust`` is ``first_use`` and nothing was recorded yet."""

    digest: Digest | None
    trust: Trust

    @property
    def sha256(self) -> str:
        """The digest in hex when it is a SHA-256, else empty."""
        return self.digest.hex if self.digest and self.digest.algorithm == "sha256" else ""


def resolve(
    bucket: Bucket,
    info: ObjectInfo,
    key: ObjectKey,
    checksum_option: str,
    policy: ChecksumPolicy,
    *,
    recorded_sha256: str = "",
) -> Expected:
    """What ``info`` must hash to.

    ``checksum_option`` is empty, ``sha256:…``, or names a checksum file: a key of the same bucket, ``s3://bucket/key``, ``https://…``
    or ``http://…``. ``recorded_sha256`` is the digest (hex, or empty) of an earlier download of this very object (same ETag).
    Raises ``Untrusted`` when the digest asked for contradicts the object's own, or when there is none and ``policy`` requires one.
    """
    option = checksum_option.strip()
    if option:
        trust = Trust.PINNED if is_pinned(option) else Trust.SIDECAR
        if trust is Trust.PINNED:
            digest = Digest.parse(option, what="checksum")
        else:
            content, where = read_sidecar(bucket, option)
            digest = find_digest(content, key.value, where=where)
        refuse_contradiction(info, digest, trust)
        return Expected(digest, trust)
    if info.sha256:
        return Expected(expect(info.sha256), Trust.OBJECT)
    if policy is ChecksumPolicy.REQUIRE:
        raise no_digest(key.value)
    return Expected(expect(recorded_sha256), Trust.FIRST_USE)


def expect(sha256: str) -> Digest | None:
    """The digest for ``sha256`` (hex); none for an empty one."""
    return Digest("sha256", sha256) if sha256 else None


def no_digest(key: str) -> Untrusted:
    """The error for an object that nobody vouches for when the policy requires it."""
    return Untrusted(
        f"no digest is known for {printable(key)}, and checksum_policy is require",
        hint=f"give checksum (sha256:…, or a checksum file such as {printable(key)}.sha256: none is looked for unless it is named),"
        " or upload the object with `--checksum-algorithm SHA256` in one part",
    )


def refuse_contradiction(info: ObjectInfo, digest: Digest, trust: Trust) -> None:
    """Say before the download what would be found after it."""
    if info.sha256 and digest.algorithm == "sha256" and info.sha256 != digest.hex:
        raise Untrusted(
            f"S3 says that {printable(info.key)} has sha256:{info.sha256}, but {trust.value} is {digest}",
            hint="the object was replaced, or the checksum belongs to another one: find out which before changing either",
            expected=str(digest),
            found="sha256:" + info.sha256,
        )


def read_sidecar(bucket: Bucket, option: str) -> tuple[bytes, str]:
    """The checksum file that ``option`` names, and what to call it in messages."""
    if re.fullmatch(r"[0-9A-Fa-f]{64}|[0-9A-Fa-f]{128}", option):
        raise BadInput("checksum is a digest without its algorithm", hint="write sha256: (or sha512:) in front of it")
    if "://" not in option:
        content = bucket.read_small(ObjectKey(option), MAX_SIDECAR_BYTES)
    else:
        content = _from_url(bucket.options, option)
    return content, f"the checksum file {without_query(option)}"


def _from_url(options: S3Options, url: str) -> bytes:
    parts = urlsplit(url)
    if parts.scheme == "s3":
        other = Bucket(dataclasses.replace(options, bucket=parts.netloc))
        return other.read_small(ObjectKey(parts.path.lstrip("/")), MAX_SIDECAR_BYTES)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise BadInput(
            f"checksum {without_query(url)!r} is neither a digest nor a place where one is",
            hint="write sha256:<64 hex digits>, the key of a checksum file, or an s3://, https:// or http:// URL of one without a password",
        )
    return read_url(options, url, MAX_SIDECAR_BYTES)
