# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small S3 server that answers as servers do which are not the one of the other tests: what each does otherwise is an option here.

Invariant: every signed request is verified as it came over the line, by rules written down here a second time, from the Amazon S3 API
reference ("Signature Calculations for the Authorization Header"): a path that a client signs otherwise than it sends it is refused.
"""

from __future__ import annotations

import base64
import contextlib
import email.utils
import hashlib
import hmac
import itertools
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.sax.saxutils import escape

ACCESS_KEY, SECRET_KEY = "PLACEACCESSKEY", "secret-of-the-place-that-is-not-shown"
MODIFIED = email.utils.formatdate(1_700_000_000, usegmt=True)
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Place:
    """What a server does otherwise; ``objects`` are by bucket and key, as the request's path names them once it is decoded."""

    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    path: str = ""  # of the endpoint
    region: str = "us-east-1"
    tells_region: bool = True  # in the refusal of another one
    redirects: bool = False  # to the region, by 301 instead of a refusal
    requester_pays: bool = False
    sse_key: bytes = b""
    unencrypted: tuple[str, ...] = ()  # keys of objects without SSE-C
    versions: dict[str, bytes] = field(default_factory=dict)
    refuses_head: int = 0  # with this status
    refuses_get: int = 0
    head_headers: Callable[[dict[str, str]], dict[str, str]] = dict
    get_headers: Callable[[dict[str, str]], dict[str, str]] = dict
    etag: Callable[[bytes], str] | None = None  # from the content; the MD5 when left out
    ignores_range: bool = False
    stored_gzip: bool = False  # decompressed for who does not accept it, as Google's storage does
    compares_at_origin: bool = False  # If-Match is compared with the ETag before head_headers and get_headers change it
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    before: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # what a test has put aside of it
    url: str = ""

    def asked(self) -> list[str]:
        """The methods of all requests since the last call."""
        methods = [method for method, _path, _headers in self.seen]
        self.seen.clear()
        return methods

    def answer(self, method: str, target: str, headers: dict[str, str]) -> Answer:
        """What is answered to a request, whose path is as it was sent."""
        self.seen.append((method, target, headers))
        refusal = self._unsigned(method, target, headers)
        if refusal is not None:
            return refusal
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        bucket, _, key = parts.path[len(self.path) + 1 :].partition("/")
        if not parts.path.startswith(f"{self.path}/"):
            return error(404, "NoSuchBucket")
        if "list-type" in query:
            return self._list(unquote(bucket), query["prefix"])
        content = self.objects.get((unquote(bucket), unquote(key)))
        if "versionId" in query:
            content = self.versions.get(query["versionId"])
        if content is None:
            return error(404, "NoSuchKey")
        return self._refused(method, unquote(key), headers) or self._object(method, content, headers, query)

    def _unsigned(self, method: str, target: str, headers: dict[str, str]) -> Answer | None:
        signature = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?SignedHeaders=([^,]+), ?Signature=(\w+)",
            headers.get("authorization", ""),
        )
        if signature is None:
            return None if "authorization" not in headers else error(400, "AuthorizationHeaderMalformed")
        access_key, day, region, names, given = signature.groups()
        if region != self.region:
            told = f"<Region>{self.region}</Region>" if self.tells_region else ""
            where = {"x-amz-bucket-region": self.region} if self.tells_region else {}
            if self.redirects:
                return error(301, "PermanentRedirect", told, where)
            return error(400, "AuthorizationHeaderMalformed", told, where)
        signed = "".join(f"{name}:{headers[name].strip()}\n" for name in names.split(";"))
        path, _, query = target.partition("?")
        pairs = sorted(
            (quote(unquote(name), safe="-_.~"), quote(unquote(value), safe="-_.~"))
            for name, _, value in (one.partition("=") for one in query.split("&") if one)
        )
        ordered = "&".join(f"{name}={value}" for name, value in pairs)
        content = headers["x-amz-content-sha256"]
        request = f"{method}\n{path}\n{ordered}\n{signed}\n{names}\n{content}"
        scope = f"{day}/{region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        key = f"AWS4{SECRET_KEY}".encode()
        for word in scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        right = hmac.new(key, text.encode(), "sha256").hexdigest()
        return None if (access_key, given) == (ACCESS_KEY, right) else error(403, "SignatureDoesNotMatch")

    def _refused(self, method: str, key: str, headers: dict[str, str]) -> Answer | None:
        if method == "HEAD" and self.refuses_head:
            return self.refuses_head, {"Allow": "GET"}, b""
        if method == "GET" and self.refuses_get:
            return error(self.refuses_get, "AccessDenied" if self.refuses_get == 403 else "")
        if self.requester_pays and headers.get("x-amz-request-payer") != "requester":
            return error(403, "AccessDenied")
        begin = "x-amz-server-side-encryption-customer-"
        given = {name[len(begin) :]: value for name, value in headers.items() if name.startswith(begin)}
        if key in self.unencrypted:
            return error(400, "InvalidRequest") if given else None
        md5 = hashlib.md5(self.sse_key).digest()
        right = {
            "algorithm": "AES256",
            "key": base64.b64encode(self.sse_key).decode(),
            "key-md5": base64.b64encode(md5).decode(),
        }
        return error(400, "InvalidRequest") if self.sse_key and given != right else None

    def _object(self, method: str, content: bytes, headers: dict[str, str], query: dict[str, str]) -> Answer:
        etag = self.etag(content) if self.etag else f'"{hashlib.md5(content).hexdigest()}"'
        told = {"ETag": etag, "Last-Modified": MODIFIED, "Accept-Ranges": "bytes"}
        if "versionId" in query:
            told["x-amz-version-id"] = query["versionId"]
        told = (self.head_headers if method == "HEAD" else self.get_headers)(told)
        condition, current = headers.get("if-match"), etag if self.compares_at_origin else told.get("ETag", "")
        # RFC 9110, 13.1.1: by strong comparison, which no weak ETag passes.
        if condition and (condition.startswith("W/") or condition.strip('"') != current.strip('"')):
            return error(412, "PreconditionFailed")
        since = headers.get("if-unmodified-since")
        if since and email.utils.mktime_tz(email.utils.parsedate_tz(since) or (0,) * 10) < 1_700_000_000:
            return error(412, "PreconditionFailed")
        if self.stored_gzip:
            if "gzip" not in headers.get("accept-encoding", ""):
                body = b"decompressed" * 1000
                return 200, {**told, "x-goog-stored-content-encoding": "gzip", "Transfer-Encoding": "chunked"}, body
            told = {**told, "Content-Encoding": "gzip", "x-goog-stored-content-encoding": "gzip"}
        return self._ranged(content, told, headers.get("range", ""))

    def _ranged(self, content: bytes, told: dict[str, str], asked: str) -> Answer:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
        if match is None or self.ignores_range:
            return 200, told, content
        first, last = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
        if first >= len(content):
            return error(416, "InvalidRange")
        return 206, {**told, "Content-Range": f"bytes {first}-{last}/{len(content)}"}, content[first : last + 1]

    def _list(self, bucket: str, prefix: str) -> Answer:
        found = sorted((key, content) for (where, key), content in self.objects.items() if where == bucket)
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><ETag>&quot;{hashlib.md5(content).hexdigest()}&quot;</ETag>"
            f"<Size>{len(content)}</Size></Contents>"
            for key, content in found
            if key.startswith(prefix)
        )
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
        return 200, {"Content-Type": "application/xml"}, body.encode()


def error(status: int, code: str, more: str = "", headers: dict[str, str] | None = None) -> Answer:
    """A refusal of S3."""
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>no</Message>{more}</Error>'
    return status, {"Content-Type": "application/xml", **(headers or {})}, body.encode()


def changing(template: str) -> Callable[[bytes], str]:
    """An ETag that is another one in every answer."""
    numbers = itertools.count(1)
    return lambda _content: template.format(next(numbers))


@contextlib.contextmanager
def running(place: Place, certificate: Path | None = None) -> Iterator[Place]:
    """Serve ``place`` on the loopback until the block ends; over TLS with a ``certificate``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            given = {name.lower(): value for name, value in self.headers.items()}
            status, headers, body = place.answer(self.command, self.path, given)
            is_chunked = "Transfer-Encoding" in headers
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if not is_chunked and "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            with contextlib.suppress(OSError):  # a client that has seen enough hangs up
                self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket, scheme = context.wrap_socket(server.socket, server_side=True), "https"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        place.url = f"{scheme}://127.0.0.1:{server.server_address[1]}{place.path}"
        try:
            yield place
        finally:
            server.shutdown()
            thread.join()
