# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a guest's health: by a command, a TCP port that accepts connections, or a URL that answers.

Invariant: only the status of an answer is used, as a guest may be hostile. A check never takes longer than ``CHECK_SECONDS``, a command
not longer than the remaining time.
"""

from __future__ import annotations

import http.client
import json
import socket
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from .._errors import BadInput, FlydError, Unhealthy
from .._names import printable
from .http_status import status_of
from .processes import hook

CHECK_SECONDS = 5.0
_MAX_SHOWN = 300
_MAX_PORT = 65535


class Check(NamedTuple):
    """The checks: all that are given must pass. ``status`` is the expected status of the URL."""

    command: tuple[str, ...] = ()
    port: int = 0
    host: str = "127.0.0.1"
    url: str = ""
    status: int = 200

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> Check:
        """From the sub-options; raises ``BadInput`` for an invalid port or URL."""
        port, url = int(given.get("port") or 0), str(given.get("url") or "")
        if not 0 <= port <= _MAX_PORT:
            raise BadInput(f"health: port is {port}", hint=f"give a port from 1 to {_MAX_PORT}")
        parts = urllib.parse.urlsplit(url)
        if url and (parts.scheme not in ("http", "https") or not parts.hostname):
            raise BadInput(
                f"health: url is {printable(url)!r}, which is no http:// or https:// URL with a host",
                hint="give the whole URL, for example http://127.0.0.1:8080/health",
            )
        command = tuple(str(word) for word in given.get("command") or ())
        # What belongs to a check that is not given means nothing, and is not remembered.
        host = str(given.get("host") or "127.0.0.1") if port else "127.0.0.1"
        return cls(command, port, host, url, int(given.get("status") or 200) if url else 200)

    def to_json(self) -> dict[str, Any]:
        """What is asked, under the names of the sub-options; only what is given."""
        found: dict[str, Any] = {"command": list(self.command)} if self.command else {}
        if self.port:
            found.update(port=self.port, host=self.host)
        if self.url:
            found.update(url=self.url, status=self.status)
        return found


class Answer(NamedTuple):
    """The answer of one check."""

    check: str
    ok: bool
    text: str


class Report(NamedTuple):
    """The last answers, the number of checks, and how many of them failed."""

    answers: tuple[Answer, ...] = ()
    asked: int = 0
    failed: int = 0

    def to_json(self) -> list[dict[str, Any]]:
        """The last answers, for a result."""
        return [answer._asdict() for answer in self.answers]


class Watch(NamedTuple):
    """Timing in seconds: healthy for ``min_healthy`` without interruption, which begins within ``deadline``; checked every ``interval``."""

    min_healthy: float = 10.0
    deadline: float = 300.0
    interval: float = 2.0


def await_health(
    check: Check,
    watch: Watch,
    *,
    what: str,
    environment: Mapping[str, str],
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> Report:
    """Ask until ``what`` has been healthy for long enough; raises ``Unhealthy`` with the last answers when time is up."""
    begun, since, report = clock(), -1.0, Report()
    if not check.to_json():
        return report
    while True:
        answers = tuple(_ask(check, environment, max(1.0, begun + watch.deadline - clock())))
        ok = all(answer.ok for answer in answers)
        report = Report(answers, report.asked + 1, report.failed + (not ok))
        now = clock()
        since = (now if since < 0 else since) if ok else -1.0
        if ok and now - since >= watch.min_healthy:
            return report
        # What is healthy late may still reach its time on end; what is not by then is given up.
        if now - begun >= watch.deadline and not ok:
            raise _unhealthy(what, watch, report)
        if now - begun >= watch.deadline + watch.min_healthy:
            raise _unhealthy(what, watch, report)
        sleep(watch.interval)


def _unhealthy(what: str, watch: Watch, report: Report) -> Unhealthy:
    bad = [answer for answer in report.answers if not answer.ok] or list(report.answers)
    said = "; ".join(f"{answer.check}: {answer.text}" for answer in bad)
    return Unhealthy(
        f"{what} is not healthy within {watch.deadline:g} s: {said} ({report.failed} of {report.asked} checks failed)",
        hint="look at the guest's own log; a guest that starts slowly needs a larger healthy_deadline",
        asked=report.asked,
        failed=report.failed,
        health=json.dumps(report.to_json()),
    )


def _ask(check: Check, environment: Mapping[str, str], seconds: float) -> Iterator[Answer]:
    if check.command:
        yield _command(check, environment, seconds)
    if check.port:
        yield _port(check)
    if check.url:
        yield _url(check)


def _command(check: Check, environment: Mapping[str, str], seconds: float) -> Answer:
    name = f"command {printable(' '.join(check.command))}"
    try:
        done = hook.call(check.command, what="health: command", timeout_seconds=seconds, environment=environment)
    except BadInput:
        raise
    except FlydError as error:
        return Answer(name, False, error.msg)
    said = printable(done.output[-_MAX_SHOWN:], _MAX_SHOWN)
    return Answer(name, done.returncode == 0, f"ended with {done.returncode}" + (f": {said}" if said else ""))


def _port(check: Check) -> Answer:
    name = f"port {check.port} of {check.host}"
    try:
        with socket.create_connection((check.host, check.port), CHECK_SECONDS):
            return Answer(name, True, "accepts connections")
    except OSError as error:
        return Answer(name, False, _text(error))


def _url(check: Check) -> Answer:
    name = f"url {printable(check.url)}"
    try:
        found = status_of(check.url, CHECK_SECONDS)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(name, False, _text(error))
    return Answer(name, found == check.status, f"answers with {found}")


def _text(error: Exception) -> str:
    strerror = getattr(error, "strerror", None)
    return printable(str(strerror or error) or type(error).__name__, _MAX_SHOWN)
