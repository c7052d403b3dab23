# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The status with which a URL answers, within a time that the server cannot extend.

A time-out of http.client limits each read, so a server that sends a byte now and then, or one interim answer after another, would hold the
caller for as long as it likes. Here the connection is shut down when the time is over.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator


def status_of(url: str, seconds: float) -> int:
    """Ask once (GET, no proxy, no redirection); raises ``OSError``, ``http.client.HTTPException`` or ``ValueError``."""
    parts, until = urllib.parse.urlsplit(url), time.monotonic() + seconds
    host, is_tls = str(parts.hostname), parts.scheme == "https"
    connection = http.client.HTTPConnection(host, parts.port or (443 if is_tls else 80))
    sock = socket.create_connection((host, connection.port), seconds)
    try:
        if is_tls:
            sock = ssl.create_default_context().wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        with _shut_down_after(sock, until - time.monotonic()):
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            connection.sock = sock
            path = parts.path or "/"
            connection.request("GET", f"{path}?{parts.query}" if parts.query else path, headers=_host_header(parts))
            return connection.getresponse().status
    finally:
        sock.close()


def _host_header(parts: urllib.parse.SplitResult) -> dict[str, str]:
    """As the URL names it: without a port that was not given, and without a user."""
    return {"Host": parts.netloc.rpartition("@")[2]}


@contextlib.contextmanager
def _shut_down_after(sock: socket.socket, seconds: float) -> Iterator[None]:
    """Shut ``sock`` down after ``seconds``; raises ``TimeoutError`` then."""
    is_over = threading.Event()

    def end() -> None:
        is_over.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, seconds), end)
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        if is_over.is_set():
            raise TimeoutError("timed out") from error
        raise
    else:
        if is_over.is_set():  # the end of what was sent may be that of the header
            raise TimeoutError("timed out")
    finally:
        timer.cancel()
        timer.join()
