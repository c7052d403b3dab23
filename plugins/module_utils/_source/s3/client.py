# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place that knows boto3.

Invariant: botocore signs and sends each request once. Retries are done here (``_host.retry``), so that every wait is counted
and bounded; so are checksums, because botocore's validation would hash the data a second time. The size of answers that botocore
reads into memory (lists, errors) is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from ..._errors import BadInput, FlydError, MissingLibrary, Untrusted
from ..._names import printable, size_text
from ..body import read_within, reader_of
from ..options import S3Options
from ..s3_errors import Where, no_credentials
from ..transport_errors import from_exception, from_setting
from .role import assume

if TYPE_CHECKING:
    from boto3.session import Session
    from mypy_boto3_s3.client import S3Client

_MAX_SAID_BYTES = 16 << 20  # a list of a thousand of the longest keys has some 4 MiB


@dataclass
class Connection:
    """A client of S3, the words that must never be repeated in a message, and the Accept-Encoding of its requests."""

    s3: S3Client
    secrets: tuple[str, ...]
    accepts: str = "identity"

    def __repr__(self) -> str:
        return "Connection()"


def connect(options: S3Options) -> Connection:
    """A client for ``options``; nothing is sent yet, but an instance's role may be asked for credentials.

    Raises ``MissingLibrary`` without boto3, and ``BadInput`` when no credentials are found or a profile does not exist.
    """
    try:
        import boto3.session
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise MissingLibrary("boto3", "boto3") from None
    try:
        session = boto3.session.Session(
            aws_access_key_id=options.access_key or None,
            aws_secret_access_key=options.secret_key or None,
            aws_session_token=options.session_token or None,
            region_name=options.region or None,
            profile_name=options.profile or None,
        )
        if options.role_arn:
            session = assume(session, options)
        made = Connection(_client(session, options), _secrets(session, options))
        made.s3.meta.events.register_last("before-send.s3", _sending(made))
        return made
    except ClientError as error:  # of a role that is to be assumed, by the options or a profile
        raise _refused(error) from None
    except BotoCoreError as error:
        raise _of_botocore(error, options) from None
    except ValueError:  # botocore says so of an endpoint that it cannot parse
        raise BadInput(
            "endpoint_url is not a URL that can be used", hint="write endpoint_url like https://s3.example.net:9000"
        ) from None


def _client(session: Session, options: S3Options) -> S3Client:
    from botocore.handlers import validate_bucket_name

    # None, not True: botocore then honours AWS_CA_BUNDLE.
    verify = options.ca_bundle or (None if options.validate_certs else False)
    client = session.client("s3", endpoint_url=options.endpoint_url or None, verify=verify, config=_config(options))
    # S3Options has checked the name. botocore knows neither tenants nor what names other servers allow.
    client.meta.events.unregister("before-parameter-build.s3", validate_bucket_name)
    client.meta.events.register_first("needs-retry.s3", _stay)
    return client


def _config(options: S3Options) -> Any:
    """What botocore is configured with: what the operator wants, then what is decided here."""
    import botocore
    from botocore.config import Config

    wanted = dict(options.config)
    style = {"addressing_style": options.addressing}
    own_style = options.addressing != "auto" or "addressing_style" not in dict(wanted.get("s3") or {})
    wanted["s3"] = {**dict(wanted.get("s3") or {}), **(style if own_style else {})}
    if not options.is_of_regions:  # its signature is another one, which botocore chooses
        wanted.setdefault("signature_version", "s3v4")
    if options.anonymous:
        wanted["signature_version"] = botocore.UNSIGNED
    if options.dualstack:
        wanted["use_dualstack_endpoint"] = True
    try:
        return Config(
            **{
                **wanted,
                "retries": {"total_max_attempts": 1, "mode": "standard"},
                "connect_timeout": options.connect_timeout_seconds,
                "read_timeout": options.read_timeout_seconds,
                "max_pool_connections": options.max_connections,
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            }
        )
    except TypeError as error:
        raise BadInput(
            f"aws_config is not what botocore can be configured with: {printable(str(error))}",
            hint="give aws_config parameters of botocore.config.Config",
        ) from None


def _sending(connection: Connection) -> Callable[..., Any]:
    """A handler that sends a request as botocore would, but reads of whatever is no object's body only so much, and only so long.

    botocore reads lists and errors whole, without an end when the server gives them none.
    """
    client = connection.s3
    session = client._endpoint.http_session  # type: ignore[attr-defined]  # it has no public name

    def send(request: Any, **_: object) -> Any:
        request.headers["Accept-Encoding"] = connection.accepts  # not signed: proxies change it
        is_object, request.stream_output = request.stream_output, True
        answer = session.send(request)
        if not is_object or answer.status_code >= 300:
            try:
                answer._content = _said(answer.raw, client.meta.endpoint_url)  # where it keeps what it has read
            except BaseException:
                answer.raw.close()
                raise
        return answer

    return send


def _said(raw: Any, endpoint: str) -> bytes:
    content = read_within(reader_of(raw), _MAX_SAID_BYTES, f"the answer of {endpoint}")
    if len(content) > _MAX_SAID_BYTES:
        raise Untrusted(
            f"{endpoint} sends more than {size_text(_MAX_SAID_BYTES)} that are no object",
            hint="look at what stands between this host and the bucket (proxies, gateways)",
        )
    return content


def _secrets(session: Session, options: S3Options) -> tuple[str, ...]:
    own = (*options.sse_words, options.external_id)
    if options.anonymous:
        return own
    found = session.get_credentials()
    if found is None:
        raise no_credentials()
    keys = found.get_frozen_credentials()
    return tuple(word for word in (keys.access_key, keys.secret_key, keys.token, *own) if word)


def _stay(request_dict: dict[str, Any], **_: object) -> None:
    """Have botocore act as if it had followed a redirect already.

    It would send the request elsewhere, uncounted, and when HEAD of the bucket is redirected too, without end
    (seen with botocore 1.43: some 200 requests until the interpreter's stack was used up).
    """
    request_dict.setdefault("context", {}).setdefault("s3_redirect", {})["redirected"] = True


def _of_botocore(error: Exception, options: S3Options) -> FlydError:
    name = type(error).__name__
    if name == "ProfileNotFound":
        return BadInput(
            f"profile is {printable(options.profile)!r}, which does not exist on this host",
            hint="give a profile that ~/.aws/config of the user that runs the module has",
            code=name,
        )
    if "Credential" in name or "Token" in name or "Role" in name or "SSO" in name:
        return _refused(error)
    return from_setting(error) or from_exception(error, Where(options.endpoint, options.bucket, "the credentials"))


def _refused(error: Exception) -> FlydError:
    code = getattr(error, "response", {}).get("Error", {}).get("Code") or type(error).__name__
    return BadInput(
        f"the credentials for S3 cannot be used ({printable(str(code), 64)})",
        hint="see the profile, the role or the instance that they come from: `aws sts get-caller-identity` as the same user shows more",
        code=printable(str(code), 64),
    )
