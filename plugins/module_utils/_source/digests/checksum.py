# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The digest that an object must have, and its trust level.

Invariant: a requested digest is never weakened: when the operator names one, no other source is used, and when the
policy is ``require``, there is no download without one. An ETag is never used as a hash.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ..._errors import BadInput, Untrusted, doing
from ..._names import Digest, ObjectKey, printable
from ..host_file import read_file
from ..objects import ObjectInfo, digest_in, is_stated
from ..options import S3Options
from ..s3.bucket import Bucket
from ..s3.head_request import light_get
from ..source import Source
from ..web.web import read_url, without_query
from .checksum_file import MAX_SIDECAR_BYTES, find_digest
from .trust import ChecksumPolicy, Trust, is_pinned

__all__ = [
    "ChecksumPolicy",
    "Expected",
    "Trust",
    "expect",
    "is_pinned",
    "no_digest",
    "read_sidecar",
    "refuse_contradiction",
    "refuse_recorded",
    "resolve",
]

_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f]")


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
    bucket: Source,
    info: ObjectInfo,
    key: ObjectKey,
    checksum_option: str,
    policy: ChecksumPolicy,
    *,
    recorded_sha256: str = "",
) -> Expected:
    """What ``info`` must hash to.

    ``checksum_option`` is empty, ``sha256:…``, or names a checksum file: a key of the same bucket, ``s3://bucket/key``, ``file:///path``,
    ``https://…`` or ``http://…``. ``recorded_sha256`` is the digest (hex, or empty) of an earlier download of this very object (same ETag).
    Raises ``Untrusted`` when the digest asked for contradicts the object's own or the recorded one, or when there is none and ``policy``
    requires one.
    """
    option = checksum_option.strip()
    if option:
        trust = Trust.PINNED if is_pinned(option) else Trust.SIDECAR
        if trust is Trust.PINNED:
            digest = Digest.parse(option, what="checksum")
        else:
            content, where = read_sidecar(bucket, option)
            digest = find_digest(content, bucket.title(key), where=where)
        refuse_contradiction(info, digest, trust)
        refuse_recorded(info, digest, recorded_sha256)
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
    """The error for an object without a trusted digest when the policy requires one."""
    return Untrusted(
        f"no digest is known for {printable(key)}, and checksum_policy is require",
        hint=f"give checksum (sha256:…, or a checksum file such as {printable(key)}.sha256: none is looked for unless it is named),"
        " or upload the object with `--checksum-algorithm SHA256` in one part",
    )


def refuse_contradiction(info: ObjectInfo, digest: Digest, trust: Trust) -> None:
    """Say before the download what would be found after it."""
    own, who = (info.sha256, "S3 says") if info.sha256 else (digest_in(info.etag), "the controller says")
    if own and digest.algorithm == "sha256" and not is_stated(own, digest.hex):
        raise Untrusted(
            f"{who} that {printable(info.key)} has sha256:{own}, but {trust.value} is {digest}",
            hint="the object was replaced, or the checksum belongs to another one: find out which before changing either",
            expected=str(digest),
            found="sha256:" + own,
        )


def refuse_recorded(info: ObjectInfo, digest: Digest, recorded_sha256: str) -> None:
    """Refuse a digest that is not the one with which this very object was downloaded before; its bytes are not asked for again."""
    is_weak = not info.is_exact or info.unchanged_since is not None  # RFC 9110, 8.8.1: other bytes may have it
    if info.sha256 or is_weak or digest.algorithm != "sha256" or recorded_sha256 in ("", digest.hex):
        return
    raise Untrusted(
        f"{printable(info.key)} has sha256:{recorded_sha256}, but must have {digest}; S3 gives the ETag that it had when it was downloaded",
        hint="the checksum belongs to another object or to another version: find out which before changing either; "
        "to download it again all the same, forget it first (flyd_fetch, state: absent)",
        expected=str(digest),
        found="sha256:" + recorded_sha256,
    )


def read_sidecar(bucket: Source, option: str) -> tuple[bytes, str]:
    """The checksum file that ``option`` names, and what to call it in messages."""
    if re.fullmatch(r"[0-9A-Fa-f]{64}|[0-9A-Fa-f]{128}", option):
        raise BadInput(
            "checksum is a digest without its algorithm", hint="write it as checksum: sha256:… (or sha512:…)"
        )
    where = f"the checksum file {without_query(option)}"
    with doing(f"reading {where}"):
        try:
            return _content(bucket, option), where
        except BadInput as error:
            if error.details.get("http_status") not in (404, 405) or error.details.get("code") == "NoSuchBucket":
                raise
            raise _no_sidecar(bucket, option, where, error) from error


def _no_sidecar(bucket: Source, option: str, where: str, error: BadInput) -> BadInput:
    """The error for a checksum file that is missing: it is not the image that was not found."""
    place = "" if "://" in option else f" in bucket {bucket.options.bucket} at {bucket.options.endpoint}"
    found = BadInput(
        f"{where} does not exist{place} (HTTP {error.details['http_status']})",
        hint="give checksum the key or URL of a checksum file that exists, or a digest (sha256:…); without checksum, checksum_policy decides",
    )
    found.details.update(error.details)
    return found


def _content(bucket: Source, option: str) -> bytes:
    if "://" not in option:
        return _object(bucket, ObjectKey(option))
    return _from_url(bucket.options, option)


def _object(bucket: Source, key: ObjectKey) -> bytes:
    content = light_get(bucket.options, key, MAX_SIDECAR_BYTES) if isinstance(bucket, Bucket) else None
    return bucket.read_small(key, MAX_SIDECAR_BYTES) if content is None else content


def _from_url(options: S3Options, url: str) -> bytes:
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and "?" not in url and "#" not in url:
        return read_file(unquote(parts.path), MAX_SIDECAR_BYTES)
    if parts.scheme == "s3":
        with Bucket(dataclasses.replace(options, bucket=parts.netloc)) as other:
            return _object(other, ObjectKey(parts.path[1:]))
    if (
        parts.scheme not in ("http", "https")
        or not parts.hostname
        or parts.username is not None
        or _NOT_IN_URLS.search(url)
    ):
        raise BadInput(
            f"checksum {without_query(url)!r} is neither a digest nor a place where one is",
            hint="write sha256:<64 hex digits>, the key of a checksum file, or an s3://, file://, https:// or http:// URL of one without a password",
        )
    return read_url(options, url, MAX_SIDECAR_BYTES)
