# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""new → fetched from a file of this host or of the controller: the same rules as for an object of S3."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from module_utils._errors import BadInput, ErrorKind, FlydError, Untrusted
from module_utils._lifecycle.store.records import Image, RetiredImage, State
from module_utils._names import ObjectKey
from module_utils._source import host_file
from module_utils._source.host_file import AwaitsFile
from module_utils._source.place import CONTROLLER, Place, bucket_of, place_of
from tests.unit._lifecycle.machine import ARCHIVE, KEY, OTHER_ARCHIVE, Machine

SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
OTHER_SHA256 = hashlib.sha256(OTHER_ARCHIVE).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "redis v1.tar"
    path.write_bytes(ARCHIVE)
    return path


def on_host(path: Path) -> Place:
    return Place(path=str(path), base_name=path.name)


def of_controller(content: bytes, path: Path | None = None) -> Place:
    return Place("", str(path or ""), hashlib.sha256(content).hexdigest(), len(content), "redis.tar")


# A file of the host


def test_a_file_of_the_host_is_fetched_once_and_s3_is_not_asked(pooled: Machine, file: Path) -> None:
    outcome = pooled.fetch(place=on_host(file))
    assert (outcome.changed, outcome.facts["sha256"], outcome.facts["trust"]) == (True, SHA256, "first_use")
    assert (pooled.state / "archives" / SHA256).read_bytes() == file.read_bytes() == ARCHIVE
    assert pooled.image().bucket == f"file://{file}"  # type: ignore[union-attr]  # it was fetched
    before = pooled.everything()
    assert not pooled.fetch(place=on_host(file)).changed
    assert pooled.everything() == before, "nothing is written"
    assert pooled.s3.requests() == []
    assert pooled.left_over() == []


def test_a_file_that_was_touched_is_read_and_unchanged_and_not_read_again(
    pooled: Machine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pooled.fetch(place=on_host(file))
    file.write_bytes(ARCHIVE)
    os.utime(file, (1, 1))
    assert not pooled.fetch(place=on_host(file), dry_run=True).changed
    assert not pooled.fetch(place=on_host(file)).changed
    monkeypatch.setattr("module_utils._lifecycle.fetch.fetch.hashed", lambda *_: pytest.fail("the file is read again"))
    assert not pooled.fetch(place=on_host(file)).changed


def test_other_bytes_are_a_new_generation(activated: Machine, file: Path) -> None:
    activated.fetch(place=on_host(file))
    file.write_bytes(OTHER_ARCHIVE)
    predicted = activated.fetch(place=on_host(file), dry_run=True)
    assert (predicted.changed, predicted.facts["new_generation"]) == (True, True)
    outcome = activated.fetch(place=on_host(file))
    assert (outcome.changed, outcome.facts["new_generation"], outcome.facts["sha256"]) == (True, True, OTHER_SHA256)
    assert activated.records(Image)[0].state is State.FETCHED
    assert activated.records(RetiredImage)[0].sha256 == SHA256


def test_other_bytes_can_be_refused_or_ignored(pooled: Machine, file: Path) -> None:
    pooled.fetch(place=on_host(file))
    file.write_bytes(OTHER_ARCHIVE)
    with pytest.raises(Untrusted, match="was replaced at file://"):
        pooled.fetch(place=on_host(file), on_change="refuse")
    assert not pooled.fetch(place=on_host(file), on_change="ignore").changed
    assert not pooled.fetch(place=on_host(file), checksum=f"sha256:{SHA256}").changed
    file.unlink()
    assert not pooled.fetch(place=on_host(file), on_change="ignore").changed
    assert not pooled.fetch(place=on_host(file), checksum=f"sha256:{SHA256}").changed


def test_a_file_is_verified_and_limited_as_an_object_is(pooled: Machine, file: Path, tmp_path: Path) -> None:
    refused: list[tuple[type[FlydError], dict[str, Any]]] = [
        (Untrusted, {"checksum": f"sha256:{'0' * 64}"}),
        (Untrusted, {"policy": "require"}),
        (BadInput, {"max_bytes": len(ARCHIVE) - 1}),
        (BadInput, {"checksum": "images/sums"}),
        (BadInput, {"checksum": f"file://{tmp_path}/nothing"}),
        (BadInput, {"key": ObjectKey("family/")}),
    ]
    for kind, options in refused:
        with pytest.raises(kind):
            pooled.fetch(place=on_host(file), **options)
    assert pooled.files_in("archives") == []
    assert pooled.s3.requests() == []
    sums = tmp_path / "sums"
    sums.write_text(f"{SHA256}  {file.name}\n")
    outcome = pooled.fetch(place=on_host(file), checksum=f"file://{sums}", policy="require")
    assert outcome.facts["trust"] == "sidecar"
    sums.write_text(f"{OTHER_SHA256}  {file.name}\n")
    with pytest.raises(Untrusted):
        pooled.fetch(place=on_host(file), checksum=f"file://{sums}", policy="require")
    assert pooled.left_over() == []


def test_what_is_no_file_is_refused(pooled: Machine, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("nothing", "fifo", "."):
        with pytest.raises(BadInput):
            pooled.fetch(place=on_host(tmp_path / name))


def test_a_link_is_followed_and_an_empty_file_is_one(pooled: Machine, file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    assert pooled.fetch(place=on_host(tmp_path / "link")).facts["sha256"] == SHA256
    file.write_bytes(b"")
    assert pooled.fetch(place=on_host(file)).facts["sha256"] == hashlib.sha256(b"").hexdigest()


def test_a_file_that_changes_while_it_is_read_is_not_mixed(
    pooled: Machine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Changes(host_file._Piece):
        def read1(self, limit_bytes: int) -> bytes:
            got = super().read1(min(limit_bytes, 100))
            if file.read_bytes() != OTHER_ARCHIVE:
                file.write_bytes(OTHER_ARCHIVE)
            return got

    monkeypatch.setattr(host_file, "_Piece", Changes)
    assert pooled.fetch(place=on_host(file)).facts["sha256"] == OTHER_SHA256
    assert pooled.left_over() == []


# A file of the controller


def test_the_bytes_of_the_controller_are_asked_for_before_anything_is_begun(pooled: Machine) -> None:
    before = pooled.everything()
    with pytest.raises(AwaitsFile) as caught:
        pooled.fetch(place=of_controller(ARCHIVE))
    assert (caught.value.kind, caught.value.details["awaits"]) == (ErrorKind.UNSUPPORTED, "src")
    assert pooled.everything() == before


def test_a_file_of_the_controller_is_fetched_once(pooled: Machine, file: Path) -> None:
    predicted = pooled.fetch(place=of_controller(ARCHIVE), dry_run=True)
    assert (predicted.changed, predicted.facts["sha256"]) == (True, SHA256)
    outcome = pooled.fetch(place=of_controller(ARCHIVE, file))
    assert (outcome.changed, outcome.facts["sha256"], outcome.facts["trust"]) == (True, SHA256, "first_use")
    assert pooled.image().bucket == CONTROLLER  # type: ignore[union-attr]  # it was fetched
    before = pooled.everything()
    assert not pooled.fetch(place=of_controller(ARCHIVE)).changed, "and not asked for again"
    assert pooled.everything() == before
    predicted = pooled.fetch(place=of_controller(OTHER_ARCHIVE), dry_run=True)
    assert (predicted.changed, predicted.facts["new_generation"]) == (True, True)
    with pytest.raises(AwaitsFile):
        pooled.fetch(place=of_controller(OTHER_ARCHIVE))
    with pytest.raises(Untrusted, match="replaced on the controller"):
        pooled.fetch(place=of_controller(OTHER_ARCHIVE, file), on_change="refuse")


def test_what_would_be_refused_with_the_bytes_is_refused_without_them(pooled: Machine) -> None:
    refused: list[tuple[type[FlydError], dict[str, Any]]] = [
        (Untrusted, {"checksum": f"sha256:{'0' * 64}"}),
        (Untrusted, {"policy": "require"}),
        (BadInput, {"max_bytes": len(ARCHIVE) - 1}),
        (BadInput, {"key": ObjectKey("family/")}),
    ]
    for kind, options in refused:
        with pytest.raises(kind) as caught:
            pooled.fetch(place=of_controller(ARCHIVE), **options)
        assert "awaits" not in caught.value.details


def test_bytes_that_the_host_has_under_another_key_are_not_asked_for(pooled: Machine, file: Path) -> None:
    pooled.fetch(place=of_controller(ARCHIVE, file))
    outcome = pooled.fetch(place=of_controller(ARCHIVE), key=ObjectKey("images/same.tar"))
    assert (outcome.changed, outcome.facts["received_bytes"]) == (True, 0)


def test_a_damaged_archive_is_asked_for_again(pooled: Machine, file: Path) -> None:
    pooled.fetch(place=of_controller(ARCHIVE, file))
    (pooled.state / "archives" / SHA256).write_bytes(b"x" * len(ARCHIVE))
    with pytest.raises(AwaitsFile):
        pooled.fetch(place=of_controller(ARCHIVE))
    assert pooled.fetch(place=of_controller(ARCHIVE, file)).changed
    assert (pooled.state / "archives" / SHA256).read_bytes() == ARCHIVE


def test_what_arrived_otherwise_than_it_was_sent_is_untrusted(pooled: Machine, file: Path) -> None:
    file.write_bytes(bytes(len(ARCHIVE)))
    with pytest.raises(Untrusted, match="must have"):
        pooled.fetch(place=of_controller(ARCHIVE, file))
    assert pooled.left_over() == []


def test_a_base_needs_no_archive_of_the_controller(pooled: Machine, file: Path) -> None:
    pooled.fetch(place=of_controller(ARCHIVE, file))
    pooled.unpack_and_drop_archive()
    assert not pooled.fetch(place=of_controller(ARCHIVE), key=KEY).changed


# Options

NONE: dict[str, Any] = {"remote_src": False, "sent": {}, "headers": {}, "user": "", "password": ""}


def test_places_are_named_without_secrets() -> None:
    assert place_of("", **NONE) == Place()
    url = place_of("https://h.example/a%20b.tar?sig=very-secret#x", **{**NONE, "headers": {"X-Token": "very-secret"}})
    assert (url.name, url.base_name) == ("https://h.example/a%20b.tar?***", "a b.tar")
    assert "very-secret" not in repr(url)
    assert place_of("file:///srv/a%20b.tar", **NONE).path == "/srv/a b.tar"
    assert place_of("/srv/a b.tar", **{**NONE, "remote_src": True}).name == "file:///srv/a b.tar"
    sent = place_of("a/b.tar", **{**NONE, "sent": {"sha256": SHA256, "size": 5, "path": None}})
    assert (sent.name, sent.is_awaited, sent.base_name) == (CONTROLLER, True, "b.tar")


def test_a_source_that_is_left_out_is_the_recorded_bucket_and_never_a_guess() -> None:
    assert bucket_of(Place(), "", "images") == bucket_of(Place(), "images", CONTROLLER) == "images"
    assert bucket_of(Place(path="/a"), "", "file:///a") == bucket_of(Place(), "", "") == ""
    for recorded in (CONTROLLER, "file:///a", "https://h/a"):
        with pytest.raises(BadInput, match="neither src nor bucket"):
            bucket_of(Place(), "", recorded)


@pytest.mark.parametrize(
    ("src", "options"),
    [
        ("", {"remote_src": True}),
        ("", {"headers": {"a": "b"}}),
        ("/a", {"remote_src": True, "password": "very-secret"}),
        ("a.tar", {"remote_src": True}),
        ("a.tar", {}),
        ("s3://bucket/a.tar", {}),
        ("ftp://user:very-secret@h/a.tar", {}),
        ("https://user:very-secret@h/a.tar", {}),
        ("https://", {}),
        ("https://h:port/a", {}),
        ("https://h/a b?very-secret", {}),
        ("https://h/a", {"headers": {"Range": "bytes=0-1"}}),
        ("https://h/a", {"headers": {"X": "very-secret\r\nY: z"}}),
        ("https://h/a", {"headers": {"X Y": "very-secret"}}),
    ],
)
def test_what_is_no_place_is_refused_without_a_secret(src: str, options: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as caught:
        place_of(src, **{**NONE, **options})
    assert caught.value.hint
    assert "very-secret" not in f"{caught.value} {caught.value.hint}"
