# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bucket: what is there, and the bytes of it.

Invariant: bytes are read only of the very object that was announced: on condition of its ETag, or of the time of its last change where
the ETag does not last, and by its version id when it has one. A weak ETag is no condition (RFC 9110, 13.1.1); answers are compared with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..._errors import BadInput, FlydError, Untrusted
from ..._names import ObjectKey, size_text
from ..body import Body, read_within
from ..objects import ObjectInfo, announced, announced_in_list, check_answer, conditions, is_compressed, of_whole
from ..options import S3Options
from ..s3_errors import ObjectChanged, RangesRefused, Where
from ..source import Tags
from ..transport_errors import from_exception
from .client import Connection, connect
from .order import natural_order

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

__all__ = ["Bucket", "ObjectChanged", "ObjectInfo", "RangesRefused", "S3Options"]

MAX_FAMILY_OBJECTS = 1000
_MAX_LIST_PAGES = 100  # S3 puts up to a thousand objects on a page; some servers put fewer, even none
SIDECAR_SUFFIXES = (".sha256", ".sha256sum", ".sha512", ".sha512sum")


class Bucket(Tags):
    """One bucket. Every method raises a ``FlydError``; none retries."""

    def __init__(self, options: S3Options) -> None:
        super().__init__()
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
        """What is behind ``key`` now: one HEAD; and a GET of one byte when it is refused (it has no body to say why) or has no size."""
        where, answer = self._where(key.value), self._announcement(key.value)
        connection = self._connected()
        if connection.accepts == "identity" and is_compressed(answer):
            connection.accepts = "gzip"  # else it would be decompressed on the way: other bytes, of no announced size
            answer = self._announcement(key.value)
        if answer.get("ContentLength") is None:
            answer = self._first_byte(key.value, where)
        info = announced(key.value, answer, where)
        return info.by_time() if self.tags_pass else info

    def open(self, info: ObjectInfo, first_byte: int = 0, last_byte: int | None = None) -> Body:
        """The bytes ``first_byte`` to ``last_byte`` (counted from 0, both included) of that very object.

        Raises ``ObjectChanged`` when it was replaced and ``RangesRefused`` when the server sends it whole instead.
        """
        where = self._where(info.key)
        last = info.size_bytes - 1 if last_byte is None else last_byte
        wanted = conditions(info, is_bare=self.is_unconditional)
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
        """The objects under ``prefix`` as the list has them, in natural order (1, 2, 10).

        Checksum files and the empty objects that stand for folders are left out. A list has neither digests nor versions: ask ``head``.
        """
        if self.options.version_id:
            raise BadInput(
                f"{prefix} is a family, which has no version", hint="leave version_id out, or name one object in key"
            )
        try:
            found = self._listed(prefix)
        except FlydError as error:
            if not self._follow(error):
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
        answer = self._get_beside(key.value, where)
        with Body(answer["Body"], 0, where) as body:
            size_bytes = body.expected_bytes = announced(key.value, answer, where).size_bytes
            if size_bytes > limit_bytes:
                raise BadInput(
                    f"{where} has {size_text(size_bytes)}; a checksum file has at most {size_text(limit_bytes)}",
                    hint="check that checksum names the file you mean",
                )
            return read_within(body.read, limit_bytes, where)

    def title(self, key: ObjectKey) -> str:
        """What a checksum file calls the object: its key."""
        return key.value

    def _listed(self, prefix: ObjectKey) -> list[ObjectInfo]:
        where = self._where(prefix.value)
        found: list[ObjectInfo] = []
        try:
            pages = (
                self._s3()
                .get_paginator("list_objects_v2")
                .paginate(Bucket=self.options.bucket, Prefix=prefix.value, **self._payer())
            )
            for number, page in enumerate(pages):
                if number >= _MAX_LIST_PAGES:
                    raise Untrusted(
                        f"the list of {where} does not end: {number} pages have {len(found)} objects",
                        hint="check the server behind endpoint_url, or the proxy before it",
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

    def _get(
        self, key: str, where: Where, wanted: Mapping[str, object], *, encrypted: bool = True
    ) -> Mapping[str, Any]:
        sse = self._sse() if encrypted else {}
        given = {"Bucket": self.options.bucket, "Key": key, **self._payer(), **sse, **wanted}
        try:
            return self._s3().get_object(**given)
        except Exception as error:
            raise from_exception(error, where) from error

    def _get_beside(self, key: str, where: Where) -> Mapping[str, Any]:
        """The answer for a small object beside the one that is fetched, which may be encrypted as that one is, or not."""
        try:
            return self._get(key, where, {})
        except FlydError as error:
            if not self.options.sse_key or error.details.get("http_status") != 400:
                raise
        return self._get(key, where, {}, encrypted=False)

    def _announcement(self, key: str) -> Mapping[str, Any]:
        where = self._where(key)
        try:
            given = {"Bucket": self.options.bucket, "Key": key, **self._payer(), **self._sse(), **self._version()}
            return self._s3().head_object(ChecksumMode="ENABLED", **given)  # type: ignore[arg-type]  # as above
        except Exception as error:
            refused = from_exception(error, where)
            if refused.retryable or not refused.details.get("http_status"):
                raise refused from error
        try:
            return self._first_byte(key, where)
        except FlydError as error:
            if not self._follow(error):
                raise error from refused
        return self._announcement(key)

    def _first_byte(self, key: str, where: Where) -> Mapping[str, Any]:
        """What a GET of the first byte says of the whole object."""
        try:
            answer = self._get(key, where, {"Range": "bytes=0-0", **self._version()})
        except FlydError as error:
            if error.details.get("http_status") != 416:  # an empty object has no first byte
                raise
            answer = self._get(key, where, self._version())
        answer["Body"].close()
        return of_whole(answer)

    def _payer(self) -> dict[str, Any]:
        return {"RequestPayer": "requester"} if self.options.requester_pays else {}

    def _version(self) -> dict[str, str]:
        return {"VersionId": self.options.version_id} if self.options.version_id else {}

    def _sse(self) -> dict[str, Any]:
        # botocore adds the key's MD5 and writes both in base64.
        key = self.options.sse_key
        return {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": key} if key else {}

    def _follow(self, error: FlydError) -> bool:
        """Ask in the bucket's own region from now on, once, when the operator left the region open and S3 says which it is."""
        region = str(error.details.get("region", ""))
        # A server of one's own may call its region anything; that of AWS becomes a part of a host's name.
        form = r"[A-Za-z0-9][A-Za-z0-9-]{1,62}" if self.options.endpoint_url else r"[a-z]{2}[a-z0-9-]{2,30}"
        if self.options.region or not re.fullmatch(form, region):
            return False
        self.close()
        self.options = replace(self.options, region=region)
        return True

    def _where(self, key: str) -> Where:
        # Connected first: without the credentials in hand, they could not be struck from what a server says.
        options = self.options
        return Where(options.endpoint, options.bucket, key, self._connected().secrets, options.read_timeout_seconds)

    def _s3(self) -> S3Client:
        return self._connected().s3

    def _connected(self) -> Connection:
        if self._made is None:
            self._made = connect(self.options)
        return self._made
