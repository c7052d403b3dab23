"""Whatever the libraries below raise becomes one error of the collection, with what an operator can do."""

from __future__ import annotations

import http.client
import socket
import ssl

import pytest

from module_utils._errors import BadInput, ErrorKind, Transient
from module_utils._source.s3_errors import Where
from module_utils._source.transport_errors import from_exception

botocore = pytest.importorskip("botocore.exceptions", reason="boto3 is not installed")
urllib3 = pytest.importorskip("urllib3.exceptions", reason="boto3 is not installed")

URL = "https://user:very-secret@s3.example.net/images?X-Amz-Signature=0123456789abcdef0123"
WHERE = Where("https://s3.example.net", "images", "archive.tar")


def untrusted_certificate() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    return error


def not_tls() -> ssl.SSLError:
    error = ssl.SSLError(1, "wrong version number")
    error.reason = "WRONG_VERSION_NUMBER"
    return error


ERRORS = [
    (botocore.ReadTimeoutError(endpoint_url=URL), ErrorKind.TRANSIENT, "no bytes in time"),
    (botocore.ConnectTimeoutError(endpoint_url=URL), ErrorKind.TRANSIENT, "cannot be reached"),
    (
        botocore.EndpointConnectionError(endpoint_url=URL, error=ConnectionRefusedError(111, "Connection refused")),
        ErrorKind.TRANSIENT,
        "refused",
    ),
    (
        botocore.EndpointConnectionError(endpoint_url=URL, error=socket.gaierror(-2, "unknown")),
        ErrorKind.TRANSIENT,
        "does not resolve",
    ),
    (botocore.ConnectionClosedError(endpoint_url=URL), ErrorKind.TRANSIENT, "broke"),
    (botocore.ProxyConnectionError(proxy_url=URL), ErrorKind.TRANSIENT, "cannot be reached"),
    (botocore.ResponseStreamingError(error=urllib3.ProtocolError("broken")), ErrorKind.TRANSIENT, "broke"),
    (botocore.IncompleteReadError(actual_bytes=1, expected_bytes=2), ErrorKind.TRANSIENT, "broke"),
    (
        botocore.SSLError(endpoint_url=URL, error=untrusted_certificate()),
        ErrorKind.UNTRUSTED,
        "self-signed certificate",
    ),
    (botocore.SSLError(endpoint_url=URL, error=urllib3.SSLError(not_tls())), ErrorKind.BAD_INPUT, "does not speak TLS"),
    (
        botocore.SSLError(endpoint_url=URL, error=ssl.SSLEOFError(8, "EOF")),
        ErrorKind.TRANSIENT,
        "TLS connection .* broke",
    ),
    (botocore.NoCredentialsError(), ErrorKind.BAD_INPUT, "no credentials"),
    (botocore.PartialCredentialsError(provider="env", cred_var="x"), ErrorKind.BAD_INPUT, "no credentials"),
    (
        botocore.CredentialRetrievalError(provider="role", error_msg="very-secret"),
        ErrorKind.BAD_INPUT,
        "are not available",
    ),
    (botocore.ParamValidationError(report="very-secret"), ErrorKind.BAD_INPUT, "cannot be sent"),
    (http.client.IncompleteRead(b""), ErrorKind.TRANSIENT, "broke"),
    (ConnectionResetError(104, "Connection reset by peer"), ErrorKind.TRANSIENT, "Connection reset by peer"),
    (TimeoutError("timed out"), ErrorKind.TRANSIENT, "no bytes in time"),
    (TimeoutError("timed out"), ErrorKind.TRANSIENT, "no bytes in time"),
    (ZeroDivisionError("very-secret"), ErrorKind.UNSUPPORTED, "report it"),
]


@pytest.mark.parametrize(
    ("error", "kind", "says"), ERRORS, ids=[f"{type(row[0]).__name__}-{row[2][:12]}" for row in ERRORS]
)
def test_each_error_below_has_one_kind_and_shows_no_secret(error: Exception, kind: ErrorKind, says: str) -> None:
    found = from_exception(error, WHERE)
    assert (found.kind, found.retryable) == (kind, kind is ErrorKind.TRANSIENT)
    with pytest.raises(Exception, match=says):
        raise Exception(f"{found.msg} {found.hint}")
    assert "very-secret" not in f"{found.msg} {found.hint} {found.details}"
    assert "Signature" not in f"{found.msg} {found.hint} {found.details}"


def test_our_own_errors_pass_unchanged() -> None:
    ours = Transient("wait", hint="")
    assert from_exception(ours, WHERE) is ours


def test_an_answer_of_s3_is_looked_up_in_its_table() -> None:
    answer = {"Error": {"Code": "NoSuchBucket"}, "ResponseMetadata": {"HTTPStatusCode": 404, "HTTPHeaders": {}}}
    found = from_exception(botocore.ClientError(answer, "GetObject"), WHERE)
    assert isinstance(found, BadInput)
    assert found.details["code"] == "NoSuchBucket"


def test_the_region_in_the_body_of_an_answer_is_reported() -> None:
    answer = {
        "Error": {"Code": "AuthorizationHeaderMalformed", "Region": "eu-west-1"},
        "ResponseMetadata": {"HTTPStatusCode": 400, "HTTPHeaders": {}},
    }
    assert from_exception(botocore.ClientError(answer, "GetObject"), WHERE).details["region"] == "eu-west-1"
