# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Health checks against real ports, servers and programs; time is simulated where waiting is what counts."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from module_utils._errors import BadInput, Unhealthy
from module_utils._host.health import Check, Report, Watch, await_health
from module_utils._host.http_status import status_of

AT_ONCE = Watch(0.0, 0.0, 1.0)


class Clock:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def ask(check: Check, watch: Watch = AT_ONCE, clock: Clock | None = None) -> Report:
    clock = clock or Clock()
    return await_health(
        check, watch, what="web", environment={"FLYD_DEVICE": "/dev/x"}, sleep=clock.sleep, clock=lambda: clock.now
    )


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(204 if self.path == "/health?deep=1" else 302)
        self.send_header("Location", "/health?deep=1")
        self.end_headers()

    def log_message(self, *_words: object) -> None:
        return


@pytest.fixture
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_port_that_accepts(port: int) -> None:
    assert [answer.ok for answer in ask(Check(port=port)).answers] == [True]


def test_a_port_that_refuses_is_named_with_the_reason(port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = server.getsockname()[1]
    with pytest.raises(Unhealthy, match=rf"port {closed} of 127\.0\.0\.1: Connection refused .1 of 1 checks failed"):
        ask(Check(port=closed))


@pytest.mark.parametrize(
    ("path", "status", "ok"), [("/health?deep=1", 204, True), ("/health?deep=1", 200, False), ("/", 302, True)]
)
def test_a_url_and_its_status_and_no_redirection(url: str, path: str, status: int, ok: bool) -> None:
    check = Check(url=url + path, status=status)
    if ok:
        assert ask(check).answers[0].ok
    else:
        with pytest.raises(Unhealthy, match="answers with 204"):
            ask(check)


def test_a_url_that_hangs_up(port: int) -> None:
    with pytest.raises(Unhealthy, match="url http"):
        ask(Check(url="http://127.0.0.1:1/"))


def test_a_command_and_its_environment() -> None:
    assert ask(Check(command=("sh", "-c", 'test "$FLYD_DEVICE" = /dev/x'))).answers[0].ok
    with pytest.raises(Unhealthy, match="ended with 7: not PONG"):
        ask(Check(command=("sh", "-c", "echo not PONG; exit 7")))


def test_all_that_is_given_must_hold(port: int) -> None:
    with pytest.raises(Unhealthy) as caught:
        ask(Check(command=("false",), port=port))
    assert "port" not in caught.value.msg
    assert caught.value.details["asked"] == 1


def test_nothing_to_ask_is_healthy_at_once() -> None:
    clock = Clock()
    assert ask(Check(), Watch(10.0, 300.0, 2.0), clock) == Report()
    assert clock.now == 0


def test_it_must_be_healthy_without_interruption(tmp_path: Path) -> None:
    """Well at 0, 2, not at 4, well from 6 on: the ten seconds begin at 6."""
    clock, numbers = Clock(), itertools.count()
    state = tmp_path / "well"

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        state.unlink(missing_ok=True)
        if next(numbers) != 1:
            state.touch()

    state.touch()
    check = Check(command=("test", "-e", str(state)))
    report = await_health(
        check, Watch(10.0, 300.0, 2.0), what="web", environment={}, sleep=sleep, clock=lambda: clock.now
    )
    assert (clock.now, report.failed) == (16.0, 1)


def test_one_that_is_well_at_the_deadline_may_complete_its_time(tmp_path: Path) -> None:
    clock = Clock()
    state = tmp_path / "well"

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.now >= 20:
            state.touch()

    check, watch = Check(command=("test", "-e", str(state))), Watch(10.0, 20.0, 2.0)
    await_health(check, watch, what="web", environment={}, sleep=sleep, clock=lambda: clock.now)
    assert clock.now == 30.0


def test_one_that_comes_and_goes_ends_all_the_same(tmp_path: Path) -> None:
    clock = Clock()
    state = tmp_path / "well"

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        state.unlink() if state.exists() else state.touch()

    check, watch = Check(command=("test", "-e", str(state))), Watch(10.0, 20.0, 2.0)
    with pytest.raises(Unhealthy):
        await_health(check, watch, what="web", environment={}, sleep=sleep, clock=lambda: clock.now)
    assert clock.now <= 32


@pytest.mark.parametrize("given", [{"port": 70000}, {"port": -1}, {"url": "ftp://server"}, {"url": "http://"}])
def test_a_check_that_cannot_be_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="health: "):
        Check.parse(given)


def test_a_check_is_remembered_as_it_was_given() -> None:
    given = {"command": ["redis-cli", "ping"], "port": 6379, "host": "127.0.0.1", "url": "https://h/", "status": 204}
    assert Check.parse(given).to_json() == given
    assert Check.parse(Check.parse(given).to_json()) == Check.parse(given)
    assert Check.parse({"host": "h", "status": 204}).to_json() == {}


@contextlib.contextmanager
def server_that_sends(chunks: Iterable[bytes], pause_seconds: float) -> Iterator[str]:
    """The URL of a server that answers the first request with ``chunks``, one after the other, until the client has gone."""

    def answer() -> None:
        with contextlib.suppress(OSError), server.accept()[0] as client:
            client.recv(1 << 16)
            for chunk in chunks:
                client.sendall(chunk)
                time.sleep(pause_seconds)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    ("start", "again"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"X"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 100 Continue\r\n", b"a: b\r\n"),
    ],
    ids=["status", "header", "interim answers", "headers of an interim answer"],
)
def test_a_guest_that_answers_without_end_does_not_hold_the_check(start: bytes, again: bytes) -> None:
    """Each byte comes in time for the next read."""
    with server_that_sends(itertools.chain([start], itertools.repeat(again)), 0.01) as url, pytest.raises(TimeoutError):
        status_of(url, 0.5)


def test_a_tls_handshake_that_does_not_end_is_given_up() -> None:
    with (
        server_that_sends(itertools.repeat(b"\x16\x03\x03\x40\x00" + bytes(100)), 0.01) as url,
        pytest.raises((TimeoutError, ssl.SSLError)),
    ):
        status_of(url.replace("http:", "https:"), 0.5)


def test_a_port_and_a_query_are_sent_as_the_url_has_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with ThreadPoolExecutor(1) as beside:
            asked = beside.submit(status_of, f"http://user@127.0.0.1:{port}?a=b", 60)
            with server.accept()[0] as client:
                request = client.recv(1 << 16).decode()
                client.sendall(b"HTTP/1.1 503 No\r\n\r\n")
            assert asked.result() == 503
    assert request.startswith("GET /?a=b HTTP/1.1\r\n")
    assert f"\r\nHost: 127.0.0.1:{port}\r\n" in request
