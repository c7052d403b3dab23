# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_unpack puts files of the host into a base: over the image, with their owner and mode, once and recorded."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from module_utils._errors import BadInput
from module_utils._image.tar.making import AddedFile, tar_of
from module_utils._lifecycle.store.records import Volume
from module_utils._lifecycle.unpack import inject
from module_utils._lifecycle.unpack.inject import Injected
from tests.unit._lifecycle.conftest import needs_root
from tests.unit._lifecycle.machine import Machine


def host_file(machine: Machine, name: str, content: bytes, mode: int = 0o755) -> str:
    path = machine.root / "files" / name
    path.write_bytes(content)
    path.chmod(mode)
    return str(path)


def tree(machine: Machine) -> Path:
    [volume] = machine.records(Volume)
    return next(machine.root.glob(f"volumes/*/{volume.thin_id}.tree"))


def test_files_lie_over_those_of_the_image(fetched: Machine) -> None:
    needs_root()
    init = host_file(fetched, "init", b"#!/bin/sh\n")
    key = host_file(fetched, "key", b"ssh-ed25519 AAAA", 0o644)
    files = (
        Injected(init, "/sbin/init"),
        Injected(key, "/root/.ssh/authorized_keys", 0o600, 0, 7),
        Injected(key, "/etc/kept"),
    )
    foreseen = fetched.unpack(inject=files, dry_run=True)
    outcome = fetched.unpack(inject=files)
    assert (foreseen.changed, foreseen.facts["injected"]) == (True, None)
    assert (tree(fetched) / "sbin/init").read_bytes() == b"#!/bin/sh\n"
    assert (tree(fetched) / "sbin/init").stat().st_mode & 0o7777 == 0o755
    found = (tree(fetched) / "root/.ssh/authorized_keys").stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o600, 0, 7)
    assert (tree(fetched) / "etc/kept").read_bytes() == b"ssh-ed25519 AAAA"
    assert (tree(fetched) / "redis-server").exists()
    assert [one["dest"] for one in outcome.facts["injected"]] == [one.dest for one in files]
    assert outcome.facts["injected"][0]["sha256"] == hashlib.sha256(b"#!/bin/sh\n").hexdigest()
    assert outcome.facts["layers"] == 2, "the added files count as no layer of the image"
    assert fetched.left_over() == []


def test_a_second_run_changes_nothing_and_a_file_that_has_changed_is_a_warning(fetched: Machine) -> None:
    needs_root()
    files = (Injected(host_file(fetched, "init", b"one"), "/sbin/init"),)
    fetched.unpack(inject=files)
    again = fetched.unpack(inject=files)
    assert (again.changed, again.facts["warnings"]) == (False, [])
    assert fetched.unpack().facts["warnings"] == []
    host_file(fetched, "init", b"two")
    changed = fetched.unpack(inject=files)
    assert not changed.changed
    assert "files that have changed since" in changed.facts["warnings"][0]
    assert (tree(fetched) / "sbin/init").read_bytes() == b"one"


def test_a_name_leads_no_further_than_the_image(fetched: Machine) -> None:
    for dest in ("/../etc/passwd", "etc/passwd", "/etc/", "/a//b", "/.", "/a/./b", ""):
        with pytest.raises(BadInput, match="inject: dest is"):
            Injected.parse({"src": "/etc/hostname", "dest": dest})


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo"])
def test_what_is_no_file_is_refused_before_anything_is_made(fetched: Machine, kind: str) -> None:
    path = fetched.root / "files" / "odd"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    for dry_run in (True, False):
        with pytest.raises(BadInput, match="inject: src is"):
            fetched.unpack(inject=(Injected(str(path), "/sbin/init"),), dry_run=dry_run)
    assert fetched.records(Volume) == []


def test_too_much_is_refused(fetched: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inject, "MOST_BYTES", 1000)
    files = tuple(Injected(host_file(fetched, str(at), bytes(400)), f"/{at}") for at in range(3))
    with pytest.raises(BadInput, match="more than 1000 bytes together"):
        fetched.unpack(inject=files)


def test_the_archive_is_one_that_gnu_tar_and_python_read(tmp_path: Path) -> None:
    files = [
        AddedFile(b"sbin/init", b"x" * 1000, 0o755),
        AddedFile(b"d/" + b"n" * 200, b"long", 0o4755, 4_000_000_000, 70_000),
        AddedFile(b"empty", b"", 0),
    ]
    raw = b"".join(tar_of(files))
    assert len(raw) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        found = [(one.name.encode(), one.mode, one.uid, one.gid, one.size) for one in archive]
    assert found == [(one.name, one.mode, one.uid, one.gid, len(one.content)) for one in files]
