# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bucket: what is there, and the bytes of it.

Invariant: bytes are read only of the very object that was announced (``If-Match`` on its ETag, and its version id when it has
one).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .._errors import BadInput, FlydError, Transient, Untrusted
from .._names import ObjectKey
from .body import Body, read_within
from .client import Connection, connect
from .faults import PASSES, ObjectChanged, RangesRefused, Where
from .line import from_exception
from .objects import ObjectInfo, announced, announced_in_list, check_answer
from .options import S3Options

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

__all__ = ["Bucket", "ObjectChanged", "ObjectInfo", "RangesRefused", "S3Options"]

MAX_FAMILY_OBJECTS = 1000
_MAX_LIST_PAGES = 100  # S3 puts up to a thousand objects on a page; some servers put fewer, even none
SIDECAR_SUFFIXES = (".sha256", ".sha256sum", ".sha512", ".sha512sum")


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
        return announced(key.value, answer, where)

    def open(self, info: ObjectInfo, first_byte: int = 0, last_byte: int | None = None) -> Body:
        """The bytes ``first_byte`` to ``last_byte`` (counted from 0, both included) of that very object.

        Raises ``ObjectChanged`` when it was replaced and ``RangesRefused`` when the server sends it whole instead.
        """
        where = self._where(info.key)
        last = info.size_bytes - 1 if last_byte is None else last_byte
        wanted = {"IfMatch": info.etag, **({"VersionId": info.version_id} if info.version_id else {})}
        if (first_byte, last) != (0, info.size_bytes - 1):
            wanted["Range"] = f"bytes={first_byte}-{last}"
        answer = self._get(info.key, where, wanted)
        body = Body(answer["Body"], last - first_byte + 1, where)
        try:
            check_answer(answer, info, first_byte, last, where)
        except BaseException:
            body.close()
            raise
        return body

    def list_family(self, prefix: ObjectKey) -> tuple[ObjectInfo, ...]:
        """The objects under ``prefix`` as the list tells them, in natural order (1, 2, 10).

        Checksum files and the empty objects that stand for folders are left out. A list tells neither digests nor versions: ask ``head``.
        """
        try:
            found = self._listed(prefix)
        except FlydError as told:
            if not self._follow(told):
                raise
            found = self._listed(prefix)
        objects = [one for one in found if not one.key.endswith(("/", *SIDECAR_SUFFIXES))]
        if not objects:
            raise BadInput(
                f"there is no object under {self._where(prefix.value)}",
                hint="a key that ends in / names the objects under it; check it against the bucket's list",
            )
        return tuple(sorted(objects, key=lambda one: natural_order(one.key)))

    def read_small(self, key: ObjectKey, limit_bytes: int) -> bytes:
        """The whole of a small object; raises ``BadInput`` when it has more than ``limit_bytes``."""
        where = self._where(key.value)
        answer = self._get(key.value, where, {})
        with Body(answer["Body"], 0, where) as body:
            size_bytes = body.expected_bytes = announced(key.value, answer, where).size_bytes
            if size_bytes > limit_bytes:
                raise BadInput(
                    f"{where} has {size_bytes} bytes; at most {limit_bytes} make sense here",
                    hint="check that the key is the one you mean",
                )
            return read_within(body.read, limit_bytes, where)

    def _listed(self, prefix: ObjectKey) -> list[ObjectInfo]:
        where = self._where(prefix.value)
        found: list[ObjectInfo] = []
        try:
            pages = (
                self._s3().get_paginator("list_objects_v2").paginate(Bucket=self.options.bucket, Prefix=prefix.value)
            )
            for number, page in enumerate(pages):
                if number >= _MAX_LIST_PAGES:
                    raise Untrusted(
                        f"the list of {where} does not end: {number} pages told of {len(found)} objects",
                        hint="look at the server, or at the proxy before it",
                    )
                found += [announced_in_list(item, where) for item in page.get("Contents", [])]
                if len(found) > MAX_FAMILY_OBJECTS:
                    raise BadInput(
                        f"more than {MAX_FAMILY_OBJECTS} objects are under {where}",
                        hint="a family holds the layers of one image only",
                    )
        except Exception as error:
            raise from_exception(error, where) from error
        return found

    def _get(self, key: str, where: Where, wanted: Mapping[str, str]) -> Mapping[str, Any]:
        try:
            return self._s3().get_object(Bucket=self.options.bucket, Key=key, **wanted)  # type: ignore[arg-type]  # names are checked by botocore
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
