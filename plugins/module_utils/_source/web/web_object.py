# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive on a web server, also one of S3 by a presigned URL.

Invariant: what was asked for over TLS comes over TLS, by whatever redirects, headers of the operator's go to the server that they were meant
for and to no other, and no message shows a URL's query.
"""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPMessage
from typing import Any

from ..._errors import FlydError
from ..._names import ObjectKey
from ..body import Body, read_within
from ..host_file import no_bucket, no_family
from ..objects import ObjectInfo, announced, check_answer, conditions, is_compressed, of_whole
from ..options import S3Options
from ..place import Place
from ..s3_errors import Where, from_answer
from ..source import Tags
from ..transport_errors import from_exception
from .web import opener_of

_MAX_SAID_BYTES = 64 << 10
_NAMES = {
    "ETag": "ETag",
    "LastModified": "Last-Modified",
    "ContentEncoding": "Content-Encoding",
    "ContentRange": "Content-Range",
}


class WebObject(Tags):
    """One URL, whatever the key that it is fetched as; see ``Source``."""

    def __init__(self, options: S3Options, place: Place) -> None:
        super().__init__()
        self.options = options
        self._place = place
        self._opener = opener_of(options)
        self._accepts = "identity"

    def __enter__(self) -> WebObject:
        return self

    def __exit__(self, *_: object) -> None:
        self._opener.close()

    def head(self, key: ObjectKey) -> ObjectInfo:
        """What is there now: one HEAD; and a GET of one byte when that is refused, as it is for a presigned URL, or has no size."""
        answer = self._announcement(key)
        if self._accepts == "identity" and is_compressed(answer):
            self._accepts = "gzip"  # else it may be decompressed on the way
            answer = self._announcement(key)
        if answer.get("ContentLength") is None:
            answer = self._first_byte(key)
        info = announced(key.value, answer, self._where(key.value))
        return info.by_time() if self.tags_pass else info

    def open(self, info: ObjectInfo, first_byte: int = 0, last_byte: int | None = None) -> Body:
        """See ``Source``."""
        last = info.size_bytes - 1 if last_byte is None else last_byte
        wanted = _headers(info, is_bare=self.is_unconditional)
        if (first_byte, last) != (0, info.size_bytes - 1):
            wanted["Range"] = f"bytes={first_byte}-{last}"
        where = self._where(info.key)
        stream, answer = self._ask("GET", where, wanted)
        body = Body(stream, last - first_byte + 1, where)
        try:
            check_answer(answer, info, first_byte, last, where)
        except BaseException:
            body.close()
            raise
        return body

    def list_family(self, prefix: ObjectKey) -> tuple[ObjectInfo, ...]:
        """A URL is no family."""
        raise no_family(prefix)

    def read_small(self, key: ObjectKey, limit_bytes: int) -> bytes:
        """There is no bucket that a checksum file could be in."""
        raise no_bucket(key)

    def title(self, key: ObjectKey) -> str:
        """The last component of the URL's path."""
        return self._place.base_name or key.value

    def _announcement(self, key: ObjectKey) -> Mapping[str, Any]:
        try:
            stream, answer = self._ask("HEAD", self._where(key.value), {})
        except FlydError as refused:
            if refused.retryable or not refused.details.get("http_status"):
                raise
            return self._first_byte(key)
        stream.close()
        return answer

    def _first_byte(self, key: ObjectKey) -> Mapping[str, Any]:
        where = self._where(key.value)
        try:
            stream, answer = self._ask("GET", where, {"Range": "bytes=0-0"})
        except FlydError as error:
            if error.details.get("http_status") != 416:  # an empty file has no first byte
                raise
            stream, answer = self._ask("GET", where, {})
        stream.close()
        return of_whole(answer)

    def _ask(self, method: str, where: Where, headers: Mapping[str, str]) -> tuple[Any, Mapping[str, Any]]:
        """The open answer, and what its headers say as botocore names it."""
        every = {"Accept-Encoding": self._accepts, **dict(self._place.headers), **headers}
        request = urllib.request.Request(self._place.url, headers=every, method=method)  # noqa: S310 - Place has checked it
        try:
            stream = self._opener.open(request, timeout=self.options.read_timeout_seconds)
        except urllib.error.HTTPError as error:
            raise _refused(error, where) from None
        except Exception as error:
            raise from_exception(error, where) from error
        return stream, _answer(stream.headers)

    def _where(self, key: str) -> Where:
        secrets = tuple(value for _name, value in self._place.headers)
        return Where(self._place.name, "", key, secrets, self.options.read_timeout_seconds)


def _headers(info: ObjectInfo, *, is_bare: bool) -> dict[str, str]:
    """What makes a GET one of that very object."""
    given, found = conditions(info, is_bare=is_bare), dict[str, str]()
    if "IfMatch" in given:
        found["If-Match"] = info.etag
    if info.unchanged_since is not None and "IfUnmodifiedSince" in given:
        found["If-Unmodified-Since"] = info.unchanged_since.strftime("%a, %d %b %Y %H:%M:%S GMT")
    return found


def _answer(headers: HTTPMessage) -> dict[str, Any]:
    length, given = headers.get("Content-Length", ""), {ours: headers.get(name) for ours, name in _NAMES.items()}
    found: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if length.isascii() and length.isdecimal():
        found["ContentLength"] = int(length)
    return {**found, "ResponseMetadata": {"HTTPHeaders": {name.lower(): value for name, value in headers.items()}}}


def _refused(error: urllib.error.HTTPError, where: Where) -> FlydError:
    """The error for a refusal, with what S3 says in its body of one that was presigned."""
    with error:
        headers = {name.lower(): value for name, value in error.headers.items()}
        try:
            said = read_within(error.read1, _MAX_SAID_BYTES, where).decode("utf-8", "replace")
        except Exception:  # noqa: BLE001 - the refusal is the error to report, whatever becomes of its text
            said = ""
    code = re.search(r"<Code>([A-Za-z.]{1,64})</Code>", said)
    message = re.search(r"<Message>([^<]{1,200})</Message>", said)
    return from_answer(error.code, code[1] if code else "", message[1] if message else "", headers, where)
