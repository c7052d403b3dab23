# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a bucket is and who asks for it, as the operator wrote it.

Invariant: an ``S3Options`` is consistent, and no text made of one shows a secret.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .._errors import BadInput
from .._names import printable
from .s3.endpoint import endpoint_problem

ADDRESSING = ("auto", "path", "virtual")
AWS_ENDPOINT = "Amazon S3"
SSE_KEY_BYTES = 32  # AES-256, the only algorithm that S3 has for keys of customers
# AWS has the strictest rules for names, and other servers looser ones: only what could change the request's meaning is refused.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_TENANT_BUCKET = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9_$-]{0,254}:[A-Za-z0-9][A-Za-z0-9._-]{0,254}"
)  # Ceph: "multitenancy"
# Amazon S3 user guide: access points, also of several regions, of Outposts and of Object Lambda.
_ARN = re.compile(
    r"arn:aws[a-z-]*:s3(-outposts|-object-lambda)?:[a-z0-9-]*:[0-9]{12}:"
    r"(accesspoint[/:][A-Za-z0-9.-]{1,63}|outpost[/:][A-Za-z0-9-]{1,63}[/:]accesspoint[/:][A-Za-z0-9-]{1,63})"
)
_ROLE = re.compile(r"arn:[a-z-]+:iam::[0-9A-Za-z_-]*:role/[\w+=,.@/-]{1,512}")
# What the options of this collection decide, so that waits are counted and bytes verified in one place.
OWN_CONFIG = frozenset(
    (
        "retries",
        "connect_timeout",
        "read_timeout",
        "max_pool_connections",
        "request_checksum_calculation",
        "response_checksum_validation",
    )
)


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
    version_id: str = ""
    requester_pays: bool = False
    sse_key: bytes = field(default=b"", repr=False)  # of SSE-C
    role_arn: str = ""
    external_id: str = field(default="", repr=False)
    sts_endpoint_url: str = ""
    dualstack: bool = False
    config: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)  # of botocore

    def __post_init__(self) -> None:
        self._check_bucket()
        self._check_endpoints()
        self._check_credentials()
        self._check_connection()
        self._check_request()

    @property
    def endpoint(self) -> str:
        """The server for messages: scheme, host, port and path, nothing else of the URL."""
        return self.endpoint_url.rstrip("/") or AWS_ENDPOINT

    @property
    def is_plain_bucket(self) -> bool:
        """Whether the bucket is named by a name alone: neither by a tenant nor by the ARN of an access point."""
        return ":" not in self.bucket

    @property
    def is_of_regions(self) -> bool:
        """Whether the bucket is an access point of several regions."""
        return bool(re.match(r"arn:[a-z-]+:s3::", self.bucket))

    @property
    def sse_words(self) -> tuple[str, ...]:
        """The ways in which the key of SSE-C can be written, none of which may be shown."""
        return (self.sse_key.decode("latin-1"), base64.b64encode(self.sse_key).decode()) if self.sse_key else ()

    def _check_bucket(self) -> None:
        forms = (_BUCKET, _TENANT_BUCKET, _ARN)
        if not any(one.fullmatch(self.bucket) for one in forms) or ".." in self.bucket:
            raise BadInput(
                f"bucket: {printable(self.bucket)!r} is not a bucket name",
                hint="give bucket the name alone (letters, digits, dots and hyphens, no s3:// and no slash), TENANT:BUCKET on Ceph, "
                "or the ARN of an access point",
            )

    def _check_endpoints(self) -> None:
        for name, url in (("endpoint_url", self.endpoint_url), ("sts_endpoint_url", self.sts_endpoint_url)):
            problem = endpoint_problem(url) if url else ""
            if problem:
                # The URL itself may hold a password, so it is not repeated.
                raise BadInput(
                    f"{name} {problem}",
                    hint=f"write {name} with scheme, host and port, and a path if the server has one, for example https://s3.example.net:9000",
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
                hint="give session_token together with its access_key and secret_key",
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
            raise BadInput(
                f"{' and '.join(ways)} exclude each other", hint="give one of access_key, profile and anonymous"
            )
        self._check_role()

    def _check_role(self) -> None:
        if not self.role_arn:
            if self.external_id or self.sts_endpoint_url:
                raise BadInput(
                    "external_id or sts_endpoint_url is given without assume_role_arn",
                    hint="give the role that is to be assumed in assume_role_arn, or leave both out",
                )
        elif not _ROLE.fullmatch(self.role_arn):
            raise BadInput(
                f"assume_role_arn is {printable(self.role_arn)!r}, which is no ARN of a role",
                hint="write assume_role_arn like arn:aws:iam::123456789012:role/images",
            )
        elif self.anonymous:
            raise BadInput(
                "assume_role_arn and anonymous exclude each other",
                hint="a role is assumed with credentials: give access_key or profile",
            )

    def _check_connection(self) -> None:
        if self.addressing not in ADDRESSING:
            raise BadInput(
                f"addressing is {printable(self.addressing)!r}", hint=f"give addressing one of {', '.join(ADDRESSING)}"
            )
        if self.connect_timeout_seconds <= 0 or self.read_timeout_seconds <= 0 or self.max_connections < 1:
            raise BadInput(
                "a time-out or the number of connections is not above zero",
                hint="give connect_timeout, read_timeout and connections numbers above zero, or leave them out",
            )
        if self.ca_bundle and not os.path.isfile(self.ca_bundle):
            raise BadInput(
                f"ca_bundle {printable(self.ca_bundle)} is not a file on this host",
                hint="give ca_bundle the path of a PEM file on the managed host",
            )
        if self.ca_bundle and not self.validate_certs:
            raise BadInput(
                "ca_bundle is given but validate_certs is false",
                hint="leave validate_certs true, or leave ca_bundle out",
            )

    def _check_request(self) -> None:
        if any(ord(char) <= 32 or ord(char) == 127 for char in self.version_id) or len(self.version_id) > 1024:
            raise BadInput(
                f"version_id: {printable(self.version_id)!r} is not a version ID",
                hint="copy version_id from the list of the object's versions",
            )
        if self.sse_key and self.endpoint_url.startswith("http://"):
            raise BadInput(
                "sse_customer_key would be sent without TLS",
                hint="use an https:// endpoint_url; S3 itself refuses such a request, and takes the key for one that is known to others",
            )
        if self.dualstack and self.endpoint_url:
            raise BadInput(
                "dualstack is given with endpoint_url",
                hint="dualstack is about the host names of AWS: leave dualstack or endpoint_url out",
            )
        taken = sorted(OWN_CONFIG & set(self.config))
        if taken:
            raise BadInput(
                f"aws_config sets {', '.join(taken)}",
                hint="use retries, retry_delay, connect_timeout, read_timeout and connections of this module instead",
            )


def parse_sse_key(text: str) -> bytes:
    """The key of SSE-C that ``text`` is: 32 bytes in base64, or 32 characters; none for an empty text."""
    if not text:
        return b""
    key = text.encode("utf-8", "surrogateescape")
    if len(key) != SSE_KEY_BYTES:
        try:
            key = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            key = b""
    if len(key) != SSE_KEY_BYTES:
        raise BadInput(
            f"sse_customer_key is not a key of {SSE_KEY_BYTES} bytes",
            hint="give the key with which the object was uploaded, in base64 (`openssl rand -base64 32` makes one) or as 32 characters",
        )
    return key
