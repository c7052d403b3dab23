# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The HEAD without boto3: signed as botocore signs, and silent wherever the full client must be asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from module_utils._names import ObjectKey
from module_utils._source.objects import ObjectInfo
from module_utils._source.options import S3Options
from module_utils._source.s3 import head_request as light
from module_utils._source.s3.head_request import light_head, signed

KEY = ObjectKey("images/a b+ü.tar")
NOW = "20130524T000000Z"
RIGHT = {"ETag": '"abc"', "Content-Length": "7"}


@pytest.mark.parametrize("token", ["", "a/token=="])
@pytest.mark.parametrize("path", ["/bucket/images/redis.tar", "/bucket/images/a%20b%2B%C3%BC.tar"])
def test_a_request_is_signed_as_botocore_signs_it(monkeypatch: pytest.MonkeyPatch, token: str, path: str) -> None:
    auth = pytest.importorskip("botocore.auth", reason="boto3 is not installed")
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    options = S3Options("bucket", "http://s3.example:9000", "eu-west-1", "AKIDEXAMPLE", "secret", token)
    ours = signed(options, "HEAD", path, {"host": "s3.example:9000", "x-amz-checksum-mode": "ENABLED"}, NOW)
    signer = auth.S3SigV4Auth(Credentials("AKIDEXAMPLE", "secret", token or None), "s3", "eu-west-1")
    request = AWSRequest("HEAD", f"http://s3.example:9000{path}", headers={"x-amz-checksum-mode": "ENABLED"})
    request.context["timestamp"] = NOW
    request.headers["X-Amz-Date"] = NOW
    request.headers["X-Amz-Content-SHA256"] = ours["x-amz-content-sha256"]
    if token:
        request.headers["X-Amz-Security-Token"] = token
    canonical = signer.canonical_request(request)
    signature = signer.signature(signer.string_to_sign(request, canonical), request)
    assert ours["authorization"].rpartition("Signature=")[2] == signature


class Server(ThreadingHTTPServer):
    """Answers every HEAD with ``status`` and ``headers``, and remembers the paths."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status, self.headers = 200, dict(RIGHT)
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.server.paths.append(self.path)
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def asked(server: Server, **options: Any) -> ObjectInfo | None:
    return light_head(S3Options("bucket", server.url, **{"anonymous": True, **options}), KEY)


def test_what_is_announced_is_reported(server: Server) -> None:
    server.headers.update({"x-amz-version-id": "v1"})
    assert asked(server) == ObjectInfo(KEY.value, 7, '"abc"', "v1")
    assert server.paths == ["/bucket/images/a%20b%2B%C3%BC.tar"]


@pytest.mark.parametrize("status", [301, 403, 404, 500, 503])
def test_any_other_answer_is_left_to_the_full_client(server: Server, status: int) -> None:
    server.status = status
    assert asked(server) is None


def test_an_answer_without_a_length_or_of_compressed_bytes_is_left_to_the_full_client(server: Server) -> None:
    server.headers["Content-Encoding"] = "gzip"
    assert asked(server) is None
    del server.headers["Content-Encoding"], server.headers["Content-Length"]
    assert asked(server) is None


def test_a_server_that_does_not_answer_is_left_to_the_full_client(server: Server) -> None:
    server.server_close()
    assert light_head(S3Options("bucket", "http://127.0.0.1:9", anonymous=True), KEY) is None


@pytest.mark.parametrize(
    "options",
    [{"anonymous": False}, {"anonymous": False, "profile": "p"}, {"addressing": "virtual"}],
    ids=["the usual chain of credentials", "a profile", "the bucket in the host's name"],
)
def test_what_the_options_do_not_say_is_left_to_the_full_client(server: Server, options: dict[str, object]) -> None:
    assert asked(server, **options) is None
    assert server.paths == []


def test_a_proxy_is_left_to_the_full_client(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
    assert asked(server) is None
    assert server.paths == []


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A host that says nothing of AWS; gives where its configuration would be."""
    for name in [one for one in os.environ if one.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".aws/config"


@pytest.mark.parametrize(
    ("bucket", "region", "place"),
    [
        ("images", "eu-west-1", ("https", "images.s3.eu-west-1.amazonaws.com", "")),
        ("images", "", None),
        ("images", "cn-north-1", None),
        ("images", "us-gov-west-1", None),
        ("with.dots", "eu-west-1", None),
    ],
)
@pytest.mark.usefixtures("bare")
def test_a_bucket_of_aws_is_asked_where_region_and_name_leave_no_doubt(
    bucket: str, region: str, place: tuple[str, str, str] | None
) -> None:
    assert light._place(S3Options(bucket, region=region)) == place


@pytest.mark.parametrize(
    "name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"]
)
def test_a_host_that_has_its_own_word_on_where_aws_is_is_left_to_the_full_client(
    bare: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    options = S3Options("images", region="eu-west-1")
    assert light._place(options) is not None
    monkeypatch.setenv(name, "true")
    assert light._place(options) is None
    monkeypatch.delenv(name)
    bare.parent.mkdir()
    bare.write_text("[default]\nendpoint_url = https://s3.internal\n")
    assert light._place(options) is None
    monkeypatch.setenv("AWS_CONFIG_FILE", str(bare.with_name("none")))
    assert light._place(options) is not None
