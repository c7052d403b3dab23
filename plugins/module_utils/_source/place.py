# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an archive is when it is no object of a bucket: at a URL, in a file of this host, or in one of the controller.

Invariant: a ``Place`` is consistent, and ``name``, which is recorded and shown, holds no secret.
"""

from __future__ import annotations

import base64
import posixpath
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from .._errors import BadInput
from .._names import Digest, printable
from .._redaction import redacted_url

CONTROLLER = "a file of the controller"
_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f]")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2


class Place(NamedTuple):
    """Where the archive is; all empty: in the bucket.

    ``path`` is of this host. ``sha256`` and ``size_bytes`` are those of a file of the controller, whose ``path`` is empty until it was sent here;
    ``headers`` go along with each request for ``url``.
    """

    url: str = ""
    path: str = ""
    sha256: str = ""
    size_bytes: int = 0
    base_name: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        return f"Place({self.name!r})"

    @property
    def name(self) -> str:
        """What is recorded in the place of the bucket; empty for a bucket."""
        if self.sha256:
            return CONTROLLER
        return redacted_url(self.url) if self.url else f"file://{self.path}" if self.path else ""

    @property
    def is_requested(self) -> bool:
        """Whether the bytes come over the network, to this module."""
        return bool(self.url) or not self.name

    @property
    def is_sent(self) -> bool:
        """Whether the bytes come from the controller."""
        return bool(self.sha256)

    @property
    def is_awaited(self) -> bool:
        """Whether they do, and are not here yet."""
        return self.is_sent and not self.path


def place_of(
    src: str, *, remote_src: bool, sent: Mapping[str, Any], headers: Mapping[str, Any], user: str, password: str
) -> Place:
    """The place that the options src and those beside it name; ``sent`` is what the action plugin says of a file of the controller."""
    is_url = src.lower().startswith(("http://", "https://"))
    if (headers or user or password) and not is_url:
        raise BadInput(
            "headers, url_username or url_password is given, but src is no https:// URL",
            hint="leave headers, url_username and url_password out: they are sent to a web server only",
        )
    if not src:
        if remote_src:
            raise BadInput(
                "remote_src is given without src", hint="give the path of the file on the managed host in src"
            )
        return Place()
    if is_url:
        return Place(_checked_url(src), base_name=_last(urlsplit(src).path), headers=_headers(headers, user, password))
    if "://" in src and not src.startswith("file:///"):
        raise BadInput(
            f"src {printable(redacted_url(src))!r} is no place that archives come from",
            hint="write an https:// URL or a path; an object of S3 is named by bucket and key, without src",
        )
    path = unquote(src[len("file://") :]) if "://" in src else src
    if remote_src or "://" in src:
        if not path.startswith("/"):
            raise BadInput(
                f"src {printable(path)!r} is not absolute",
                hint="with remote_src, give the whole path on the managed host",
            )
        return Place(path=path, base_name=_last(path))
    return _sent(path, sent)


def bucket_of(place: Place, given: str, recorded: str) -> str:
    """The bucket: that of the option, else that which is recorded; empty when there is none.

    Raises ``BadInput`` when neither src nor bucket is given of an archive that came from somewhere else than a bucket.
    """
    came_from_elsewhere = recorded == CONTROLLER or "://" in recorded
    if given or not came_from_elsewhere:
        return given or recorded
    if not place.name:
        raise BadInput(
            f"the archive came from {printable(recorded)}, and neither src nor bucket is given",
            hint="give src as before, or bucket to take an object of S3 in its place",
        )
    return ""


def _sent(path: str, sent: Mapping[str, Any]) -> Place:
    if not sent.get("sha256"):
        raise BadInput(
            f"src {printable(path)!r} is a file of the controller, but nothing of it came along",
            hint="call the module as flyd.lite.flyd_fetch, whose action plugin sends the file; for a file of the managed host, set remote_src: true",
        )
    digest = Digest.parse(f"sha256:{sent['sha256']}", what="the digest of src")
    return Place("", str(sent.get("path") or ""), digest.hex, int(sent.get("size") or 0), _last(path))


def _last(path: str) -> str:
    return posixpath.basename(unquote(path))


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_right = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_right = False
    if not is_right or _NOT_IN_URLS.search(url):
        raise BadInput(
            f"src {printable(redacted_url(url))!r} is not a URL",
            hint="write src like https://example.org/images/redis.tar, encoded",
        )
    if parts.username is not None or parts.password is not None:
        raise BadInput(
            "src holds a user name or password", hint="give them in url_username and url_password, which are not shown"
        )
    return parts._replace(fragment="").geturl()


def _headers(headers: Mapping[str, Any], user: str, password: str) -> tuple[tuple[str, str], ...]:
    found = {str(name): str(value) for name, value in headers.items()}
    for name, value in found.items():
        if not _HEADER.fullmatch(name) or "\r" in value or "\n" in value or not value.isascii():
            raise BadInput(
                f"the header {printable(name)!r} cannot be sent", hint="give name and value as they are to be sent"
            )
        if name.lower() in ("range", "host", "accept-encoding", "if-match", "if-range", "connection", "content-length"):
            raise BadInput(f"the header {name} is set by the download itself", hint="leave it out of headers")
    if user or password:
        word = base64.b64encode(f"{user}:{password}".encode()).decode()
        found["Authorization"] = f"Basic {word}"
    return tuple(found.items())
