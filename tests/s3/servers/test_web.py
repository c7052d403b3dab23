# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A checksum file on a web server: whole, soon, bounded, and over TLS all the way when it was asked for over TLS."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from module_utils._errors import BadInput, ErrorKind, FlydError, Transient, Untrusted
from module_utils._source import body
from module_utils._source.options import S3Options
from module_utils._source.web.web import read_url
from tests.faults import kinds
from tests.faults.proxy import Fault, FaultProxy

CONTENT = b"0123456789abcdef" * 100
LIMIT_BYTES = 10_000
OPTIONS = S3Options("images", anonymous=True, read_timeout_seconds=0.5)


@pytest.fixture
def port(website: str, tmp_path: Path) -> int:
    """Of a web server that has the file."""
    (tmp_path / "sums").write_bytes(CONTENT)
    return urlsplit(website).port or 0


@pytest.fixture
def web(port: int) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", port) as running:
        yield running


@pytest.fixture
def safe_web(port: int, certificate: Path) -> Iterator[FaultProxy]:
    """The same over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with FaultProxy("127.0.0.1", port, tls=context) as running:
        yield running


def refusal(url: str, options: S3Options = OPTIONS, limit_bytes: int = LIMIT_BYTES) -> FlydError:
    with pytest.raises(FlydError) as caught:
        read_url(options, url, limit_bytes)
    assert "secret" not in f"{caught.value} {caught.value.hint} {caught.value.details}"
    return caught.value


def test_what_is_there_is_read_whole(web: FaultProxy) -> None:
    assert read_url(OPTIONS, f"{web.url}/sums", LIMIT_BYTES) == CONTENT
    assert read_url(OPTIONS, f"{web.url}/sums", len(CONTENT)) == CONTENT


@pytest.mark.parametrize("announced", [False, True], ids=["without a length", "with a length of its own"])
def test_no_more_than_the_limit_is_read(web: FaultProxy, announced: bool) -> None:
    assert isinstance(refusal(f"{web.url}/sums", limit_bytes=len(CONTENT) - 1), BadInput)
    web.plan(kinds.endless(announced=announced))
    assert isinstance(refusal(f"{web.url}/sums"), BadInput)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (kinds.truncated(500), "broke"),
        (kinds.truncated(500, reset=True), "Connection reset"),
        (kinds.stalled(500, 1.0), "no bytes for"),
        (kinds.gone, "Connection reset"),
        (kinds.refused(503), "failed on"),
    ],
    ids=["cut", "reset", "silence", "no answer", "503"],
)
def test_transient_errors_are_reported_as_such(web: FaultProxy, fault: Fault, says: str) -> None:
    web.plan(fault)
    error = refusal(f"{web.url}/sums?token=secret")
    assert (error.kind, error.retryable) == (ErrorKind.TRANSIENT, True)
    assert says in error.msg


def test_a_trickle_is_not_waited_for(web: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "_WITHIN_SECONDS", 0.3)
    web.plan(kinds.trickling(0, every_seconds=0.02))
    begun = time.monotonic()
    assert isinstance(refusal(f"{web.url}/sums"), Transient)
    assert time.monotonic() - begun < 5


# TLS, and redirects


def sent_on(location: str) -> Fault:
    return kinds.refused(302, headers={"location": location})


def test_a_redirect_is_followed(web: FaultProxy, safe_web: FaultProxy, certificate: Path) -> None:
    options = S3Options("images", anonymous=True, ca_bundle=str(certificate))
    web.plan(sent_on(f"{safe_web.url}/sums"))
    safe_web.plan(sent_on(f"{safe_web.url}/sums"))
    assert read_url(options, f"{web.url}/old", LIMIT_BYTES) == CONTENT
    assert len(safe_web.seen) == 2


def test_a_redirect_away_from_tls_is_not_followed(web: FaultProxy, safe_web: FaultProxy, certificate: Path) -> None:
    safe_web.plan(sent_on(f"{web.url}/sums?token=secret"))
    options = S3Options("images", anonymous=True, ca_bundle=str(certificate))
    error = refusal(f"{safe_web.url}/old?token=secret", options)
    assert isinstance(error, Untrusted)
    assert "no https:// URL" in error.msg
    assert web.seen == []


@pytest.mark.parametrize("location", ["ftp://127.0.0.1:9/sums", "file:///etc/hostname"])
def test_a_redirect_to_anything_but_the_web_is_not_followed(web: FaultProxy, location: str) -> None:
    web.plan(sent_on(location))
    assert not refusal(f"{web.url}/old").retryable


def test_redirects_without_end_are_refused(web: FaultProxy) -> None:
    web.plan(sent_on(f"{web.url}/sums"), times=-1)
    assert isinstance(refusal(f"{web.url}/sums"), BadInput)
    assert len(web.seen) <= 11


def test_a_certificate_is_looked_at_as_the_options_say(safe_web: FaultProxy, certificate: Path) -> None:
    url = f"{safe_web.url}/sums"
    assert isinstance(refusal(url), Untrusted)
    trusted = S3Options("images", anonymous=True, ca_bundle=str(certificate))
    assert read_url(trusted, url, LIMIT_BYTES) == CONTENT
    assert read_url(S3Options("images", anonymous=True, validate_certs=False), url, LIMIT_BYTES) == CONTENT


def test_the_environments_proxy_is_asked(web: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", web.url)
    assert read_url(OPTIONS, "http://sums.test/sums", LIMIT_BYTES) == CONTENT
    assert [one.request.authority for one in web.seen] == ["sums.test"]
