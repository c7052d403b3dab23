# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A proxy in front of a real S3 server that does what networks, gateways and servers do when they fail.

Invariant: without a fault it passes everything on unchanged, the Host header too, so that signatures stay valid. A fault is a
function around one exchange: it may change the request, the answer, or break the line. Every exchange is remembered in ``seen``.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

CHUNK_BYTES = 64 << 10
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER with zero seconds: close sends RST


class HangUp(Exception):
    """Raised in the middle of an answer: close the connection, with a reset when asked to."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__(reset)
        self.reset = reset


@dataclass(frozen=True)
class Request:
    """One request as it came; header names are lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""
    authority: str = ""  # the server that was asked for, when this is used as a proxy of the environment

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def span(self) -> str:
        """The bytes asked for, ``first-last``, or empty for all."""
        return self.headers.get("range", "").removeprefix("bytes=")

    def without(self, header: str) -> Request:
        return replace(self, headers={name: value for name, value in self.headers.items() if name != header})


@dataclass
class Answer:
    """What goes back: ``body`` is read piece by piece, and may raise ``HangUp``."""

    status: int
    headers: dict[str, str]
    body: Iterator[bytes]


@dataclass
class Exchange:
    """What was asked, what was answered, and how many bytes of body were sent."""

    request: Request
    status: int = 0
    sent_bytes: int = 0


Upstream = Callable[[Request], Answer]
Fault = Callable[[Request, Upstream], Answer]


@dataclass
class _Planned:
    fault: Fault
    method: str
    path_end: str
    skip: int
    times: int

    def is_due(self, request: Request) -> bool:
        if request.method != self.method or not request.path.endswith(self.path_end) or self.times == 0:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


@dataclass
class FaultProxy:
    """The proxy; use it in a ``with``. ``url`` is where it listens."""

    upstream_host: str
    upstream_port: int
    tls: ssl.SSLContext | None = None
    seen: list[Exchange] = field(default_factory=list)
    _plans: list[_Planned] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    lines: set[socket.socket] = field(default_factory=set)
    _upstream: threading.local = field(default_factory=threading.local)

    def plan(self, fault: Fault, *, method: str = "GET", path_end: str = "", skip: int = 0, times: int = 1) -> None:
        """Let ``fault`` happen to the next ``times`` matching requests (-1: all), after ``skip`` of them."""
        self._plans.append(_Planned(fault, method, path_end, skip, times))

    def clear(self) -> None:
        """No faults any more, and nothing remembered."""
        self._plans.clear()
        self.seen.clear()

    def asked(self, method: str = "GET") -> list[Exchange]:
        return [one for one in self.seen if one.request.method == method]

    def sent_bytes(self) -> int:
        """Bytes of objects that went to the client."""
        return sum(one.sent_bytes for one in self.asked() if one.status in (200, 206))

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultProxy:
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        for line in list(self.lines):
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join()

    def answer(self, request: Request) -> Answer:
        """The answer with the fault that is due, if any."""
        with self._lock:
            due = next((one.fault for one in self._plans if one.is_due(request)), None)
        return due(request, self.forward) if due else self.forward(request)

    def forward(self, request: Request) -> Answer:
        """Ask the real server."""
        line = http.client.HTTPConnection(self.upstream_host, self.upstream_port, timeout=30)
        self._upstream.lines.append(line)
        line.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers.items():
            line.putheader(name, value)
        line.endheaders(request.body or None)
        got = line.getresponse()
        self._upstream.lines.append(got)
        headers = {name.lower(): value for name, value in got.getheaders() if name.lower() not in _HOP_BY_HOP}
        return Answer(got.status, headers, _pieces(got))

    @contextlib.contextmanager
    def upstream_lines(self) -> Iterator[None]:
        """Close what this thread asked the real server over."""
        self._upstream.lines = []
        try:
            yield
        finally:
            for line in self._upstream.lines:
                line.close()


def _pieces(got: http.client.HTTPResponse) -> Iterator[bytes]:
    while piece := got.read1(CHUNK_BYTES):
        yield piece


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = True
    request_queue_size = 128

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Handler)
        if proxy.tls is not None:
            self.socket = proxy.tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def shutdown_request(self, request: Any) -> None:
        """Close the connection; before a reset without the orderly end, which would be all that the other side sees."""
        if request.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_AT_ONCE)) == _AT_ONCE:
            self.close_request(request)
        else:
            super().shutdown_request(request)


class _Handler(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        self.server.proxy.lines.add(self.connection)
        try:
            while self._one_exchange():
                pass
        except HangUp as wish:
            if wish.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        except OSError:
            pass  # a client that hangs up is no news here
        finally:
            self.server.proxy.lines.discard(self.connection)

    def _one_exchange(self) -> bool:
        request = _read_request(self.rfile)
        if request is None:
            return False
        exchange = Exchange(request)
        self.server.proxy.seen.append(exchange)
        with self.server.proxy.upstream_lines():
            answer = self.server.proxy.answer(request)
            exchange.status = answer.status
            self._send(answer, exchange)
        # An answer without a length ends with the connection.
        return "content-length" in answer.headers

    def _send(self, answer: Answer, exchange: Exchange) -> None:
        lines = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if exchange.request.method == "HEAD":
            return
        for piece in answer.body:
            exchange.sent_bytes += len(piece)  # first: the client may have them before the next line runs
            self.wfile.write(piece)


def _read_request(stream: io.BufferedIOBase) -> Request | None:
    first = stream.readline(65536).decode("latin-1").split()
    if len(first) != 3 or not first[0].isalpha():
        return None
    headers = {name.lower(): value for name, value in http.client.parse_headers(stream).items()}
    length = int(headers.get("content-length", 0))
    body = stream.read(length) if length else b""
    if not first[1].startswith("http://"):
        return Request(first[0], first[1], headers, body)
    authority, _, path = first[1].removeprefix("http://").partition("/")
    return Request(first[0], f"/{path}", headers, body, authority)
