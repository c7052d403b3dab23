"""Who the server is: certificates, and the authority that signed them."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from module_utils._errors import ErrorKind, FlydError
from module_utils._source.s3.bucket import Bucket, S3Options
from tests.faults import kinds
from tests.faults.proxy import FaultProxy
from tests.s3.conftest import Host, Stored

Store = Callable[..., Stored]


@pytest.fixture(scope="module")
def tls_proxy(s3_port: int, certificate: Path) -> Iterator[FaultProxy]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with FaultProxy("127.0.0.1", s3_port, tls=context) as running:
        yield running


@pytest.fixture
def tls_options(options: S3Options, tls_proxy: FaultProxy) -> S3Options:
    tls_proxy.clear()
    return replace(options, endpoint_url=tls_proxy.url)


def test_a_certificate_of_an_unknown_authority_is_not_trusted(tls_options: S3Options, store: Store) -> None:
    key = store(10).key
    with Bucket(tls_options) as bucket, pytest.raises(FlydError, match="certificate of https://127") as caught:
        bucket.head(key)
    assert (caught.value.kind, caught.value.retryable) == (ErrorKind.UNTRUSTED, False)
    assert "ca_bundle" in caught.value.hint


def test_a_certificate_of_the_given_authority_is_trusted(
    tls_options: S3Options, tls_proxy: FaultProxy, certificate: Path, store: Store, host: Host
) -> None:
    stored = store(300_000)
    tls_proxy.plan(kinds.truncated(50_000, reset=True), skip=1)
    with Bucket(replace(tls_options, ca_bundle=str(certificate))) as bucket:
        fetched = Host(bucket, host.directory).fetch(stored, checksum=f"sha256:{stored.sha256}")
    assert host.final.read_bytes() == stored.content
    assert fetched.downloaded.attempts == 2


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_certificates_can_be_left_unchecked_when_asked_for(tls_options: S3Options, store: Store) -> None:
    with Bucket(replace(tls_options, validate_certs=False)) as bucket:
        assert bucket.head(store(10).key).size_bytes == 10
