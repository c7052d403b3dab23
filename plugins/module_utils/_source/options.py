# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a bucket is and who asks for it, as the operator wrote it.

Invariant: an ``S3Options`` is consistent, and no text made of one shows a secret.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from .._errors import BadInput
from .._names import printable

ADDRESSING = ("auto", "path", "virtual")
AWS_ENDPOINT = "Amazon S3"


@dataclass(frozen=True)
class S3Options:
    """One bucket of one S3 server. Empty strings leave a choice to the usual chain (environment, profile, instance role).

    Raises ``BadInput`` when the options contradict each other. ``addressing`` is ``auto``, ``path`` or ``virtual``; ``auto``
    puts the bucket in the path for an ``endpoint_url`` and in the host's name for AWS.
    """

    bucket: str
    endpoint_url: str = ""
    region: str = ""
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    profile: str = ""
    anonymous: bool = False
    validate_certs: bool = True
    ca_bundle: str = ""
    addressing: str = "auto"
    connect_timeout_seconds: float = 10
    read_timeout_seconds: float = 30
    max_connections: int = 32

    def __post_init__(self) -> None:
        self._check_bucket()
        self._check_endpoint()
        self._check_credentials()
        self._check_connection()

    @property
    def endpoint(self) -> str:
        """The server for messages: scheme, host and port, nothing else of the URL."""
        return self.endpoint_url.rstrip("/") or AWS_ENDPOINT

    def _check_bucket(self) -> None:
        # AWS has the strictest rules and other servers looser ones: only what could change the request's meaning stops here.
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", self.bucket) or ".." in self.bucket:
            raise BadInput(
                f"the bucket name {printable(self.bucket)!r} cannot be one",
                hint="give the bucket's name alone: letters, digits, dots and hyphens, no s3:// and no slash",
            )

    def _check_endpoint(self) -> None:
        if not self.endpoint_url:
            return
        problem = _endpoint_problem(self.endpoint_url)
        if problem:
            # The URL itself may hold a password, so it is not repeated.
            raise BadInput(
                f"endpoint_url {problem}",
                hint="write scheme, host and port only, for example https://s3.example.net:9000",
            )

    def _check_credentials(self) -> None:
        if bool(self.access_key) != bool(self.secret_key):
            given, missing = ("access_key", "secret_key") if self.access_key else ("secret_key", "access_key")
            raise BadInput(
                f"{given} is given without {missing}",
                hint="give both, or neither to use the environment, a profile or the instance's role",
            )
        if self.session_token and not self.access_key:
            raise BadInput(
                "session_token is given without access_key and secret_key",
                hint="a session token belongs to one pair of keys: give all three",
            )
        ways = [
            name
            for name, used in (
                ("access_key", self.access_key),
                ("profile", self.profile),
                ("anonymous", self.anonymous),
            )
            if used
        ]
        if len(ways) > 1:
            raise BadInput(f"{' and '.join(ways)} exclude each other", hint="choose one way to sign requests")

    def _check_connection(self) -> None:
        if self.addressing not in ADDRESSING:
            raise BadInput(f"addressing is {printable(self.addressing)!r}", hint=f"use one of {', '.join(ADDRESSING)}")
        if self.connect_timeout_seconds <= 0 or self.read_timeout_seconds <= 0 or self.max_connections < 1:
            raise BadInput(
                "a time-out or the number of connections is not above zero",
                hint="leave them out, or give positive numbers",
            )
        if self.ca_bundle and not os.path.isfile(self.ca_bundle):
            raise BadInput(
                f"ca_bundle {printable(self.ca_bundle)} is not a file on this host",
                hint="give the path of a PEM file on the managed host",
            )
        if self.ca_bundle and not self.validate_certs:
            raise BadInput(
                "ca_bundle is given but validate_certs is false",
                hint="leave validate_certs true, or leave ca_bundle out",
            )


def _endpoint_problem(url: str) -> str:
    try:
        parts = urlsplit(url)
        port_is_right = parts.port is None or parts.port > 0
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https"):
        return "does not begin with http:// or https://"
    if parts.username is not None or parts.password is not None:
        return "holds a user name or password"
    if parts.query or parts.fragment or parts.path.strip("/"):
        return "holds more than a server"
    return "" if port_is_right and _is_host(parts.hostname or "") else "names no host that could exist"


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return bool(re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})", host))
    return True
