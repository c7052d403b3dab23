# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a broken line to S3 means, and everything else that the libraries below may raise.

Invariant: no exception of boto3, urllib3, http.client or a socket leaves this package except as a ``FlydError`` made here.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterable

from .._errors import BadInput, FlydError, Transient, Unsupported, Untrusted
from .._names import printable
from .faults import PASSES, Where, from_answer, no_credentials

_UNREACHABLE = {
    "ConnectionRefusedError",
    "ConnectTimeoutError",
    "NewConnectionError",
    "EndpointConnectionError",
    "ProxyConnectionError",
}


def from_exception(error: BaseException, where: Where) -> FlydError:
    """The error for anything that boto3, urllib3, http.client or a socket raised while talking to S3."""
    if isinstance(error, FlydError):
        return error
    from botocore import exceptions as known

    if isinstance(error, known.ClientError):
        return _from_client_error(error, where)
    if isinstance(error, (known.NoCredentialsError, known.PartialCredentialsError)):
        return no_credentials()
    if isinstance(error, (known.CredentialRetrievalError, known.TokenRetrievalError)):
        return BadInput(
            f"the credentials for {where} cannot be had ({type(error).__name__})",
            hint="see the profile or role that they come from",
        )
    tls = _tls_problem(error)
    if tls is not None:
        return _from_tls(tls, where)
    return _from_line(error, where)


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
    from botocore import exceptions as known

    names = {type(one).__name__ for one in _causes(error)}
    name = type(error).__name__
    if isinstance(error, known.ParamValidationError):
        return BadInput(f"the request for {where} cannot be sent ({name})", hint="check bucket and key")
    what, hint = _what_happened(error, names, where)
    if not what:
        return Unsupported(
            f"{where} cannot be read ({name})", hint="this is not a known fault of S3: please report it", code=name
        )
    return Transient(what, hint=hint, endpoint=where.endpoint, code=name)


def _what_happened(error: BaseException, names: set[str], where: Where) -> tuple[str, str]:
    """What is wrong with the line, and what to do; empty when it is not the line."""
    from botocore import exceptions as known

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
        return f"{where.endpoint} said nothing for too long while {printable(where.key)} was read", PASSES
    if isinstance(error, (known.BotoCoreError, OSError, http.client.HTTPException)) or names & {
        "HTTPError",
        "ProtocolError",
    }:
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
