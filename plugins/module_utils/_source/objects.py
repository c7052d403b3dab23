# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What S3 announces of an object, and whether an answer is about those very bytes.

Invariant: an ETag is never taken for a hash, and an answer about anything else than what was asked for is refused before a byte of
it is read.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, NamedTuple

from .._errors import Transient, Unsupported, Untrusted
from .._names import ObjectKey, printable
from .faults import PASSES, ObjectChanged, RangesRefused, Where

_SUSPECT = "look at what stands between this host and the bucket (proxies, gateways)"


class ObjectInfo(NamedTuple):
    """What S3 announces of an object.

    ``sha256`` is hex, or empty: only a SHA-256 of the full object counts, never the composite one of a multipart upload
    (Amazon S3 user guide, "Checking object integrity"). ``etag`` keeps its quotes; ``version_id`` is empty in a bucket without versions.
    """

    key: str
    size_bytes: int
    etag: str
    version_id: str = ""
    sha256: str = ""


def announced(key: str, answer: Mapping[str, Any], where: Where) -> ObjectInfo:
    """What the answer to a HEAD announces; raises ``Unsupported`` when the server leaves out what is needed."""
    etag, size = str(answer.get("ETag") or ""), answer.get("ContentLength")
    has_etag = bool(etag.strip('"'))
    if not has_etag or not isinstance(size, int) or size < 0:
        raise Unsupported(
            f"the server announces no {'size' if has_etag else 'ETag'} of {where}",
            hint="flyd.lite needs both to be sure that all bytes are of one object; see the server's or the gateway's settings",
        )
    return ObjectInfo(key, size, etag, _version(answer), _full_sha256(answer, etag))


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


def check_answer(answer: Mapping[str, Any], info: ObjectInfo, first_byte: int, last_byte: int, where: Where) -> None:
    """Refuse an answer that is not about bytes ``first_byte`` to ``last_byte`` of ``info``; what then comes is counted by ``Body``.

    Raises ``ObjectChanged``, ``RangesRefused``, ``Untrusted`` when it is about other bytes or more of them, and ``Transient`` when
    it announces fewer.
    """
    if answer.get("ETag", info.etag) != info.etag:
        raise ObjectChanged(f"the object was replaced while it was read: {where}", hint="run again")
    asked = f"bytes {first_byte}-{last_byte}/"
    told = str(answer.get("ContentRange", ""))
    if not told and (first_byte, last_byte) != (0, info.size_bytes - 1):
        raise RangesRefused(f"the server sends {where} only whole", hint="it is read in one stream instead")
    if told and told not in (f"{asked}{info.size_bytes}", f"{asked}*"):
        raise Untrusted(
            f"the server answers {printable(told, 80)!r} when asked for {asked}{info.size_bytes} of {where}",
            hint=_SUSPECT,
        )
    _check_length(answer.get("ContentLength"), last_byte - first_byte + 1, where)


def _check_length(announced_bytes: int | None, asked_bytes: int, where: Where) -> None:
    if announced_bytes is None or announced_bytes == asked_bytes:
        return
    what = f"the server announces {announced_bytes} bytes when asked for {asked_bytes} of {where}"
    if announced_bytes > asked_bytes:
        raise Untrusted(f"{what}, more than there are", hint=_SUSPECT)
    # Not read at all: what follows the announced bytes on this connection would be taken for the next answer's head.
    raise Transient(what, hint=PASSES)
