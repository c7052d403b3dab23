# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a broken line to S3 means, and everything else that the libraries below may raise.

Invariant: no exception of boto3, urllib3, http.client or a socket leaves this package except as a ``FlydError`` made here.
"""

from __future__ import annotations

import http.client
import ssl
import sys
from collections.abc import Iterable

from .._errors import BadInput, FlydError, Transient, Unsupported, Untrusted
from .._names import printable
from .s3_errors import PASSES, Where, from_answer, no_credentials, redacted

_UNREACHABLE = {
    "ConnectionRefusedError",
    "ConnectTimeoutError",
    "NewConnectionError",
    "EndpointConnectionError",
    "ProxyConnectionError",
}
_SILENT = (
    "run again: the download resumes; look at the server and at what stands between (`curl -v ENDPOINT` on this host), "
    "or raise read_timeout for a server that is only slow"
)


# Of botocore's errors those that say nothing of the options.
_OF_THE_LINE = (
    "HTTPClientError",
    "IncompleteReadError",
    "ResponseStreamingError",
    "ReadTimeoutError",
    "ConnectionClosedError",
    "ConnectionError",
    "MetadataRetrievalError",
)
_TELLING = (
    "UnsupportedS3",
    "InvalidS3",
    "InvalidRegion",
    "Endpoint",
    "NoRegion",
    "UnknownEndpoint",
    "UnknownFIPS",
    "MissingDependency",
)


def from_exception(error: BaseException, where: Where) -> FlydError:
    """The error for anything that boto3, urllib3, http.client or a socket raised while talking to S3."""
    if isinstance(error, FlydError):
        return error
    if _is_of_botocore(error, "ClientError"):
        return _from_client_error(error, where)
    if _is_of_botocore(error, "NoCredentialsError", "PartialCredentialsError"):
        return no_credentials()
    if _is_of_botocore(error, "CredentialRetrievalError", "TokenRetrievalError"):
        return BadInput(
            f"the credentials for {where} are not available ({type(error).__name__})",
            hint="see the profile or role that they come from",
        )
    tls = _tls_problem(error)
    if tls is not None:
        return _from_tls(tls, where)
    return _from_line(error, where)


def _is_of_botocore(error: BaseException, *names: str) -> bool:
    """Whether ``error`` is of one of those classes of botocore, which need not be installed: what it raised has imported it."""
    known = sys.modules.get("botocore.exceptions")
    return known is not None and isinstance(error, tuple(getattr(known, name) for name in names))


def _from_client_error(error: BaseException, where: Where) -> FlydError:
    response = getattr(error, "response", {})
    meta, said = response.get("ResponseMetadata", {}), response.get("Error", {})
    headers = {str(name).lower(): str(value) for name, value in meta.get("HTTPHeaders", {}).items()}
    if said.get("Region"):
        headers.setdefault("x-amz-bucket-region", str(said["Region"]))
    return from_answer(
        int(meta.get("HTTPStatusCode", 0)), str(said.get("Code", "")), str(said.get("Message", "")), headers, where
    )


def _causes(error: BaseException) -> Iterable[BaseException]:
    """``error`` and what is wrapped in it: botocore keeps the cause in ``kwargs``, urllib3 in ``reason`` or ``args``."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting and len(seen) < 16:
        one = waiting.pop()
        if not isinstance(one, BaseException) or any(one is other for other in seen):
            continue
        seen.append(one)
        waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
        waiting += list(getattr(one, "kwargs", {}).values())
    return seen


def _tls_problem(error: BaseException) -> ssl.SSLError | None:
    return next((one for one in _causes(error) if isinstance(one, ssl.SSLError)), None)


def _from_tls(error: ssl.SSLError, where: Where) -> FlydError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Untrusted(
            f"the certificate of {where.endpoint} is not trusted: {printable(error.verify_message)}",
            hint="give the authority that signed it in ca_bundle, and check the host's name and clock",
            endpoint=where.endpoint,
        )
    reason = str(getattr(error, "reason", None) or "closed")  # an error that OpenSSL did not name has no such attribute
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"):
        return BadInput(
            f"{where.endpoint} does not speak TLS",
            hint="write http:// in endpoint_url, or the port that has TLS",
            endpoint=where.endpoint,
        )
    return Transient(
        f"the TLS connection to {where.endpoint} broke ({printable(reason, 64)})",
        hint=PASSES,
        endpoint=where.endpoint,
    )


def _from_line(error: BaseException, where: Where) -> FlydError:
    names = {type(one).__name__ for one in _causes(error)}
    name = type(error).__name__
    setting = from_setting(error, where)
    if setting is not None:
        return setting
    what, hint = _what_happened(error, names, where)
    if not what:
        return Unsupported(
            f"{where} cannot be read ({name})", hint="this is not a known fault of S3: please report it", code=name
        )
    error = Transient(what, hint=hint, endpoint=where.endpoint, code=name)
    if hint == _SILENT:
        error.details["silent_seconds"] = where.read_timeout_seconds
    return error


def from_setting(error: BaseException, where: Where | None = None) -> FlydError | None:
    """The error for options that botocore cannot make a request of; None when it is not about them."""
    if not _is_of_botocore(error, "BotoCoreError") or _is_of_botocore(error, *_OF_THE_LINE):
        return None
    it, name = f"the request for {where}" if where else "a request", type(error).__name__
    # Only these say nothing of values that may be secret.
    is_plain = name.startswith(_TELLING)
    said = f": {printable(redacted(str(error), where.secrets if where else ()), 300)}" if is_plain else ""
    if _is_of_botocore(error, "MissingDependencyException"):
        return Unsupported(
            f"{it} needs a package that is not installed{said}",
            hint="access points of several regions and S3's asymmetric signatures need awscrt in the interpreter that has boto3 (`pip install awscrt`)",
            code=name,
        )
    return BadInput(
        f"{it} cannot be sent ({name}{said})",
        hint="check bucket, key, region, endpoint_url, addressing and aws_config against each other",
        code=name,
    )


def _what_happened(error: BaseException, names: set[str], where: Where) -> tuple[str, str]:
    """What is wrong with the line, and what to do; empty when it is not the line."""
    if names & {"gaierror", "NameResolutionError"}:
        return (
            f"the name of {where.endpoint} does not resolve",
            "check endpoint_url and the host's DNS (`getent hosts NAME`)",
        )
    if names & _UNREACHABLE:
        return (
            f"{where.endpoint} cannot be reached ({_reason(error)})",
            "check endpoint_url, proxies (HTTPS_PROXY, NO_PROXY), routes and firewalls from this host",
        )
    if names & {"ReadTimeoutError", "TimeoutError", "timeout"}:
        silence = f"no bytes for {where.read_timeout_seconds:g} s" if where.read_timeout_seconds else "no bytes in time"
        return f"{silence} from {where.endpoint} while reading {printable(where.key)}", _SILENT
    is_broken = isinstance(error, (OSError, http.client.HTTPException)) or _is_of_botocore(error, "BotoCoreError")
    if is_broken or names & {"HTTPError", "ProtocolError"}:
        return (
            f"the connection to {where.endpoint} broke while {printable(where.key)} was read ({_reason(error)})",
            PASSES,
        )
    return "", ""


def _reason(error: BaseException) -> str:
    for one in _causes(error):
        if isinstance(one, OSError) and one.errno and one.strerror:
            return one.strerror
    return type(error).__name__
