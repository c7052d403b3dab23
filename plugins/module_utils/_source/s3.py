# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bucket: what is there, and the bytes of it.

Invariant: bytes are read only of the very object that was announced (``If-Match`` on its ETag, and its version id when it has
one), and an ETag is never taken for a hash.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .._errors import BadInput, FlydError, Transient, Unsupported, Untrusted
from .._names import ObjectKey, printable
from .body import Body
from .client import Connection, connect
from .faults import PASSES, ObjectChanged, RangesRefused, Where
from .line import from_exception
from .options import S3Options

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

__all__ = ["Bucket", "ObjectChanged", "ObjectInfo", "RangesRefused", "S3Options"]

MAX_FAMILY_OBJECTS = 1000
SIDECAR_SUFFIXES = (".sha256", ".sha256sum", ".sha512", ".sha512sum")


@dataclass(frozen=True)
class ObjectInfo:
    """What S3 announces of an object.

    ``sha256`` is hex, or empty: only a SHA-256 of the full object counts, never the composite one of a multipart upload
    (Amazon S3 user guide, "Checking object integrity"). ``etag`` keeps its quotes; ``version_id`` is empty in a bucket without versions.
    """

    key: str
    size_bytes: int
    etag: str
    version_id: str = ""
    sha256: str = ""


class Bucket:
    """One bucket. Every method raises a ``FlydError``; none tries again by itself."""

    def __init__(self, options: S3Options) -> None:
        self.options = options
        self._made: Connection | None = None

    def __repr__(self) -> str:
        return f"Bucket({self.options!r})"

    def __enter__(self) -> Bucket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept for the next request."""
        if self._made is not None:
            self._made.s3.close()
            self._made = None

    def head(self, key: ObjectKey) -> ObjectInfo:
        """What is behind ``key`` now: one HEAD, and one GET more when it was refused (HEAD has no body to say why)."""
        where = self._where(key.value)
        try:
            answer = self._head(key.value, where)
        except FlydError as error:
            told = self._reason(key.value, error, where)
            if not self._follow(told):
                raise told from error
            answer = self._head(key.value, where)
        return _info(key.value, answer, where)

    def open(self, info: ObjectInfo, first_byte: int = 0, last_byte: int | None = None) -> Body:
        """The bytes ``first_byte`` to ``last_byte`` (counted from 0, both included) of that very object.

        Raises ``ObjectChanged`` when it was replaced and ``RangesRefused`` when the server sends it whole instead.
        """
        where = self._where(info.key)
        last = info.size_bytes - 1 if last_byte is None else last_byte
        is_whole = first_byte == 0 and last == info.size_bytes - 1
        wanted = {"IfMatch": info.etag, **({"VersionId": info.version_id} if info.version_id else {})}
        if not is_whole:
            wanted["Range"] = f"bytes={first_byte}-{last}"
        answer = self._get(info.key, where, wanted)
        body = Body(answer["Body"], last - first_byte + 1, where)
        try:
            _check_answer(answer, info, (first_byte, last), where, is_whole=is_whole)
        except BaseException:
            body.close()
            raise
        return body

    def list_family(self, prefix: ObjectKey) -> tuple[ObjectInfo, ...]:
        """The objects under ``prefix``, in natural order (1, 2, 10), each with its own HEAD; checksum files are left out."""
        keys = [key for key in self._keys_under(prefix) if key != prefix.value and not key.endswith(SIDECAR_SUFFIXES)]
        if not keys:
            raise BadInput(
                f"there is no object under {self._where(prefix.value)}",
                hint="a key that ends in / names the objects under it; check it against the bucket's list",
            )
        return tuple(self.head(ObjectKey(key)) for key in sorted(keys, key=natural_order))

    def read_small(self, key: ObjectKey, limit_bytes: int) -> bytes:
        """The whole of a small object; raises ``BadInput`` when it has more than ``limit_bytes``."""
        where = self._where(key.value)
        answer = self._get(key.value, where, {})
        announced = int(answer["ContentLength"])
        with Body(answer["Body"], announced, where) as body:
            if announced > limit_bytes:
                raise BadInput(
                    f"{where} has {announced} bytes; at most {limit_bytes} make sense here",
                    hint="check that the key is the one you mean",
                )
            chunks: list[bytes] = []
            while True:
                chunk = body.read(1 << 16)
                if not chunk:
                    return b"".join(chunks)
                chunks.append(chunk)

    def _keys_under(self, prefix: ObjectKey) -> list[str]:
        where = self._where(prefix.value)
        keys: list[str] = []
        try:
            for page in (
                self._s3().get_paginator("list_objects_v2").paginate(Bucket=self.options.bucket, Prefix=prefix.value)
            ):
                keys += [item["Key"] for item in page.get("Contents", [])]
                if len(keys) > MAX_FAMILY_OBJECTS:
                    raise BadInput(
                        f"more than {MAX_FAMILY_OBJECTS} objects are under {where}",
                        hint="a family holds the layers of one image only",
                    )
        except Exception as error:
            raise from_exception(error, where) from error
        return keys

    def _get(self, key: str, where: Where, wanted: Mapping[str, str]) -> Mapping[str, Any]:
        try:
            return self._s3().get_object(Bucket=self.options.bucket, Key=key, **wanted)  # type: ignore[arg-type]
        except Exception as error:
            raise from_exception(error, where) from error

    def _head(self, key: str, where: Where) -> Mapping[str, Any]:
        try:
            return self._s3().head_object(Bucket=self.options.bucket, Key=key, ChecksumMode="ENABLED")
        except Exception as error:
            raise from_exception(error, where) from error

    def _reason(self, key: str, refused: FlydError, where: Where) -> FlydError:
        if refused.retryable or not refused.details.get("http_status"):
            return refused
        try:
            self._get(key, where, {"Range": "bytes=0-0"})["Body"].close()
        except FlydError as told:
            return told
        return Transient(f"HEAD was refused but GET was not for {where}", hint=PASSES)

    def _follow(self, told: FlydError) -> bool:
        """Ask in the bucket's own region from now on, once, when the operator left the region open and S3 says which it is."""
        region = str(told.details.get("region", ""))
        if self.options.region or not re.fullmatch(r"[a-z]{2}[a-z0-9-]{2,30}", region):
            return False
        self.close()
        self.options = replace(self.options, region=region)
        return True

    def _where(self, key: str) -> Where:
        # Connected first: without the credentials in hand, they could not be struck from what a server says.
        return Where(self.options.endpoint, self.options.bucket, key, self._connected().secrets)

    def _s3(self) -> S3Client:
        return self._connected().s3

    def _connected(self) -> Connection:
        if self._made is None:
            self._made = connect(self.options)
        return self._made


def natural_order(key: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key by which runs of digits count as numbers: layer2 before layer10."""
    parts = re.split(r"([0-9]+)", key)
    return tuple(
        (0, int(part), part) if part.isdecimal() and part.isascii() else (1, 0, part) for part in parts if part
    )


def _info(key: str, answer: Mapping[str, Any], where: Where) -> ObjectInfo:
    etag, size = str(answer.get("ETag", "")), answer.get("ContentLength")
    has_etag = bool(etag.strip('"'))
    if not has_etag or not isinstance(size, int) or size < 0:
        raise Unsupported(
            f"the server announces no {'size' if has_etag else 'ETag'} of {where}",
            hint="flyd.lite needs both to be sure that all bytes are of one object; see the server's or the gateway's settings",
        )
    return ObjectInfo(key, size, etag, _version(answer), _full_sha256(answer, etag))


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


def _check_answer(
    answer: Mapping[str, Any], info: ObjectInfo, span: tuple[int, int], where: Where, *, is_whole: bool
) -> None:
    """Refuse an answer that is not about the bytes asked for; what it then sends is counted by ``Body``."""
    if answer.get("ETag", info.etag) != info.etag:
        raise ObjectChanged(f"the object was replaced while it was read: {where}", hint="run again")
    told = str(answer.get("ContentRange", ""))
    if is_whole and not told:
        return
    if not told:
        raise RangesRefused(f"the server sends {where} only whole", hint="it is read in one stream instead")
    match = re.fullmatch(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", told)
    if not match or (int(match[1]), int(match[2])) != span or match[3] not in ("*", str(info.size_bytes)):
        raise Untrusted(
            f"the server answers {printable(told, 80)!r} when asked for bytes {span[0]} to {span[1]} of {info.size_bytes} of {where}",
            hint="look at what stands between this host and the bucket (proxies, gateways)",
        )
