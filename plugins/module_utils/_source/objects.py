# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What S3, or another server, announces of an object, and whether an answer is about those very bytes.

Invariant: an ETag is never taken for a hash, and an answer about anything else than what was asked for is refused before a byte of
it is read. A weak ETag, or the time of the last change where there is no ETag, says less than a strong one: see ``is_exact``.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import email.utils
import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from .._errors import Transient, Unsupported, Untrusted
from .._names import ObjectKey, printable
from .s3_errors import PASSES, ObjectChanged, RangesRefused, Where

_SUSPECT = "look at what stands between this host and the bucket (proxies, gateways)"
_TIME_TAG = "last-modified-"  # what stands for the ETag of an object that has none that lasts


def is_stated(stated: str, sha256: str) -> bool:
    """Whether the SHA-256 that a server states is that of bytes with ``sha256``, both in hex.

    Of an upload in one part some servers state the digest of that part's digest, and not that it is one: it vouches for the bytes as well.
    """
    return stated == sha256 or (bool(sha256) and stated == hashlib.sha256(bytes.fromhex(sha256)).hexdigest())


class ObjectInfo(NamedTuple):
    """What is announced of an object.

    ``sha256`` is hex, or empty: only a SHA-256 of the full object counts, never the composite one of a multipart upload
    (Amazon S3 user guide, "Checking object integrity"). ``etag`` keeps its quotes, and is ``time_tag`` or empty when the server gives none
    that lasts; ``version_id`` is empty in a bucket without versions; ``encoding`` is the stored bytes' Content-Encoding.
    """

    key: str
    size_bytes: int
    etag: str
    version_id: str = ""
    sha256: str = ""
    encoding: str = ""
    time_tag: str = ""

    @property
    def is_exact(self) -> bool:
        """Whether the ETag, or the time that stands for it, can be made a condition of a request (RFC 9110, 13.1)."""
        return bool(self.etag) and not self.etag.startswith("W/")

    @property
    def unchanged_since(self) -> datetime.datetime | None:
        """The time of the last change when it stands for the ETag."""
        tag = self.etag.strip('"')
        if not tag.startswith(_TIME_TAG):
            return None
        return datetime.datetime.fromtimestamp(int(tag[len(_TIME_TAG) :]), datetime.timezone.utc)

    def has_tag(self, tag: str) -> bool:
        """Whether ``tag``, recorded earlier or of another answer, is this object's, by weak comparison (RFC 9110, 8.8.3.2)."""
        own = self.time_tag or self.etag if _TIME_TAG in tag else self.etag
        return _opaque(tag) == _opaque(own)

    def by_time(self) -> ObjectInfo:
        """The same of a server whose ETags do not last."""
        return self._replace(etag=self.time_tag)


def _opaque(tag: str) -> str:
    """What an ETag is compared by: without weakness, and without the quotes that some servers leave out of some answers."""
    return (tag[2:] if tag.startswith("W/") else tag).strip('"')


def announced(key: str, answer: Mapping[str, Any], where: Where) -> ObjectInfo:
    """What the answer to a HEAD announces; raises ``Unsupported`` when the server leaves out the size."""
    etag, size, encoding = str(answer.get("ETag") or ""), answer.get("ContentLength"), _encoding(answer)
    if not isinstance(size, int) or size < 0:
        raise Unsupported(
            f"the server announces no size of {where}"
            + (f" (Content-Encoding: {printable(encoding, 40)})" if encoding else ""),
            hint="a gateway that compresses or decompresses on the way leaves it out: upload the object again with `--cache-control no-transform` "
            "and without Content-Encoding, or see the gateway's settings",
        )
    time_tag = _time_tag(answer.get("LastModified"))
    return ObjectInfo(
        key,
        size,
        etag if _opaque(etag) else time_tag,
        _version(answer),
        _full_sha256(answer, etag),
        encoding,
        time_tag,
    )


def _encoding(answer: Mapping[str, Any]) -> str:
    """The Content-Encoding, but for what is none (AWS keeps the word of a chunked upload in it)."""
    words = [word.strip() for word in str(answer.get("ContentEncoding") or "").lower().split(",")]
    return ",".join(word for word in words if word not in ("", "identity", "aws-chunked"))


def _time_tag(modified: object) -> str:
    if isinstance(modified, str):
        parsed = email.utils.parsedate_tz(modified)
        return f'"{_TIME_TAG}{email.utils.mktime_tz(parsed)}"' if parsed else ""
    return f'"{_TIME_TAG}{int(modified.timestamp())}"' if isinstance(modified, datetime.datetime) else ""


def announced_in_list(item: Mapping[str, Any], where: Where) -> ObjectInfo:
    """What a list announces of one object; the key is the server's word, so it is parsed as an operator's would be."""
    return announced(
        ObjectKey(str(item["Key"])).value, {"ETag": item.get("ETag"), "ContentLength": item.get("Size")}, where
    )


def _version(answer: Mapping[str, Any]) -> str:
    version = str(answer.get("VersionId", ""))
    return "" if version == "null" else version


def _full_sha256(answer: Mapping[str, Any], etag: str) -> str:
    value, scope = str(answer.get("ChecksumSHA256", "")), answer.get("ChecksumType")
    # Older servers do not say of what a checksum is; the ETag of a multipart upload ends in the number of its parts.
    if scope not in ("FULL_OBJECT", None) or (scope is None and "-" in etag):
        return ""
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return raw.hex() if len(raw) == 32 else ""


def digest_in(tag: str) -> str:
    """The SHA-256 (hex) that stands for the ETag of a file of the controller; empty for any other tag."""
    return tag[len('"sha256-') : -1] if tag.startswith('"sha256-') else ""


def is_compressed(answer: Mapping[str, Any]) -> bool:
    """Whether a HEAD describes an object that is stored compressed, which a server may decompress for those who do not accept that."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    stored = str(headers.get("x-goog-stored-content-encoding", "identity"))
    return stored == "gzip" or _encoding(answer) in ("gzip", "x-gzip")


def of_whole(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The answer to a GET of the first byte as if it were one to a HEAD; without a size when it has none of the whole."""
    content_range = str(answer.get("ContentRange") or "")
    if not content_range:
        return answer
    total = content_range.rpartition("/")[2]
    return {**answer, "ContentLength": int(total) if total.isascii() and total.isdecimal() else None}


def conditions(info: ObjectInfo, *, is_bare: bool) -> dict[str, object]:
    """What makes a GET one of that very object, as botocore names it; ``is_bare`` leaves out what its server does not honour."""
    since = info.unchanged_since
    exact = {"IfUnmodifiedSince": since} if since else {"IfMatch": info.etag} if info.is_exact else {}
    return {**({} if is_bare else exact), **({"VersionId": info.version_id} if info.version_id else {})}


def check_answer(answer: Mapping[str, Any], info: ObjectInfo, first_byte: int, last_byte: int, where: Where) -> None:
    """Refuse an answer that is not about bytes ``first_byte`` to ``last_byte`` of ``info``; what then comes is counted by ``Body``.

    Raises ``ObjectChanged``, ``RangesRefused``, ``Untrusted`` when it is about other bytes or more of them, and ``Transient`` when
    it announces fewer.
    """
    _check_tag(answer, info, where)
    _check_encoding(answer, info, where)
    asked = f"bytes {first_byte}-{last_byte}/"
    content_range = str(answer.get("ContentRange", ""))
    if not content_range and (first_byte, last_byte) != (0, info.size_bytes - 1):
        raise RangesRefused(
            f"the server sends {where} only whole", hint="it is read in one stream instead of part_size"
        )
    wanted = f"{asked}{info.size_bytes}"
    if content_range and content_range not in (wanted, f"{asked}*"):
        raise Untrusted(
            f"the server answers {printable(content_range, 80)!r} when asked for {wanted} of {where}", hint=_SUSPECT
        )
    _check_length(answer.get("ContentLength"), last_byte - first_byte + 1, where)


def _check_tag(answer: Mapping[str, Any], info: ObjectInfo, where: Where) -> None:
    if info.unchanged_since is not None:
        tag = _time_tag(answer.get("LastModified")) or info.etag
    else:
        tag = str(answer.get("ETag") or "") if info.etag else ""
    if tag and not info.has_tag(tag):
        raise ObjectChanged(f"the object was replaced while it was read: {where}", hint="run again")


def _check_encoding(answer: Mapping[str, Any], info: ObjectInfo, where: Where) -> None:
    encoding = _encoding(answer)
    if encoding != info.encoding and (encoding or not answer.get("ContentRange")):
        raise Unsupported(
            f"the server announces {where} with Content-Encoding: {info.encoding or 'identity'} and sends it with {encoding or 'identity'}",
            hint="what is between compresses or decompresses on the way, so the bytes are not those that are stored: upload the object with "
            "Cache-Control: no-transform and without Content-Encoding, or see the gateway's settings",
        )


def _check_length(announced_bytes: int | None, asked_bytes: int, where: Where) -> None:
    if announced_bytes is None or announced_bytes == asked_bytes:
        return
    what = f"the server announces {announced_bytes} bytes when asked for {asked_bytes} of {where}"
    if announced_bytes > asked_bytes:
        raise Untrusted(f"{what}, more than there are", hint=_SUSPECT)
    # Not read at all: what follows the announced bytes on this connection would be taken for the next answer's head.
    raise Transient(what, hint=PASSES)
