# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who asks, by which way, under which name: credentials, proxies and addressing as botocore finds them on a host, with a real server."""

from __future__ import annotations

import datetime
import http.server
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

pytest.importorskip("boto3", reason="boto3 is not installed")

from botocore import auth
from botocore.awsrequest import AWSPreparedRequest

from module_utils._errors import BadInput, Transient, Unsupported
from module_utils._source.s3.bucket import Bucket, S3Options
from module_utils._source.s3.client import connect
from tests.faults.proxy import FaultProxy
from tests.s3.conftest import Stored, served
from tests.s3.server import ACCESS_KEY, BUCKET, DOMAIN, SECRET_KEY

pytestmark = pytest.mark.usefixtures("bare_environment")
Store = Callable[..., Stored]
ROLE = "arn:aws:iam::123456789012:role/images"
TOKEN = "flyd-test-session-token"


@pytest.fixture
def nobody(options: S3Options) -> S3Options:
    """Options that name no credentials."""
    return replace(options, access_key="", secret_key="")


def size_of(options: S3Options, stored: Stored) -> int:
    with Bucket(options) as bucket:
        return bucket.head(stored.key).size_bytes


def test_a_profile_of_the_host_is_used(
    nobody: S3Options, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "credentials"
    path.write_text(f"[fleet]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    assert size_of(replace(nobody, profile="fleet"), store(10)) == 10
    with pytest.raises(BadInput, match="no credentials"):
        size_of(nobody, store(10))


def test_the_role_of_the_instance_is_used(
    nobody: S3Options, store: Store, metadata: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata)
    assert size_of(nobody, store(10)) == 10


def test_a_session_token_is_sent_with_every_request(options: S3Options, proxy: FaultProxy, store: Store) -> None:
    stored = store(10)
    with pytest.raises(BadInput):  # this server gives out no such tokens, and says so
        size_of(replace(options, session_token=TOKEN), stored)
    assert {one.request.headers["x-amz-security-token"] for one in proxy.seen} == {TOKEN}


def test_the_bucket_stands_in_the_hosts_name_and_the_environments_proxy_is_asked(
    options: S3Options, proxy: FaultProxy, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    stored = store(10)
    proxy.clear()
    assert size_of(replace(options, endpoint_url=f"http://{DOMAIN}", addressing="virtual"), stored) == 10
    [seen] = proxy.seen
    assert (seen.request.authority, seen.request.path) == (f"{BUCKET}.{DOMAIN}", f"/{stored.key.value}")


@pytest.mark.parametrize("addressing", ["auto", "path"])
def test_the_bucket_stands_in_the_path_of_an_endpoint_of_ones_own(
    options: S3Options, proxy: FaultProxy, store: Store, addressing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    stored = store(10)
    proxy.clear()
    assert size_of(replace(options, endpoint_url=f"http://{DOMAIN}", addressing=addressing), stored) == 10
    [seen] = proxy.seen
    assert (seen.request.authority, seen.request.path) == (DOMAIN, f"/{BUCKET}/{stored.key.value}")


def test_what_no_proxy_names_is_asked_directly(
    options: S3Options, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    stored = store(10)
    with pytest.raises(Transient, match="cannot be reached"):
        size_of(options, stored)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert size_of(options, stored) == 10


@pytest.mark.parametrize(
    ("addressing", "host", "path"),
    [("auto", f"{BUCKET}.s3.eu-north-1.amazonaws.com", "/k"), ("path", "s3.eu-north-1.amazonaws.com", f"/{BUCKET}/k")],
)
def test_where_aws_is_asked_is_what_botocore_resolves(addressing: str, host: str, path: str) -> None:
    seen: list[str] = []

    def stop_here(request: AWSPreparedRequest, **_: object) -> None:
        seen.append(request.url)
        raise ConnectionAbortedError

    s3 = connect(S3Options(BUCKET, region="eu-north-1", access_key="A", secret_key="S", addressing=addressing)).s3
    s3.meta.events.register_first("before-send.s3", stop_here)
    with pytest.raises(ConnectionAbortedError):
        s3.head_object(Bucket=BUCKET, Key="k")
    s3.close()
    [url] = map(urlsplit, seen)
    assert (url.scheme, url.netloc, url.path) == ("https", host, path)


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_server_refuses_a_clock_that_is_wrong_and_the_difference_is_reported(
    options: S3Options, proxy: FaultProxy, store: Store, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """The server's own refusal; only this process's clock is set wrong."""
    key = store(10).key
    proxy.clear()
    now: Callable[..., datetime.datetime] | None = getattr(auth, "get_current_datetime", None)
    if now is None:
        pytest.skip("this botocore reads the clock elsewhere")
    right, seconds = now, time.time

    def wrong(*given: object, **named: object) -> datetime.datetime:
        return right(*given, **named) + datetime.timedelta(hours=hours)

    monkeypatch.setattr(auth, "get_current_datetime", wrong)
    monkeypatch.setattr("module_utils._source.s3_errors.time.time", lambda: seconds() + hours * 3600)
    with Bucket(options) as bucket, pytest.raises(Unsupported) as caught:
        bucket.head(key)
    assert re.search(
        rf"clock is 7(199|200|201) s {'ahead of' if hours > 0 else 'behind'} the server's", caught.value.msg
    )
    assert [one.request.method for one in proxy.seen] == ["HEAD", "GET"]


class _TokenService(http.server.BaseHTTPRequestHandler):
    """As much of STS as assuming a role needs: it gives the keys of the tests to the one that asks for the right role."""

    asked: ClassVar[list[dict[str, list[str]]]] = []

    def do_POST(self) -> None:
        given = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.asked.append(given)
        if given["RoleArn"] != [ROLE]:
            body, status = "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>", 403
        else:
            status, keys = (
                200,
                f"<AccessKeyId>{ACCESS_KEY}</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey>",
            )
            end = "<SessionToken></SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>"
            body = f"<AssumeRoleResponse><AssumeRoleResult><Credentials>{keys}{end}</Credentials></AssumeRoleResult></AssumeRoleResponse>"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_role_is_assumed_at_the_given_service(options: S3Options, store: Store) -> None:
    _TokenService.asked.clear()
    with served(_TokenService) as url:
        there = replace(
            options, role_arn=ROLE, sts_endpoint_url=url, external_id="id-of-ours", access_key="a", secret_key="b"
        )
        assert size_of(there, store(10)) == 10
        with pytest.raises(BadInput, match="AccessDenied"):
            size_of(replace(there, role_arn=ROLE + "s"), store(10))
    [asked, _refused] = _TokenService.asked
    assert (asked["ExternalId"], asked["RoleSessionName"]) == (["id-of-ours"], ["flyd.lite"])


def test_a_token_service_that_cannot_be_reached_is_a_fault_of_the_line(options: S3Options, store: Store) -> None:
    with pytest.raises(Transient):
        size_of(replace(options, role_arn=ROLE, sts_endpoint_url="http://127.0.0.1:9"), store(10))
