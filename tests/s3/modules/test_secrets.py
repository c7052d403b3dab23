# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No secret of a URL is in what a run leaves: its output, the log, the database, the host's journal; whether it succeeds or fails."""

from __future__ import annotations

import http.server
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.s3.conftest import Stored, served
from tests.s3.module import Module

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="modules refuse to run as another user than root")
SIGNATURE, TOKEN, PASSWORD = "f00dfeedf00dfeed", "token+of/a=session", "hush-hush-word"
QUERY = f"?X-Amz-Signature={SIGNATURE}&X-Amz-Security-Token=token%2Bof%2Fa%3Dsession"
SECRETS = (SIGNATURE, TOKEN, "token%2Bof%2Fa%3Dsession", PASSWORD)


@pytest.fixture
def stored(store: Callable[..., Stored]) -> Stored:
    return store(1000)


@pytest.fixture
def journal(module: Module, tmp_path: Path) -> Path:
    """Where everything is written that the module sends to the host's journal."""
    site, path = tmp_path / "journalling", tmp_path / "journal"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        f"import syslog\nsyslog.syslog = lambda *sent: print(*sent, file=open({str(path)!r}, 'a'))\n"
    )
    module.environment["PYTHONPATH"] = str(site)
    path.touch()
    return path


@pytest.fixture
def left(module: Module, journal: Path) -> Callable[[], str]:
    """All that the runs so far have left."""

    def read() -> str:
        files = [path for path in module.state.rglob("*") if path.is_file() and path.parent.name != "archives"]
        return "".join(path.read_bytes().decode("latin-1") for path in (*files, journal))

    return read


def run(module: Module, left: Callable[[], str], **options: Any) -> dict[str, Any]:
    """The result of a run which has shown no secret."""
    with module.running(**options) as process:
        said, complained = process.communicate(timeout=120)
    shown = said + complained + left()
    assert "Invoked with" in left(), "the options are sent to the journal"
    assert [secret for secret in SECRETS if secret in shown or secret in json.dumps(shown)] == []
    result: dict[str, Any] = json.loads(said.splitlines()[-1])
    return result


def test_a_presigned_checksum_file_that_agrees_contradicts_or_is_missing(
    module: Module, stored: Stored, website: str, tmp_path: Path, left: Callable[[], str]
) -> None:
    named: dict[str, Any] = {"key": stored.key.value, "checksum": f"{website}/sums{QUERY}"}
    assert run(module, left, **named)["error_kind"] == "bad_input"
    (tmp_path / "sums").write_text(f"{'0' * 64}  {stored.key}\n")
    assert run(module, left, **named)["error_kind"] == "untrusted"
    (tmp_path / "sums").write_text("<html>")
    assert run(module, left, **named)["error_kind"] == "untrusted"
    (tmp_path / "sums").write_text(f"{stored.sha256}  {stored.key}\n")
    first = run(module, left, **named)
    assert (first["trust"], first["invocation"]["module_args"]["checksum"]) == ("sidecar", f"{website}/sums?***")
    assert run(module, left, **named)["changed"] is False
    (tmp_path / "sums").write_text(f"{'0' * 64}  {stored.key}\n")
    assert run(module, left, **named)["error_kind"] == "untrusted"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"checksum": f"https://user:{PASSWORD}@127.0.0.1:1/sums{QUERY}"}, "bad_input"),
    ({"checksum": f"https://127.0.0.1:1/sums{QUERY}"}, "transient"),
    ({"checksum": f"https://127.0.0.1:1/su ms{QUERY}"}, "bad_input"),
    ({"checksum": f"ftp://user:{PASSWORD}@127.0.0.1/sums"}, "bad_input"),
    ({"checksum": f"s3://bucket/sums{QUERY}"}, "bad_input"),
    ({"checksum": f"sums{QUERY}"}, "bad_input"),
    ({"endpoint_url": f"https://user:{PASSWORD}@127.0.0.1"}, "bad_input"),
    ({"endpoint_url": f"https://127.0.0.1/{QUERY}"}, "bad_input"),
    ({"endpoint_url": f"user:{PASSWORD}@127.0.0.1"}, "bad_input"),
    ({"bucket": f"https://user:{PASSWORD}@127.0.0.1/images"}, "bad_input"),
    ({"key": f"https://127.0.0.1/images/a.tar{QUERY}"}, "bad_input"),
    ({"key": f"images/a.tar{QUERY}"}, "bad_input"),
    ({"ca_bundle": f"/https://user:{PASSWORD}@h/"}, "bad_input"),
    ({"region": f"https://user:{PASSWORD}@h/"}, "bad_input"),
    ({"profile": f"https://user:{PASSWORD}@h"}, "bad_input"),
    ({"checksum": f"https://127.0.0.1:1/sums{QUERY}", "checksum_policy": f"https://h/{QUERY}"}, "bad_input"),
    ({"checksum": f"https://127.0.0.1:1/sums{QUERY}", "no_such_option": f"https://h/{QUERY}"}, "bad_input"),
]


def test_refused_options_with_a_secret_some_of_them_by_ansible_itself(
    module: Module, stored: Stored, left: Callable[[], str]
) -> None:
    given = {"key": stored.key.value, "retries": 0, "connect_timeout": 2}
    steps = [{**given, **refused} for refused, _kind in REFUSED]
    said, complained = module.run_all(steps)
    shown = said + complained + left()
    assert [secret for secret in SECRETS if secret in shown] == []
    results = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [(one["failed"], one.get("error_kind")) for one in results] == [(True, kind) for _refused, kind in REFUSED]


def test_the_password_of_a_proxy(module: Module, stored: Stored, left: Callable[[], str]) -> None:
    module.environment["HTTPS_PROXY"] = f"http://user:{PASSWORD}@127.0.0.1:1"
    failed = run(module, left, key=stored.key.value, checksum=f"https://rel.example/sums{QUERY}", retries=0)
    assert failed["error_kind"] == "transient"


@pytest.fixture
def redirecting(website: str) -> Iterator[str]:
    """A web server that sends every request on, with a signature of its own, to where there is nothing."""

    class Redirects(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"{website}/nothing{QUERY}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with served(Redirects) as url:
        yield url


def test_the_signature_of_a_redirect(module: Module, stored: Stored, left: Callable[[], str], redirecting: str) -> None:
    failed = run(module, left, key=stored.key.value, checksum=f"{redirecting}/sums?a=b")
    assert failed["error_kind"] == "bad_input"
