# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An archive from a web server or by a presigned URL: verified, resumed and reported as one from S3, and no word of its secrets."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest

from module_utils._errors import FlydError
from module_utils._host.retry import Retry
from module_utils._lifecycle.fetch.options import FetchOptions, is_of
from module_utils._lifecycle.store.records import Image
from module_utils._names import ObjectKey
from module_utils._source.digests.checksum import ChecksumPolicy
from module_utils._source.download.download import DownloadOptions
from module_utils._source.download.fetch import Arrived, Wanted, fetch
from module_utils._source.found import Found
from module_utils._source.opening import open_source
from module_utils._source.options import S3Options
from module_utils._source.place import place_of
from tests.faults import kinds
from tests.faults.proxy import FaultProxy
from tests.s3.module import Module
from tests.s3.place import Place, changing, error, running

CONTENT = random.Random(2).randbytes(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KEY = ObjectKey("images/web.tar")
QUERY = "?X-Amz-Signature=f00dfeedf00dfeed&X-Amz-Security-Token=token-that-is-secret"
SECRETS = ("f00dfeedf00dfeed", "token-that-is-secret", "hush-hush-word", "bearer-that-is-secret")
S3 = S3Options("images", anonymous=True, read_timeout_seconds=5)
HOW = DownloadOptions(streams=2, segment_bytes=64 << 10, checkpoint_seconds=0.0, deadline_seconds=20)
Serve = Callable[..., Place]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def serve() -> Iterator[Serve]:
    with ExitStack() as stack:
        yield lambda place, certificate=None: stack.enter_context(running(place, certificate))


def plain(**how: Any) -> Place:
    """A web server with the archive at /images/web.tar."""
    return Place({("images", "web.tar"): CONTENT}, **how)


def options_of(url: str, s3: S3Options = S3, **given: Any) -> FetchOptions:
    defaults: dict[str, Any] = {"remote_src": False, "sent": {}, "headers": {}, "user": "", "password": ""}
    place = place_of(url, **{**defaults, **given})
    return FetchOptions(KEY, s3, "", ChecksumPolicy.FIRST_USE, 1 << 30, place=place)


class Fetcher(Protocol):
    def __call__(self, url: str, checksum: str = "", attempts: int = 1, **options: Any) -> Arrived: ...


@pytest.fixture
def fetched(tmp_path: Path) -> Fetcher:
    """Fetch it; the next run must find it unchanged."""

    def run(url: str, checksum: str = "", attempts: int = 1, **options: Any) -> Arrived:
        wanted, part, how = Wanted(KEY, checksum), tmp_path / "part", options_of(url, **options)
        with open_source(how.s3, how.place) as source:
            retry = Retry(attempts=attempts, base_seconds=0.01)
            arrived = fetch(source, wanted, lambda _: str(part), retry=retry, options=HOW)
        assert part.read_bytes() == CONTENT
        part.unlink()
        found = arrived.found
        image = Image("1", KEY.value, SHA256, bucket=how.source_name, size_bytes=found.size_bytes, etag=found.etag)
        with open_source(how.s3, how.place) as source:
            assert is_of(how, image, Found(KEY, (source.head(KEY),)))
        return arrived

    return run


def refusal(url: str, **options: Any) -> FlydError:
    how = options_of(url, **options)
    with open_source(how.s3, how.place) as source, pytest.raises(FlydError) as caught:
        source.open(source.head(KEY)).close()
    text = f"{caught.value} {caught.value.hint} {caught.value.details}"
    assert [secret for secret in SECRETS if secret in text] == []
    return caught.value


def url_of(place: Place) -> str:
    return f"{place.url}/images/web.tar"


# What is there


def test_ranges_and_conditions_are_used_as_with_s3(fetched: Fetcher, serve: Serve) -> None:
    place = serve(plain())
    fetched(url_of(place))
    gets = [headers for how, _path, headers in place.seen if how == "GET"]
    assert len(gets) == 4
    assert all("range" in one and "if-match" in one for one in gets)


@pytest.mark.parametrize(
    "how",
    [
        {"refuses_head": 403},
        {"refuses_head": 405, "ignores_range": True},
        {"ignores_range": True},
        {"stored_gzip": True},
        {"head_headers": lambda told: {**told, "Transfer-Encoding": "chunked"}},
        {"etag": changing('"{}"')},
        {"etag": lambda _content: 'W/"weak"'},
        {"etag": lambda _content: ""},
        {
            "head_headers": lambda told: {**told, "Content-Encoding": "x-gzip"},
            "get_headers": lambda told: {**told, "Content-Encoding": "x-gzip"},
        },
    ],
    ids=[
        "presigned",
        "no HEAD, no ranges",
        "no ranges",
        "stored compressed",
        "no length",
        "changing ETag",
        "weak ETag",
        "no ETag",
        "as a .gz",
    ],
)
def test_servers_that_are_not_as_they_should_be(fetched: Fetcher, serve: Serve, how: dict[str, Any]) -> None:
    fetched(url_of(serve(plain(**how))) + QUERY)


def test_what_breaks_off_is_resumed(fetched: Fetcher, serve: Serve) -> None:
    place = serve(plain())
    with FaultProxy("127.0.0.1", urlsplit(place.url).port or 0) as proxy:
        proxy.plan(kinds.truncated(40_000, reset=True), skip=1)
        arrived = fetched(f"{proxy.url}/images/web.tar", attempts=3)
    assert arrived.attempts == 2


def test_a_checksum_file_names_the_archive_as_the_url_does(fetched: Fetcher, serve: Serve) -> None:
    place = plain()
    place.objects["images", "sums"] = f"{SHA256}  web.tar\n{'0' * 64}  other.tar\n".encode()
    serve(place)
    assert fetched(url_of(place), checksum=f"{place.url}/images/sums").trust.value == "sidecar"


def test_a_server_that_reports_no_version_needs_a_digest(fetched: Fetcher, serve: Serve) -> None:
    url = url_of(serve(plain(etag=lambda _content: "", head_headers=nameless, get_headers=nameless)))
    with pytest.raises(FlydError, match="neither an ETag nor a Last-Modified"):
        fetched(url)
    fetched(url, checksum=f"sha256:{SHA256}")


def nameless(told: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in told.items() if name != "Last-Modified"}


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (403, "bad_input", "presigned"),
        (404, "bad_input", "check the URL"),
        (401, "bad_input", "url_username"),
        (503, "transient", ""),
    ],
)
def test_refusals_are_reported_for_a_url(serve: Serve, status: int, kind: str, says: str) -> None:
    told = refusal(url_of(serve(plain(refuses_head=status, refuses_get=status))) + QUERY)
    assert (told.kind.value, says in told.hint) == (kind, True)


def test_a_missing_server_is_transient() -> None:
    assert refusal(f"http://127.0.0.1:9/a.tar{QUERY}").kind.value == "transient"


# TLS, redirects, and who asks


def test_certificates_are_verified(fetched: Fetcher, serve: Serve, certificate: Path) -> None:
    url = url_of(serve(plain(), certificate))
    assert refusal(url).kind.value == "untrusted"
    fetched(url, s3=S3Options("images", anonymous=True, ca_bundle=str(certificate)))
    fetched(url, s3=S3Options("images", anonymous=True, validate_certs=False))


def test_redirects_are_followed_without_the_headers_that_were_meant_for_another_server(
    fetched: Fetcher, serve: Serve
) -> None:
    target, front = serve(plain()), Place()

    def answer(method: str, target_path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        front.seen.append((method, target_path, headers))
        return 302, {"Location": url_of(target)}, b""

    front.answer = answer  # type: ignore[assignment, method-assign]
    serve(front)
    fetched(f"{front.url}/latest", headers={"X-Token": "bearer-that-is-secret"}, user="user", password="hush-hush-word")
    assert all(headers["x-token"] == "bearer-that-is-secret" for _how, _path, headers in front.seen)
    assert all(headers["authorization"].startswith("Basic ") for _how, _path, headers in front.seen)
    assert not [one for one in target.seen if {"x-token", "authorization"} & set(one[2])]
    assert {how for how, _path, _headers in target.seen} == {"HEAD", "GET"}
    assert [headers.get("range") for how, _path, headers in target.seen if how == "GET"].count(None) == 0


def test_a_redirect_away_from_tls_is_refused(serve: Serve, certificate: Path) -> None:
    front = Place()
    front.answer = lambda *_asked: (302, {"Location": f"http://127.0.0.1:9/a{QUERY}"}, b"")  # type: ignore[method-assign]
    serve(front, certificate)
    s3 = S3Options("images", anonymous=True, ca_bundle=str(certificate))
    assert refusal(f"{front.url}/latest{QUERY}", s3=s3).kind.value == "untrusted"


def test_what_s3_says_of_a_presigned_url_is_reported(serve: Serve) -> None:
    front = Place()
    front.answer = lambda *_asked: error(403, "ExpiredToken", f"<Token>{SECRETS[1]}</Token>")  # type: ignore[method-assign]
    told = refusal(f"{serve(front).url}/a{QUERY}")
    assert told.details["code"] == "ExpiredToken"


# The module


def test_the_module_shows_no_secret_of_src_and_another_signature_changes_nothing(
    site: Path, tmp_path: Path, serve: Serve
) -> None:
    pytest.importorskip("ansible.module_utils.testing", reason="ansible-core is not installed")
    pytest.importorskip("ulid", reason="python-ulid is not installed")
    if os.geteuid() != 0:
        pytest.skip("modules refuse to run as another user than root")
    place = serve(plain())
    (tmp_path / "journalling").mkdir()
    journal = tmp_path / "journal"
    (tmp_path / "journalling/sitecustomize.py").write_text(
        f"import syslog\nsyslog.syslog = lambda *sent: print(*sent, file=open({str(journal)!r}, 'a'))\n"
    )
    module = Module(site, tmp_path / "state", {"key": KEY.value, "retries": 0})
    module.environment["PYTHONPATH"] = str(tmp_path / "journalling")
    secret: dict[str, Any] = {"url_username": "user", "url_password": SECRETS[2], "headers": {"X-Token": SECRETS[3]}}
    steps = [
        {"src": url_of(place) + QUERY},
        {"src": url_of(place) + QUERY.replace("f00d", "beef")},
        {"src": f"{place.url}/images/nothing.tar{QUERY}", **secret},
        {"src": f"https://user:{SECRETS[2]}@127.0.0.1/a.tar{QUERY}"},
    ]
    said, complained = module.run_all(steps)
    files = [path for path in module.state.rglob("*") if path.is_file() and path.parent.name != "archives"]
    left = said + complained + "".join(path.read_bytes().decode("latin-1") for path in (*files, journal))
    assert [word for word in (*SECRETS, "beefbeef", "dXNlcjpo") if word in left] == []
    first, second, third, fourth = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert (first["changed"], first["sha256"], second["changed"]) == (True, SHA256, False)
    assert any("without TLS" in str(one) for one in first["warnings"])
    assert [one["error_kind"] for one in (third, fourth)] == ["bad_input", "bad_input"]
