# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that are not AWS, and objects that are not plain: each is fetched whole, found unchanged by the next run, or truly refused."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

pytest.importorskip("boto3", reason="boto3 is not installed")

from module_utils._errors import FlydError
from module_utils._host.retry import Retry
from module_utils._lifecycle.fetch.options import FetchOptions, is_of
from module_utils._lifecycle.store.records import Image
from module_utils._names import ObjectKey
from module_utils._source.digests.checksum import ChecksumPolicy
from module_utils._source.download.download import DownloadOptions
from module_utils._source.download.fetch import Arrived, Wanted, fetch
from module_utils._source.found import Found
from module_utils._source.s3.bucket import Bucket, S3Options
from module_utils._source.s3.head_request import light_head
from tests.s3.module import Module
from tests.s3.place import ACCESS_KEY, SECRET_KEY, Place, changing, running

pytestmark = pytest.mark.usefixtures("bare_environment")
CONTENT = random.Random(1).randbytes(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PINNED = f"sha256:{SHA256}"
KEY = "images/a.tar"
SSE_KEY = "an-sse-c-key-that-nobody-shows-!"
ARN = "arn:aws:s3:eu-north-1:123456789012:accesspoint/images"
HOW = DownloadOptions(streams=2, segment_bytes=64 << 10, deadline_seconds=20)
Serve = Callable[..., Place]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``serve(place)`` runs a server; ``serve(place, certificate)`` one with TLS."""
    with ExitStack() as stack:
        yield lambda place, certificate=None: stack.enter_context(running(place, certificate))


class Fetcher(Protocol):
    def __call__(self, place: Place, key: str = KEY, checksum: str = "", **options: Any) -> Arrived: ...


@pytest.fixture
def fetched(tmp_path: Path) -> Fetcher:
    """Fetch the object; the place is then asked as the next run asks, and must not have changed. ``place.seen`` is of that run."""

    def run(place: Place, key: str = KEY, checksum: str = "", **options: Any) -> Arrived:
        s3 = s3_options(place, **options)
        wanted, part = Wanted(ObjectKey(key), checksum, ChecksumPolicy.FIRST_USE), tmp_path / "part"
        with Bucket(s3) as bucket:
            arrived = fetch(bucket, wanted, lambda _: str(part), retry=Retry(attempts=1), options=HOW)
        assert part.read_bytes() == CONTENT
        part.unlink()
        found = arrived.found
        place.before, place.seen = place.seen, []
        assert is_of(FetchOptions(wanted.key, s3, "", wanted.policy, 1), image_of(s3, found), again(s3, key))
        return arrived

    return run


def s3_options(place: Place, **options: Any) -> S3Options:
    given = {"bucket": "images", "endpoint_url": place.url, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    return S3Options(**{**given, "read_timeout_seconds": 5, **options})


def image_of(s3: S3Options, found: Found) -> Image:
    """What is recorded of what was fetched."""
    return Image("1", found.key.value, SHA256, bucket=s3.bucket, size_bytes=found.size_bytes, etag=found.etag)._replace(
        version_id=found.version_id
    )


def again(s3: S3Options, key: str) -> Found:
    """What the next run sees."""
    info = light_head(s3, ObjectKey(key))
    if info is None:
        with Bucket(s3) as bucket:
            info = bucket.head(ObjectKey(key))
    return Found(ObjectKey(key), (info,))


def refusal(place: Place, tmp_path: Path, **options: Any) -> FlydError:
    """The error of a download."""
    wanted = Wanted(ObjectKey(KEY))
    with Bucket(s3_options(place, **options)) as bucket, pytest.raises(FlydError) as caught:
        fetch(bucket, wanted, lambda _: str(tmp_path / "part"), retry=Retry(attempts=1), options=HOW)
    return caught.value


def plain(**how: Any) -> Place:
    """A place with the object in the bucket images."""
    return Place({("images", KEY): CONTENT}, **how)


@pytest.fixture
def module(site: Path, tmp_path: Path) -> Module:
    """The whole module, for what only it shows."""
    pytest.importorskip("ansible.module_utils.testing", reason="ansible-core is not installed")
    pytest.importorskip("ulid", reason="python-ulid is not installed")
    if os.geteuid() != 0:
        pytest.skip("modules refuse to run as another user than root")
    given = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "bucket": "images", "key": KEY, "retries": 0}
    return Module(site, tmp_path / "state", given)


# Where


def test_an_endpoint_with_a_path(fetched: Fetcher, serve: Serve) -> None:
    place = serve(plain(path="/storage/v1/s3"))
    fetched(place)
    assert place.asked() == ["HEAD"], "a second run asks once, without boto3"
    fetched(place, addressing="path", endpoint_url=place.url + "/")


def test_a_bucket_of_a_tenant_on_ceph(fetched: Fetcher, serve: Serve) -> None:
    place = serve(Place({("tenant:images", KEY): CONTENT}))
    fetched(place, bucket="tenant:images")
    assert [path for _method, path, _headers in place.seen] == [f"/tenant%3Aimages/{KEY}"]


def test_a_bucket_whose_name_aws_would_not_give(fetched: Fetcher, serve: Serve) -> None:
    fetched(serve(Place({("Images_2", KEY): CONTENT})), bucket="Images_2")


@pytest.mark.parametrize(
    "key",
    [
        "/images/a.tar",
        "//a.tar",
        "a//b///c.tar",
        "../up/./a.tar",
        "..",
        "a b+c%20d&e=f?g#h.tar",
        "снимок/イメージ é.tar",
        "~a*b'c(d)!$@:;,.tar",
    ],
)
def test_every_key_is_asked_for_to_the_letter(fetched: Fetcher, serve: Serve, key: str) -> None:
    place = serve(Place({("images", key): CONTENT}))
    fetched(place, key)
    assert place.asked() == ["HEAD"], "the short way signs the same path"


@pytest.mark.parametrize("region", ["garage", "auto", "EU-central-2", "r"])
def test_the_region_of_a_server_that_has_its_own(fetched: Fetcher, serve: Serve, region: str) -> None:
    place = serve(plain(region=region))
    if len(region) > 1:
        fetched(place)
    fetched(place, region=region)


def test_a_redirect_by_region_is_followed_once_and_reported_when_the_region_was_given(
    fetched: Fetcher, serve: Serve, tmp_path: Path
) -> None:
    place = serve(plain(region="eu-west-1", redirects=True))
    refused = refusal(place, tmp_path, region="us-east-1")
    assert (refused.kind.value, refused.details["region"]) == ("bad_input", "eu-west-1")
    fetched(place)


@pytest.mark.parametrize(("region", "tells"), [("garage", False), ("Under_Score", True)])
def test_a_region_that_cannot_be_followed_is_an_error_that_names_the_option(
    serve: Serve, tmp_path: Path, region: str, tells: bool
) -> None:
    refused = refusal(serve(plain(region=region, tells_region=tells)), tmp_path)
    assert (refused.kind.value, "set region" in refused.hint) == ("bad_input", True)


def test_a_region_that_botocore_does_not_take_is_reported_as_one(tmp_path: Path) -> None:
    refused = refusal(Place(url="http://127.0.0.1:9"), tmp_path, region="Under_Score")
    assert (refused.kind.value, "region" in refused.msg) == ("bad_input", True)


def test_an_access_point_is_asked_under_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    refused = refusal(Place(), tmp_path, bucket=ARN, region="eu-north-1")
    assert refused.kind.value == "transient", "the request is made, and the line to the proxy is dead"


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"bucket": "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap"}, "unsupported", "awscrt"),
        ({"endpoint_url": "http://127.0.0.1:9", "config": {"no_such": 1}}, "bad_input", "no_such"),
        ({"bucket": ARN, "config": {"s3": {"use_accelerate_endpoint": True}}}, "bad_input", "ccelerate"),
    ],
)
def test_what_botocore_cannot_make_a_request_of_is_no_fault_of_the_line(
    tmp_path: Path, options: dict[str, Any], kind: str, says: str
) -> None:
    refused = refusal(Place(), tmp_path, **options)
    assert (refused.kind.value, refused.retryable) == (kind, False)
    assert says in f"{refused.msg} {refused.hint}"


# Who, and what


def test_requester_pays(fetched: Fetcher, serve: Serve, tmp_path: Path) -> None:
    place = serve(plain(requester_pays=True))
    refused = refusal(place, tmp_path)
    assert (refused.kind.value, "request_payer" in refused.hint) == ("bad_input", True)
    fetched(place, requester_pays=True)
    assert place.asked() == ["HEAD"]


def test_requester_pays_for_a_family(serve: Serve) -> None:
    place = serve(Place({("images", "family/1.tar"): CONTENT}, requester_pays=True))
    with Bucket(s3_options(place, requester_pays=True)) as bucket:
        assert [one.key for one in bucket.list_family(ObjectKey("family/"))] == ["family/1.tar"]
    assert [headers.get("x-amz-request-payer") for _method, _path, headers in place.seen] == ["requester"]


def test_sse_c(fetched: Fetcher, serve: Serve, certificate: Path, tmp_path: Path) -> None:
    place = serve(plain(sse_key=SSE_KEY.encode()), certificate)
    refused = refusal(place, tmp_path, ca_bundle=str(certificate))
    assert (refused.kind.value, "sse_customer_key" in refused.hint) == ("bad_input", True)
    fetched(place, ca_bundle=str(certificate), sse_key=SSE_KEY.encode())
    assert place.asked() == ["HEAD"]


@pytest.mark.parametrize("unencrypted", [(), ("sums",)], ids=["same key", "none"])
def test_a_checksum_file_beside_an_object_with_sse_c(
    fetched: Fetcher, serve: Serve, certificate: Path, unencrypted: tuple[str, ...]
) -> None:
    place = plain(sse_key=SSE_KEY.encode(), unencrypted=unencrypted)
    place.objects["images", "sums"] = f"{SHA256}  {KEY}\n".encode()
    serve(place, certificate)
    told = fetched(place, checksum="sums", ca_bundle=str(certificate), sse_key=SSE_KEY.encode())
    assert told.trust.value == "sidecar"


def test_the_key_of_sse_c_is_shown_nowhere_and_not_sent_without_tls(module: Module, serve: Serve) -> None:
    place = serve(plain(sse_key=SSE_KEY.encode()))
    with module.running(endpoint_url=place.url, sse_customer_key=SSE_KEY) as process:
        said, complained = process.communicate(timeout=60)
    assert json.loads(said.splitlines()[-1])["error_kind"] == "bad_input"
    assert place.seen == []
    files = b"".join(path.read_bytes() for path in module.state.rglob("*") if path.is_file())
    assert SSE_KEY not in said + complained + files.decode("latin-1")


def test_a_version_of_an_object(fetched: Fetcher, serve: Serve, tmp_path: Path) -> None:
    place = serve(Place({("images", KEY): b"newer"}, versions={"v/1+a": CONTENT}))
    told = fetched(place, version_id="v/1+a")
    assert (told.found.version_id, place.asked()) == ("v/1+a", ["HEAD"])
    assert refusal(place, tmp_path, version_id="v2").kind.value == "bad_input"
    with Bucket(s3_options(place, version_id="v2")) as bucket, pytest.raises(FlydError, match="no version"):
        bucket.list_family(ObjectKey("family/"))


def test_the_options_of_the_module_reach_the_server(module: Module, serve: Serve) -> None:
    place = serve(Place({("tenant:images", KEY): b"newer"}, versions={"v1": CONTENT}, requester_pays=True, path="/s3"))
    given: dict[str, Any] = {
        "bucket": "tenant:images",
        "version": "v1",
        "request_payer": "requester",
        "s3_url": place.url,
    }
    first = module.run(**given)
    assert (first.get("msg"), first["changed"], first["sha256"], first["version_id"]) == (None, True, SHA256, "v1")
    assert module.run(**given)["changed"] is False


# HEAD


@pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
def test_a_head_that_is_refused_while_get_is_not(fetched: Fetcher, serve: Serve, status: int) -> None:
    fetched(serve(plain(refuses_head=status)))


def test_a_head_that_is_refused_of_an_empty_object(serve: Serve) -> None:
    place = serve(Place({("images", KEY): b""}, refuses_head=403))
    with Bucket(s3_options(place)) as bucket:
        assert bucket.head(ObjectKey(KEY)).size_bytes == 0


def test_a_head_that_is_refused_by_a_server_without_ranges(fetched: Fetcher, serve: Serve) -> None:
    fetched(serve(plain(refuses_head=403, ignores_range=True)))


def test_what_is_refused_for_good_is_reported_with_its_own_kind(serve: Serve, tmp_path: Path) -> None:
    told = refusal(serve(plain(refuses_head=405, refuses_get=403)), tmp_path)
    assert (told.kind.value, told.retryable, told.details["code"]) == ("bad_input", False, "AccessDenied")


# ETags


def weak(told: dict[str, str]) -> dict[str, str]:
    return {**told, "ETag": f"W/{told['ETag']}"}


def unquoted(told: dict[str, str]) -> dict[str, str]:
    return {**told, "ETag": told["ETag"].strip('"')}


def other(told: dict[str, str]) -> dict[str, str]:
    return {**told, "ETag": '"of-another-node"'}


def without(*names: str) -> Callable[[dict[str, str]], dict[str, str]]:
    return lambda told: {name: value for name, value in told.items() if name not in names}


@pytest.mark.parametrize("at_origin", [True, False], ids=["compared at the origin", "compared as shown"])
@pytest.mark.parametrize(
    ("head", "get"),
    [
        (weak, weak),
        (weak, dict),
        (dict, weak),
        (dict, unquoted),
        (unquoted, unquoted),
        (dict, other),
        (without("ETag"), without("ETag")),
    ],
    ids=["weak", "weak in HEAD", "weak in GET", "unquoted in GET", "unquoted", "another one in GET", "none"],
)
def test_an_etag_that_is_not_as_it_should_be(
    fetched: Fetcher, serve: Serve, head: Any, get: Any, at_origin: bool
) -> None:
    fetched(serve(plain(head_headers=head, get_headers=get, compares_at_origin=at_origin)))


def test_a_weak_etag_is_no_condition_and_without_a_digest_its_bytes_come_of_one_answer(
    fetched: Fetcher, serve: Serve
) -> None:
    place = serve(plain(head_headers=weak, get_headers=weak))

    def gets() -> list[tuple[bool, bool]]:
        return [("range" in headers, "if-match" in headers) for how, _path, headers in place.before if how == "GET"]

    fetched(place)
    assert gets() == [(False, False)]
    fetched(place, checksum=PINNED)
    assert gets() == 4 * [(True, False)]


@pytest.mark.parametrize("template", ['"{}"', 'W/"{}"'])
def test_an_etag_that_is_another_one_in_every_answer(fetched: Fetcher, serve: Serve, template: str) -> None:
    assert fetched(serve(plain(etag=changing(template)))).found.etag == '"last-modified-1700000000"'


def test_an_object_that_nothing_distinguishes_needs_a_digest(fetched: Fetcher, serve: Serve, tmp_path: Path) -> None:
    place = plain(head_headers=without("ETag", "Last-Modified"), get_headers=without("ETag", "Last-Modified"))
    place.objects["images", "sums"] = f"{SHA256}  {KEY}\n".encode()
    serve(place)
    told = refusal(place, tmp_path)
    assert (told.kind.value, told.retryable, "checksum" in told.hint) == ("unsupported", False, True)
    fetched(place, checksum=PINNED)
    fetched(place, checksum="sums")


def test_an_object_that_is_replaced_is_another_one_whatever_its_etag_is_like(fetched: Fetcher, serve: Serve) -> None:
    place = serve(plain(head_headers=weak, get_headers=weak))
    image = image_of(s3_options(place), fetched(place).found)
    place.objects["images", KEY] = CONTENT[::-1]
    options = FetchOptions(ObjectKey(KEY), s3_options(place), "", ChecksumPolicy.FIRST_USE, 1)
    assert not is_of(options, image, again(options.s3, KEY))


# Ranges, lengths, encodings


def test_a_server_without_ranges(fetched: Fetcher, serve: Serve) -> None:
    fetched(serve(plain(ignores_range=True)))


def test_a_head_without_a_length(fetched: Fetcher, serve: Serve) -> None:
    fetched(serve(plain(head_headers=lambda told: {**told, "Transfer-Encoding": "chunked"})))


def test_google_gives_what_it_stores_compressed_as_it_is_stored(fetched: Fetcher, serve: Serve) -> None:
    fetched(serve(plain(stored_gzip=True)))


def test_bytes_that_are_compressed_on_the_way_are_refused_with_the_reason(serve: Serve, tmp_path: Path) -> None:
    place = serve(plain(get_headers=lambda told: {**told, "Content-Encoding": "gzip"}))
    told = refusal(place, tmp_path)
    assert (told.kind.value, told.retryable) == ("unsupported", False)
    assert "Content-Encoding: identity and sends it with gzip" in told.msg


def test_bytes_that_are_decompressed_on_the_way_are_refused_with_the_reason(serve: Serve, tmp_path: Path) -> None:
    place = serve(plain(head_headers=lambda told: {**told, "Content-Encoding": "gzip"}, ignores_range=True))
    told = refusal(place, tmp_path)
    assert (told.kind.value, told.retryable) == ("unsupported", False)
    assert "with Content-Encoding: gzip and sends it with identity" in told.msg
