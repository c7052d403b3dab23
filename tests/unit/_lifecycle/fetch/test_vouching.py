# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A later run over what is fetched already: who vouches for it now, and what to do when the object behind its key is another one."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from module_utils._errors import BadInput, ErrorKind, FlydError, Transient, Untrusted
from module_utils._lifecycle.fetch.fetched import warnings_of
from module_utils._lifecycle.fetch.options import FetchOptions
from module_utils._lifecycle.store.records import Image, RetiredImage
from module_utils._names import ObjectKey
from module_utils._source.digests.trust import ChecksumPolicy
from module_utils._source.s3.bucket import S3Options
from tests.unit._lifecycle.machine import ARCHIVE, KEY, OTHER_ARCHIVE, Machine
from tests.unit._lifecycle.s3_stand_in import BUCKET

SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
OTHER_SHA256 = hashlib.sha256(OTHER_ARCHIVE).hexdigest()
WRONG = "0" * 64
POLICIES = pytest.mark.parametrize("policy", ["first_use", "require"])
MODES = pytest.mark.parametrize("dry_run", [False, True], ids=["run", "check mode"])
SAME_SIZE = ARCHIVE[:-1] + bytes([ARCHIVE[-1] ^ 1])


@pytest.fixture
def host(fetched: Machine) -> Iterator[Machine]:
    """A host with an archive that was taken at first use, and a bucket with checksum files: right, other, sha512."""
    for name, content in (("right", SHA256), ("other", SHA256), ("wrong", WRONG)):
        fetched.s3.put(f"{name}.sums", f"{content}  redis_latest.tar\n".encode())
    fetched.s3.put("right.sha512", hashlib.sha512(ARCHIVE).hexdigest().encode())
    fetched.s3.put("wrong.sha512", b"0" * 128)
    yield fetched
    fetched.s3.delete(KEY.value)  # with what was announced of it
    fetched.s3.put(KEY.value, ARCHIVE)


def refusal(fetch: Callable[..., Any], **asked: Any) -> FlydError:
    with pytest.raises(FlydError) as caught:
        fetch(**asked)
    return caught.value


def recorded(host: Machine) -> tuple[str, str]:
    [image] = host.records(Image)
    return image.trust, image.vouched_by


# Another voucher is named


@POLICIES
@MODES
@pytest.mark.parametrize("before", ["", "right.sums", f"sha256:{SHA256}"], ids=["first use", "a file", "a digest"])
@pytest.mark.parametrize("name", ["wrong.sums", "wrong.sha512"])
def test_a_checksum_file_that_contradicts_is_untrusted(
    host: Machine, before: str, name: str, policy: str, dry_run: bool
) -> None:
    if before:
        host.fetch(checksum=before)
    found = host.everything()
    host.s3.forget()
    error = refusal(host.fetch, checksum=name, policy=policy, dry_run=dry_run)
    assert (error.kind, f"GET {KEY}" in host.s3.requests()) == (ErrorKind.UNTRUSTED, False)
    assert "forget it first" in error.hint
    assert host.everything() == found
    assert not host.fetch().changed


@POLICIES
@MODES
def test_a_checksum_file_that_is_missing_is_named_as_such(host: Machine, policy: str, dry_run: bool) -> None:
    host.fetch(checksum="right.sums")
    error = refusal(host.fetch, checksum="nowhere.sums", policy=policy, dry_run=dry_run)
    assert (type(error), "while reading the checksum file nowhere.sums" in str(error)) == (BadInput, True)
    assert error.msg.startswith(f"the checksum file nowhere.sums does not exist in bucket {BUCKET} at http://")
    assert "checksum" in error.hint


@POLICIES
@MODES
def test_a_checksum_file_that_cannot_be_reached_is_transient(host: Machine, policy: str, dry_run: bool) -> None:
    host.fetch(checksum="right.sums")
    error = refusal(host.fetch, checksum="https://127.0.0.1:1/SHA256SUMS", policy=policy, dry_run=dry_run)
    assert (type(error), error.retryable) == (Transient, True)


@POLICIES
def test_a_file_that_agrees_vouches_and_is_recorded_and_nothing_changes(host: Machine, policy: str) -> None:
    done = host.fetch(checksum="right.sums", policy=policy)
    named = f"s3://{BUCKET}/right.sums"
    assert (done.changed, done.facts["trust"], done.facts["vouched_by"]) == (False, "sidecar", named)
    assert host.s3.requests() == [f"HEAD {KEY}", "GET right.sums"]
    assert recorded(host) == ("sidecar", named)
    found = host.everything()
    assert not host.fetch(checksum="right.sums", policy=policy).changed
    assert host.everything() == found, "what is recorded is not recorded again"


@pytest.mark.parametrize("keep_archive", [True, False])
def test_a_sha512_file_is_compared_with_the_bytes_or_with_what_was_said_before(
    host: Machine, keep_archive: bool
) -> None:
    assert host.fetch(checksum="right.sha512").facts["trust"] == "sidecar"
    host.unpack(keep_archive=keep_archive)
    assert not host.fetch(checksum="right.sha512").changed


@MODES
def test_the_same_file_is_read_again_and_may_have_been_revoked(host: Machine, dry_run: bool) -> None:
    host.fetch(checksum="right.sums")
    host.s3.put("right.sums", f"{WRONG}  redis_latest.tar\n".encode())
    assert refusal(host.fetch, checksum="right.sums", dry_run=dry_run).kind is ErrorKind.UNTRUSTED
    host.s3.put("right.sums", f"{SHA256}  another.tar\n".encode())
    assert "gives no digest for" in str(refusal(host.fetch, checksum="right.sums", dry_run=dry_run))


def test_who_vouches_more_is_recorded_and_who_vouches_less_is_not(host: Machine) -> None:
    host.fetch(checksum="right.sums")
    host.fetch(checksum="other.sums")
    assert recorded(host) == ("sidecar", f"s3://{BUCKET}/other.sums")
    assert host.fetch(checksum=f"SHA256:{SHA256.upper()}").facts["vouched_by"] == f"sha256:{SHA256}"
    assert recorded(host) == ("pinned", f"sha256:{SHA256}")
    assert host.fetch(checksum="other.sums").facts["trust"] == "sidecar"
    assert host.fetch().facts["trust"] == "pinned"
    assert recorded(host) == ("pinned", f"sha256:{SHA256}")


def test_check_mode_records_nothing(host: Machine) -> None:
    found = host.everything()
    assert host.fetch(checksum="right.sums", dry_run=True).facts["trust"] == "sidecar"
    assert host.everything() == found


@MODES
def test_what_was_taken_at_first_use_is_refused_by_require_until_something_vouches(
    host: Machine, dry_run: bool
) -> None:
    assert "no digest is known" in str(refusal(host.fetch, policy="require", dry_run=dry_run))
    host.s3.announce(KEY.value, host.records(Image)[0].etag, SHA256)
    assert host.fetch(policy="require", dry_run=dry_run).facts["trust"] == "object"
    host.fetch(checksum="right.sums")
    host.s3.announce(KEY.value, host.records(Image)[0].etag)
    assert host.fetch(policy="require", dry_run=dry_run).facts["trust"] == "sidecar"


def test_the_secret_of_a_checksum_url_is_not_recorded(pooled: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("module_utils._source.digests.checksum.read_url", lambda *_: SHA256.encode())
    url = "https://rel.example/SUMS?X-Amz-Signature=hush-hush"
    assert pooled.fetch(checksum=url).facts["vouched_by"] == "https://rel.example/SUMS?***"
    assert not pooled.fetch(checksum=url).changed
    with sqlite3.connect(pooled.state / "flyd.db") as store:
        assert not [line for line in store.iterdump() if "hush" in line]
    store.close()


# The object is another one


def test_another_digest_in_s3_under_the_same_etag_is_another_object(host: Machine) -> None:
    etag = host.records(Image)[0].etag
    host.s3.announce(KEY.value, etag, SHA256)
    assert not host.fetch().changed
    host.s3.put(KEY.value, SAME_SIZE)
    new = hashlib.sha256(SAME_SIZE).hexdigest()
    host.s3.announce(KEY.value, etag, new)
    assert refusal(host.fetch, on_change="refuse").details["new_sha256"] == new
    assert refusal(host.fetch, checksum="right.sums").kind is ErrorKind.UNTRUSTED
    assert not host.fetch(checksum=f"sha256:{SHA256}").changed
    predicted, done = host.fetch(dry_run=True), host.fetch()
    assert (predicted.changed, predicted.facts["replaced"]) == (True, done.facts["replaced"])
    assert done.facts["replaced"] == {"old_sha256": SHA256, "new_sha256": new, "old_etag": etag, "new_etag": etag}
    assert (done.facts["trust"], done.facts["warnings"][-1:]) == ("object", [])
    assert (host.records(Image)[0].sha256, host.records(RetiredImage)[0].sha256) == (new, SHA256)
    assert not host.fetch().changed


@MODES
def test_follow_says_what_was_replaced_and_warns_when_nothing_vouches(host: Machine, dry_run: bool) -> None:
    host.s3.put(KEY.value, OTHER_ARCHIVE)
    done = host.fetch(dry_run=dry_run)
    assert done.changed
    assert done.facts["replaced"]["old_sha256"] == SHA256
    assert done.facts["replaced"]["new_sha256"] == (None if dry_run else OTHER_SHA256)
    assert "no checksum vouches for the new content" in done.facts["warnings"][-1]
    again = host.fetch(dry_run=dry_run)
    assert (again.changed, again.facts["replaced"] is None) == (dry_run, not dry_run)


@MODES
@POLICIES
@pytest.mark.parametrize("checksum", ["", "new.sums"])
def test_refuse_downloads_nothing_whatever_vouches(host: Machine, dry_run: bool, policy: str, checksum: str) -> None:
    host.fetch(checksum="right.sums")
    host.s3.put(KEY.value, OTHER_ARCHIVE)
    host.s3.put("new.sums", OTHER_SHA256.encode())
    host.s3.forget()
    found = host.everything()
    error = refusal(host.fetch, on_change="refuse", checksum=checksum, policy=policy, dry_run=dry_run)
    assert (error.kind, f"GET {KEY}" in host.s3.requests()) == (ErrorKind.UNTRUSTED, False)
    assert "checksum: sha256:" in error.hint or policy == "require"
    if not dry_run:
        assert host.left_over() == []
    assert host.everything()["devices"] == found["devices"]
    assert host.fetch(on_change="refuse", checksum=f"sha256:{SHA256}").changed is False
    assert host.fetch(on_change="refuse", checksum=f"sha256:{OTHER_SHA256}", dry_run=dry_run).changed


def test_refuse_takes_the_same_bytes_uploaded_again_when_their_digest_is_known(host: Machine) -> None:
    host.s3.announce(KEY.value, '"of another upload"')
    assert refusal(host.fetch, on_change="refuse").kind is ErrorKind.UNTRUSTED
    assert host.fetch(on_change="refuse", checksum="right.sums").facts["replaced"] is None
    assert not host.fetch(on_change="refuse").changed


def test_refuse_holds_for_an_object_that_is_replaced_during_its_download(host: Machine) -> None:
    (host.state / "archives" / SHA256).unlink()
    host.s3.put_before_next_get(KEY.value, OTHER_ARCHIVE)
    assert refusal(host.fetch, on_change="refuse").details["new_sha256"] == OTHER_SHA256
    assert host.records(Image)[0].sha256 == SHA256
    assert (host.files_in("archives"), host.files_in("spool")) == ([], [])


@MODES
def test_ignore_sends_no_request_while_the_key_is_fetched(host: Machine, dry_run: bool) -> None:
    host.s3.put(KEY.value, OTHER_ARCHIVE)
    done = host.fetch(on_change="ignore", dry_run=dry_run)
    assert (done.changed, done.facts["sha256"], host.s3.requests()) == (False, SHA256, [])
    host.s3.put(KEY.value, ARCHIVE)
    host.fetch(checksum="right.sums")
    host.s3.forget()
    assert not host.fetch(on_change="ignore", checksum="right.sums", policy="require", dry_run=dry_run).changed
    assert host.s3.requests() == []
    assert refusal(host.fetch, on_change="ignore", checksum="wrong.sums", dry_run=dry_run).kind is ErrorKind.UNTRUSTED
    assert host.s3.requests() == ["GET wrong.sums"]


@MODES
def test_ignore_asks_when_something_is_to_be_fetched_or_required(host: Machine, dry_run: bool) -> None:
    host.s3.put(KEY.value, OTHER_ARCHIVE)
    assert "no digest is known" in str(refusal(host.fetch, on_change="ignore", policy="require", dry_run=dry_run))
    assert host.fetch(on_change="ignore", checksum=f"sha256:{OTHER_SHA256}", dry_run=dry_run).changed
    assert host.fetch(key=ObjectKey("right.sums"), on_change="ignore", dry_run=dry_run).changed


# What came without TLS


def test_a_line_without_tls_is_warned_of() -> None:
    def warnings(endpoint: str, checksum: str = "", *, anonymous: bool = False, was_asked: bool = True) -> int:
        keys = {} if anonymous else {"access_key": "a", "secret_key": "b"}
        s3 = S3Options("bucket", endpoint, anonymous=anonymous, **keys)  # type: ignore[arg-type]
        options = FetchOptions(KEY, s3, checksum, ChecksumPolicy.FIRST_USE, 1)
        return len(warnings_of(options, was_asked=was_asked))

    assert warnings("http://s3.example") == 1
    assert warnings("http://s3.example", "http://rel.example/SUMS") == 2
    assert warnings("https://s3.example", "https://rel.example/SUMS") == 0
    assert warnings("http://s3.example", anonymous=True) == 0
    assert warnings("http://s3.example", was_asked=False) == 0


def test_an_untrusted_object_is_never_recorded(host: Machine) -> None:
    host.s3.put(KEY.value, OTHER_ARCHIVE)
    with pytest.raises(Untrusted):
        host.fetch(checksum="right.sums")
    assert (host.records(Image)[0].sha256, host.left_over()) == (SHA256, [])


def composite(content: bytes) -> str:
    """What some servers state of an upload in one part: the digest of its digest."""
    return hashlib.sha256(hashlib.sha256(content).digest()).hexdigest()


def test_a_digest_of_the_digest_vouches_for_an_upload_in_one_part(pooled: Machine) -> None:
    pooled.s3.announce(KEY.value, '"etag"', composite(ARCHIVE))
    outcome = pooled.fetch()
    assert (outcome.facts["sha256"], outcome.facts["trust"]) == (hashlib.sha256(ARCHIVE).hexdigest(), "object")
    again = pooled.fetch()
    assert (again.changed, again.facts["received_bytes"]) == (False, 0)
    assert not pooled.fetch(checksum=f"sha256:{outcome.facts['sha256']}").changed


def test_a_digest_of_the_digest_of_other_bytes_is_refused(pooled: Machine) -> None:
    pooled.s3.announce(KEY.value, '"etag"', composite(OTHER_ARCHIVE))
    with pytest.raises(Untrusted, match="downloaded twice"):
        pooled.fetch()
    assert pooled.files_in("archives") == []


def test_a_digest_that_is_named_may_be_that_of_which_the_server_states_the_digest(pooled: Machine) -> None:
    pooled.s3.announce(KEY.value, '"etag"', composite(ARCHIVE))
    assert pooled.fetch(checksum=f"sha256:{hashlib.sha256(ARCHIVE).hexdigest()}").facts["trust"] == "pinned"
    other = hashlib.sha256(OTHER_ARCHIVE).hexdigest()
    with pytest.raises(Untrusted):
        pooled.fetch(checksum=f"sha256:{other}")
