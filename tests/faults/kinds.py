# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults themselves, to give to ``FaultProxy.plan``. Byte counts are of the body of one answer."""

from __future__ import annotations

import email.utils
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from .proxy import Answer, Fault, HangUp, Request, Upstream


def pieces_until(body: Iterator[bytes], at_byte: int) -> Iterator[bytes]:
    """The first ``at_byte`` bytes of ``body``."""
    left = at_byte
    for piece in body:
        if left <= 0:
            return
        yield piece[:left]
        left -= len(piece)


def around_body(change: Callable[[Iterator[bytes]], Iterator[bytes]]) -> Fault:
    """A fault that passes the request on and changes only the answer's body."""

    def fault(request: Request, upstream: Upstream) -> Answer:
        answer = upstream(request)
        return replace(answer, body=change(answer.body))

    return fault


def truncated(at_byte: int, *, reset: bool = False) -> Fault:
    """The line breaks after ``at_byte`` bytes, although more were announced."""

    def change(body: Iterator[bytes]) -> Iterator[bytes]:
        yield from pieces_until(body, at_byte)
        raise HangUp(reset=reset)

    return around_body(change)


def stalled(at_byte: int, seconds: float) -> Fault:
    """Silence after ``at_byte`` bytes; then the line is closed."""

    def change(body: Iterator[bytes]) -> Iterator[bytes]:
        yield from pieces_until(body, at_byte)
        time.sleep(seconds)
        raise HangUp

    return around_body(change)


def trickling(at_byte: int, every_seconds: float) -> Fault:
    """After ``at_byte`` bytes one byte at a time."""

    def change(body: Iterator[bytes]) -> Iterator[bytes]:
        left = at_byte
        for piece in body:
            yield piece[: max(0, left)]
            for offset in range(max(0, left), len(piece)):
                yield piece[offset : offset + 1]
                time.sleep(every_seconds)
            left -= len(piece)

    return around_body(change)


def corrupted(at_byte: int) -> Fault:
    """The right number of bytes, one of them wrong."""

    def change(body: Iterator[bytes]) -> Iterator[bytes]:
        at = 0
        for piece in body:
            if at <= at_byte < at + len(piece):
                damaged = bytearray(piece)
                damaged[at_byte - at] ^= 0xFF
                yield bytes(damaged)
            else:
                yield piece
            at += len(piece)

    return around_body(change)


def refused(
    status: int, code: str = "", *, message: str = "told by the fault proxy", headers: dict[str, str] | None = None
) -> Fault:
    """The answer of S3 for a refusal, as its API reference shows it; HEAD gets no body."""

    def fault(request: Request, upstream: Upstream) -> Answer:
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
        body = text.encode() if code else b""
        fields = {
            "content-type": "application/xml",
            "content-length": str(len(body)),
            "x-amz-request-id": "PROXY",
            **(headers or {}),
        }
        return Answer(status, fields, iter([body]))

    return fault


def listing_without_end() -> Fault:
    """A list whose pages hold nothing and always name a next one."""
    pages = itertools.count(1)

    def fault(request: Request, upstream: Upstream) -> Answer:
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>true</IsTruncated><NextContinuationToken>{next(pages)}</NextContinuationToken></ListBucketResult>"
        )
        fields = {"content-type": "application/xml", "content-length": str(len(text))}
        return Answer(200, fields, iter([text.encode()]))

    return fault


def skewed(seconds: float) -> Fault:
    """The server's clock differs: it refuses the signature's time."""

    def fault(request: Request, upstream: Upstream) -> Answer:
        date = email.utils.formatdate(time.time() + seconds, usegmt=True)
        return refused(403, "RequestTimeTooSkewed", headers={"date": date})(request, upstream)

    return fault


def before(action: Callable[[], object]) -> Fault:
    """Something happens at the server just before it sees the request."""

    def fault(request: Request, upstream: Upstream) -> Answer:
        action()
        return upstream(request)

    return fault


def announcing(**headers: str) -> Fault:
    """Headers that lie; ``content_length="10"`` and the like."""

    def fault(request: Request, upstream: Upstream) -> Answer:
        answer = upstream(request)
        return replace(
            answer, headers={**answer.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        )

    return fault


def endless(*, announced: bool = False) -> Fault:
    """A body that does not end, without a length or with one that is far too large."""

    def fault(request: Request, upstream: Upstream) -> Answer:
        answer = upstream(request)
        headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
        if announced:
            headers["content-length"] = str(1 << 50)
        return replace(answer, headers=headers, body=_forever(answer.body))

    return fault


def _forever(body: Iterator[bytes]) -> Iterator[bytes]:
    yield from body
    while True:
        yield bytes(64 << 10)


def without_ranges(request: Request, upstream: Upstream) -> Answer:
    """A server that does not know ranges and sends everything."""
    return upstream(request.without("range"))


def other_range(request: Request, upstream: Upstream) -> Answer:
    """A gateway that answers with other bytes than were asked for."""
    first, _, last = request.span.partition("-")
    moved = {**request.headers, "range": f"bytes={int(first) + 1}-{int(last)}"}
    return upstream(replace(request, headers=moved))


def gone(request: Request, upstream: Upstream) -> Answer:
    """The line is cut before any answer."""
    raise HangUp(reset=True)


def slowed(bytes_per_second: float) -> Fault:
    """A line that carries no more than that many bytes a second."""

    def change(body: Iterator[bytes]) -> Iterator[bytes]:
        begun, sent = time.monotonic(), 0
        for piece in body:
            yield piece
            sent += len(piece)
            time.sleep(max(0.0, begun + sent / bytes_per_second - time.monotonic()))

    return around_body(change)


def echoing_headers(request: Request, upstream: Upstream) -> Answer:
    """A server that repeats in its error what was signed and with what."""
    said = " ".join(request.headers.get(name, "")[-100:] for name in ("x-amz-security-token", "authorization"))
    return refused(403, "AccessDenied", message=said)(request, upstream)


def line(latency_seconds: float, bytes_per_second: float) -> Fault:
    """The same of a line that all connections share."""
    lock, paid_until = threading.Lock(), 0.0

    def pace(body: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal paid_until
        for piece in body:
            with lock:
                paid_until = due = max(paid_until, time.monotonic()) + len(piece) / bytes_per_second
            time.sleep(max(0.0, due - time.monotonic()))
            yield piece

    shared = around_body(pace)

    def fault(request: Request, upstream: Upstream) -> Answer:
        time.sleep(latency_seconds)
        return shared(request, upstream)

    return fault


def distant(latency_seconds: float, bytes_per_second: float) -> Fault:
    """A server far away: every answer takes its time, and each connection carries only so much."""
    pace = slowed(bytes_per_second)

    def fault(request: Request, upstream: Upstream) -> Answer:
        time.sleep(latency_seconds)
        return pace(request, upstream)

    return fault
