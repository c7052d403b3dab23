# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One HEAD, and the GET of a checksum file, without boto3: all that a run with nothing to do needs.

Importing boto3 and creating a client takes an order of magnitude longer than the request, and requires a restart in another
interpreter if Ansible's own does not have it.

Invariant: the answer is None for anything but a plain 200 about the object, and whenever the request depends on more than the options
(a profile, an instance's role, a proxy, an endpoint in the environment): the full client is then used, and its answer is final.
Source of the signature: Amazon S3 API reference, "Authenticating Requests (AWS Signature Version 4)".
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import os
import re
from typing import TYPE_CHECKING, Callable, TypeVar
from urllib.parse import quote, urlsplit

from ..._errors import FlydError
from ..._names import ObjectKey
from ..objects import ObjectInfo, announced
from ..options import S3Options
from ..s3_errors import Where

if TYPE_CHECKING:
    from http.client import HTTPConnection, HTTPResponse

T = TypeVar("T")

_DEFAULT_REGION = "us-east-1"  # botocore's, for a server of one's own
_NO_BODY = hashlib.sha256(b"").hexdigest()
_PROXIES = [form(name) for name in ("http_proxy", "https_proxy", "all_proxy") for form in (str.lower, str.upper)]
_OTHER_WORDS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT")
_AWS_REGION = re.compile(
    r"(af|ap|ca|eu|il|me|mx|sa|us)-(north|south|east|west|central|northeast|southeast|northwest|southwest)-[0-9]"
)


def light_head(options: S3Options, key: ObjectKey) -> ObjectInfo | None:
    """What is behind ``key``, or None when the full client must be asked."""
    query = f"versionId={quote(options.version_id, safe='-._~')}" if options.version_id else ""
    return _answer(options, "HEAD", key, lambda answer: _announced(options, key, answer), query)


def light_get(options: S3Options, key: ObjectKey, limit_bytes: int) -> bytes | None:
    """The bytes of a small object, or None when the full client must be asked; so it must when there are more than ``limit_bytes``."""

    def whole(answer: HTTPResponse) -> bytes | None:
        from ..body import read_within

        content = read_within(answer.read1, limit_bytes, key)
        return content if len(content) <= limit_bytes and not answer.length else None

    return _answer(options, "GET", key, whole)


def _answer(
    options: S3Options, method: str, key: ObjectKey, read: Callable[[HTTPResponse], T | None], query: str = ""
) -> T | None:
    """What ``read`` makes of the answer to a request, or None when it is no success or the request cannot be made here."""
    place, has_identity = _place(options), options.anonymous or bool(options.access_key and options.secret_key)
    if options.role_arn or options.config or options.dualstack:
        return None
    if place is None or not has_identity or any(os.environ.get(name) for name in _PROXIES):
        return None
    try:
        return _ask(options, method, (key.value, query), place, read)
    except (OSError, ValueError, FlydError):
        return None
    except Exception as error:
        if type(error).__module__ != "http.client":
            raise
        return None


def _place(options: S3Options) -> tuple[str, str, str] | None:
    """Scheme, host and the beginning of the path, when the options alone say where the bucket is."""
    if options.endpoint_url:
        parts = urlsplit(options.endpoint_url)
        if options.addressing == "virtual" or options.bucket.startswith("arn:"):
            return None
        return parts.scheme, parts.netloc, f"{parts.path.rstrip('/')}/{quote(options.bucket, safe='-._~')}"
    is_special = not options.is_plain_bucket or options.bucket.endswith("--x-s3")
    if is_special or options.addressing == "path" or "." in options.bucket or not _AWS_REGION.fullmatch(options.region):
        return None
    configured = os.environ.get("AWS_CONFIG_FILE") or os.path.expanduser("~/.aws/config")
    if any(os.environ.get(name) for name in _OTHER_WORDS) or os.path.exists(configured):
        return None  # each may send botocore elsewhere
    return "https", f"{options.bucket}.s3.{options.region}.amazonaws.com", ""


def _ask(
    options: S3Options,
    method: str,
    target: tuple[str, str],
    place: tuple[str, str, str],
    read: Callable[[HTTPResponse], T | None],
) -> T | None:
    """``target`` is the key and the query of the request, encoded as it is signed."""
    (key, query), (scheme, host, prefix) = target, place
    path = f"{prefix}/{quote(key, safe='/-._~')}"
    headers = {"host": host, "x-amz-checksum-mode": "ENABLED", **_extra(options)}
    if not options.anonymous:
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        headers = signed(options, method, path, headers, now, query)
    connection = _connection(options, scheme, host)
    try:
        connection.request(method, f"{path}?{query}" if query else path, headers=headers)
        answer = connection.getresponse()
        return read(answer) if answer.status == 200 else None
    finally:
        connection.close()


def _extra(options: S3Options) -> dict[str, str]:
    """What botocore would send along, too."""
    found = {"x-amz-request-payer": "requester"} if options.requester_pays else {}
    if options.sse_key:
        begin, key = "x-amz-server-side-encryption-customer-", options.sse_key
        found[f"{begin}algorithm"] = "AES256"
        found[f"{begin}key"] = base64.b64encode(key).decode()
        # The API asks for it to find bytes that changed on their way: no secrecy hangs on it.
        found[f"{begin}key-md5"] = base64.b64encode(hashlib.md5(key, usedforsecurity=False).digest()).decode()
    return found


def _announced(options: S3Options, key: ObjectKey, answer: HTTPResponse) -> ObjectInfo | None:
    if answer.headers.get("Content-Encoding"):
        return None  # the full client sees to it that the bytes come as they are stored
    found = {
        "ETag": answer.headers.get("ETag"),
        "ContentLength": int(answer.headers.get("Content-Length", "")),
        "VersionId": answer.headers.get("x-amz-version-id", ""),
        "ChecksumSHA256": answer.headers.get("x-amz-checksum-sha256", ""),
        "ChecksumType": answer.headers.get("x-amz-checksum-type"),
        "LastModified": answer.headers.get("Last-Modified"),
    }
    return announced(key.value, found, Where(options.endpoint, options.bucket, key.value))


def _connection(options: S3Options, scheme: str, place: str) -> HTTPConnection:
    import http.client

    if scheme == "http":
        return http.client.HTTPConnection(place, timeout=options.connect_timeout_seconds)
    import ssl

    context = ssl.create_default_context(cafile=options.ca_bundle or None)
    if not options.validate_certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(place, timeout=options.connect_timeout_seconds, context=context)


def signed(
    options: S3Options, method: str, path: str, headers: dict[str, str], now: str, query: str = ""
) -> dict[str, str]:
    """``headers`` (names in lower case) with those that sign the request.

    ``path`` and ``query`` (at most one parameter) are encoded, ``now`` as 20130524T000000Z.
    """
    token = {"x-amz-security-token": options.session_token} if options.session_token else {}
    every = {**headers, "x-amz-content-sha256": _NO_BODY, "x-amz-date": now, **token}
    names = ";".join(sorted(every))
    lines = "".join(f"{name}:{every[name]}\n" for name in sorted(every))
    request = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{_NO_BODY}"
    region = options.region or _DEFAULT_REGION
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    secret = f"AWS4{options.secret_key}".encode()
    for word in (now[:8], region, "s3", "aws4_request"):
        secret = hmac.digest(secret, word.encode(), "sha256")
    signature = hmac.new(secret, text.encode(), "sha256").hexdigest()
    credential = f"AWS4-HMAC-SHA256 Credential={options.access_key}/{scope}"
    return {**every, "authorization": f"{credential},SignedHeaders={names},Signature={signature}"}
