# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of an S3 server as the machine asks for: HEAD, GET with ranges and If-Match, and lists of files below a directory.

Invariant: it runs in a process of its own, so that a test may fork without carrying its threads along, and ends with the tests. What S3
really does is tested with a real server; here only the machine's own steps are of interest.
"""

from __future__ import annotations

import base64
import contextlib
import glob
import hashlib
import json
import os
import re
import signal
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from module_utils._host.processes.death_signal import die_with_parent

BUCKET = "images-of-tests"
_MARKS = (".next", ".forbidden", ".headers")


class S3StandIn:
    """One bucket. ``requests`` reports what was asked since the last ``forget``."""

    def __init__(self, directory: Path) -> None:
        self._objects = directory / "objects"
        self._log = directory / "requests"
        self._failures = directory / "failures"
        self._objects.mkdir()
        self.forget()
        self.url = ""

    def put(self, key: str, content: bytes) -> None:
        self._path(key).write_bytes(content)

    def put_before_next_get(self, key: str, content: bytes) -> None:
        """Replace the object when its body is asked for next."""
        self._path(f"{key}.next").write_bytes(content)

    def forbid(self, key: str) -> None:
        """Refuse to give the object's body from now on."""
        self._path(f"{key}.forbidden").touch()

    def fail(self, status: int, times: int) -> None:
        """Answer the next requests with ``status``, whatever they ask for."""
        self._failures.write_text(f"{status} {times}")

    def next_failure(self) -> int:
        """The status that the next answer has to have, or 0."""
        if not self._failures.exists():
            return 0
        status, times = map(int, self._failures.read_text().split())
        self._failures.write_text(f"{status} {times - 1}")
        return status if times > 0 else 0

    def announce(self, key: str, etag: str, sha256: str = "") -> None:
        """Give the object that ETag from now on, and say that SHA-256 (hex) of it, whatever its content."""
        digest = base64.b64encode(bytes.fromhex(sha256)).decode()
        checksum = {"x-amz-checksum-sha256": digest, "x-amz-checksum-type": "FULL_OBJECT"} if sha256 else {}
        self._path(f"{key}.headers").write_text(json.dumps({"ETag": etag, **checksum}))

    def headers(self, key: str, content: bytes) -> dict[str, str]:
        """What is announced of the object."""
        path = self._path(f"{key}.headers")
        default = {"ETag": f'"{hashlib.md5(content).hexdigest()}"'}
        return {**default, **(json.loads(path.read_text()) if path.exists() else {})}

    def is_forbidden(self, key: str) -> bool:
        return self._path(f"{key}.forbidden").exists()

    def delete(self, key: str) -> None:
        for path in self._objects.glob(glob.escape(self._path(key).name) + "*"):
            path.unlink()

    def get(self, key: str, method: str) -> bytes | None:
        if method == "GET" and self._path(f"{key}.next").exists():
            self._path(f"{key}.next").rename(self._path(key))
        return self._path(key).read_bytes() if self._path(key).exists() else None

    def keys(self, prefix: str) -> list[str]:
        """The keys below ``prefix``, in the order of their bytes, as S3 lists them."""
        found = [path.name.replace("%", "/") for path in self._objects.iterdir() if path.suffix not in _MARKS]
        return sorted(key for key in found if key.startswith(prefix))

    def _path(self, key: str) -> Path:
        return self._objects / key.replace("/", "%")

    def requests(self) -> list[str]:
        """Method and key of every request, in order."""
        return self._log.read_text().splitlines()

    def forget(self) -> None:
        """Begin again: no requests, and no failures to come."""
        self._log.write_text("")
        self._failures.unlink(missing_ok=True)

    def reset(self) -> None:
        """Forget, and take back what ``announce``, ``forbid`` and ``put_before_next_get`` asked for."""
        self.forget()
        for path in self._objects.iterdir():
            if path.suffix in _MARKS:
                path.unlink()

    def note(self, line: str) -> None:
        with self._log.open("a") as log:
            log.write(f"{line}\n")

    @contextlib.contextmanager
    def running(self) -> Iterator[S3StandIn]:
        """Serve until the block ends."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"bucket": self}))
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        set_death_signal = die_with_parent()
        pid = os.fork()
        if pid == 0:
            try:
                set_death_signal()
                server.serve_forever()
            finally:
                os._exit(1)
        server.server_close()
        try:
            yield self
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: S3StandIn

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""

    def _answer(self, *, with_body: bool) -> None:
        bucket, _, key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self._list(query["prefix"][0])
            return
        self.bucket.note(f"{self.command} {key}")
        failure = self.bucket.next_failure()
        if failure:
            self._send(failure, b"<Error><Code>InternalError</Code></Error>", {}, with_body)
            return
        content = self.bucket.get(key, self.command) if bucket == BUCKET else None
        if content is None:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", {}, with_body)
            return
        if self.command == "GET" and self.bucket.is_forbidden(key):
            self._send(403, b"<Error><Code>AccessDenied</Code></Error>", {}, with_body)
            return
        headers = self.bucket.headers(key, content)
        if self.headers.get("If-Match", headers["ETag"]) != headers["ETag"]:
            self._send(412, b"<Error><Code>PreconditionFailed</Code></Error>", {}, with_body)
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None:
            self._send(200, content, headers, with_body)
            return
        first, last = int(asked[1]), int(asked[2])
        part = {"ETag": headers["ETag"], "Content-Range": f"bytes {first}-{last}/{len(content)}"}
        self._send(206, content[first : last + 1], part, with_body)

    def _list(self, prefix: str) -> None:
        self.bucket.note(f"LIST {prefix}")
        contents = {key: self.bucket.get(key, "LIST") or b"" for key in self.bucket.keys(prefix)}
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><ETag>&quot;{hashlib.md5(content).hexdigest()}&quot;</ETag>"
            f"<Size>{len(content)}</Size></Contents>"
            for key, content in contents.items()
        )
        self._send(
            200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>".encode(), {}, True
        )

    def _send(self, status: int, content: bytes, headers: dict[str, str], with_body: bool) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(content)
