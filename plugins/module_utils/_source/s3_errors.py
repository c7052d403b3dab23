# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Map each error of S3 and of the connection to one kind, one message, one hint.

Invariant: an unsuccessful answer becomes exactly one ``FlydError``, chosen by the tables below and nowhere else, and no
message holds a credential, a signature or a URL's query. The codes are those of the "Error responses" page of the Amazon S3
API reference.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .._errors import BadInput, Detail, FlydError, Transient, Unsupported
from .._names import printable

_SIGNATURE = re.compile(r"(signature\W{1,3})[0-9A-Za-z%+/=]{16,}", re.IGNORECASE)
MAX_RETRY_AFTER_SECONDS = 24 * 3600.0
PASSES = "it is usually temporary: run again later, or raise retries; when it stays, look at the server"


class ObjectChanged(Transient):
    """The object behind the key is no longer the one that was announced: begin again with a new HEAD."""


class RangesRefused(Unsupported):
    """The server sends whole objects only."""


class Where(NamedTuple):
    """What was asked of whom; ``secrets`` are struck from whatever the server says. ``read_timeout_seconds`` ends a silence, 0 if unknown."""

    endpoint: str
    bucket: str
    key: str
    secrets: tuple[str, ...] = ()
    read_timeout_seconds: float = 0

    def __repr__(self) -> str:
        return f"Where({self.endpoint!r}, {self.bucket!r}, {self.key!r})"

    def __str__(self) -> str:
        bucket = f" in bucket {self.bucket}" if self.bucket else ""
        return f"{printable(self.key)}{bucket} at {self.endpoint}"


class Fault(NamedTuple):
    """A row of the table: the class of the error, what is wrong (of ``{it}``), and what to do."""

    error: type[FlydError]
    what: str
    hint: str


_MISSING = Fault(
    BadInput,
    "there is no object {it}",
    "compare the key with the bucket's list; keys are exact, capitals and extension too",
)
_NO_BUCKET = Fault(
    BadInput,
    "the bucket {bucket} does not exist at {endpoint}",
    "check bucket, and endpoint_url when the bucket is not on AWS",
)
_DENIED = Fault(
    BadInput,
    "access is denied to {it}",
    "these credentials need s3:GetObject (and kms:Decrypt for an encrypted object) on the key; S3 says the same of a missing object to who may not list, "
    "and of a requester pays bucket without request_payer: requester",
)
_KEYS = Fault(
    BadInput,
    "the credentials are not accepted for {it}",
    "check access_key, secret_key and that they belong to this server",
)
_EXPIRED = Fault(
    BadInput, "the credentials have expired for {it}", "get a new session_token, or let the instance's role give it"
)
_CLOCK = Fault(
    Unsupported,
    "the clocks of this host and of the server differ too much for {it}",
    "set this host's clock (`timedatectl`, chrony)",
)
_REGION = Fault(BadInput, "the bucket lives in another region: {it}", "set region to the bucket's own")
_REDIRECT = Fault(
    BadInput,
    "the server sends the request elsewhere for {it}",
    "set region and endpoint_url to the bucket's own; redirects are not followed",
)
_ARCHIVED = Fault(
    BadInput,
    "the object is archived: {it}",
    "restore it from its cold storage class first (`aws s3api restore-object`)",
)
_BUSY_SERVER = Fault(Transient, "the server asks to slow down for {it}", PASSES)
_BROKEN_SERVER = Fault(Transient, "the server failed on {it}", PASSES)
_CHANGED = Fault(
    ObjectChanged,
    "the object was replaced while it was read: {it}",
    "run again; publish new content under a new key to avoid this",
)
_REFUSED = Fault(
    BadInput,
    "the server refuses the request for {it}",
    "check key, bucket and endpoint_url; the server's code says more. An object that was uploaded with SSE-C needs its sse_customer_key, "
    "and any other none",
)
_NOT_IMPLEMENTED = Fault(
    Unsupported,
    "the server does not implement what is needed for {it}",
    "update the server behind endpoint_url, or use another: ranges and If-Match are needed",
)

CODES: dict[str, Fault] = {
    **dict.fromkeys(("NoSuchKey", "NoSuchVersion", "MethodNotAllowed"), _MISSING),
    "NoSuchBucket": _NO_BUCKET,
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "AccountProblem", "UnauthorizedAccess"), _DENIED),
    **dict.fromkeys(
        (
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "InvalidSecurity",
            "NotSignedUp",
            "MissingSecurityHeader",
            "InvalidToken",
        ),
        _KEYS,
    ),
    **dict.fromkeys(("ExpiredToken", "TokenRefreshRequired"), _EXPIRED),
    **dict.fromkeys(("RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"), _CLOCK),
    **dict.fromkeys(
        (
            "PermanentRedirect",
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
            "IncorrectEndpoint",
        ),
        _REGION,
    ),
    **dict.fromkeys(("TemporaryRedirect", "Redirect"), _REDIRECT),
    "InvalidObjectState": _ARCHIVED,
    **dict.fromkeys(
        ("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests"), _BUSY_SERVER
    ),
    **dict.fromkeys(("InternalError", "ServiceUnavailable", "RequestTimeout", "OperationAborted"), _BROKEN_SERVER),
    **dict.fromkeys(("PreconditionFailed", "InvalidRange", "ConditionalRequestConflict"), _CHANGED),
    "NotImplemented": _NOT_IMPLEMENTED,
}
STATUSES: dict[int, Fault] = {
    **dict.fromkeys((301, 302, 303, 307, 308), _REDIRECT),
    401: _KEYS,
    403: _DENIED,
    404: _MISSING,
    405: _MISSING,
    408: _BROKEN_SERVER,
    **dict.fromkeys((409, 412, 416), _CHANGED),
    429: _BUSY_SERVER,
    501: _NOT_IMPLEMENTED,
}


# Of a web server, which has no bucket and takes no keys of S3.
_WEB_HINTS: dict[str, str] = {
    _MISSING.what: "check the URL; a server may say the same of what it does not show without a password",
    _DENIED.what: "a presigned URL holds for some time only: make a new one; else see url_username, url_password and headers",
    _KEYS.what: "give url_username and url_password, or the header that the server wants",
    _REFUSED.what: "check the URL; a presigned one that has expired is refused so, too",
    _REDIRECT.what: "give the URL that the server sends the request to",
}


def from_answer(status: int, code: str, said: str, headers: Mapping[str, str], where: Where) -> FlydError:
    """The error for an answer of S3 with HTTP ``status`` and the ``code`` and message of its XML body, either may be empty."""
    fault = CODES.get(code) or STATUSES.get(status) or (_BROKEN_SERVER if status >= 500 else _REFUSED)
    facts: dict[str, Detail] = {
        "http_status": status,
        "code": printable(code, 64),
        "endpoint": where.endpoint,
        "bucket": where.bucket,
    }
    facts["key"] = printable(where.key)
    if headers.get("x-amz-request-id"):
        facts["request_id"] = printable(headers["x-amz-request-id"], 64)
    pause = retry_after_seconds(headers.get("retry-after", ""))
    if pause is not None:
        facts["retry_after_seconds"] = pause
    asides = [f"HTTP {status}" + (f" {printable(code, 64)}" if code and not code.isdigit() else "")]
    asides += _asides(fault, headers, facts)
    if said:
        asides.append(printable(redacted(said, where.secrets)))
    hint = fault.hint if where.bucket else _WEB_HINTS.get(fault.what, fault.hint)
    error = fault.error(
        f"{fault.what.format(it=where, bucket=where.bucket, endpoint=where.endpoint)} ({'; '.join(asides)})",
        hint=hint,
    )
    error.details.update(facts)
    return error


def _asides(fault: Fault, headers: Mapping[str, str], facts: dict[str, Detail]) -> list[str]:
    region = headers.get("x-amz-bucket-region", "")
    if fault in (_REGION, _REDIRECT) and region:
        facts["region"] = printable(region, 32)
        return [f"the bucket is in {printable(region, 32)}"]
    if fault is _CLOCK and headers.get("date"):
        parsed = email.utils.parsedate_tz(headers["date"])
        if parsed is not None:
            ahead = time.time() - email.utils.mktime_tz(parsed)
            return [f"this host's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's"]
    return []


def retry_after_seconds(value: str) -> float | None:
    """The wait of a Retry-After header (RFC 9110, 10.2.3): seconds or a date; ``None`` when there is none that makes sense."""
    if re.fullmatch(r"\s*[0-9]+\s*", value):
        return min(float(value), MAX_RETRY_AFTER_SECONDS)
    parsed = email.utils.parsedate_tz(value) if value else None
    if parsed is None:
        return None
    return min(max(0.0, email.utils.mktime_tz(parsed) - time.time()), MAX_RETRY_AFTER_SECONDS)


def redacted(text: str, secrets: Iterable[str]) -> str:
    """``text`` without any of ``secrets`` and without signatures."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return _SIGNATURE.sub(r"\1***", text)


def no_credentials() -> FlydError:
    """The error for a host that has nothing to sign with."""
    return BadInput(
        "no credentials for S3 were found on this host",
        hint="give access_key and secret_key or a profile, attach a role to the instance, or set anonymous for a public bucket",
        code="NoCredentials",
    )
