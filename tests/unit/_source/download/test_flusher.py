"""Syncing while bytes still come."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from module_utils._errors import FlydError, Unsupported
from module_utils._source.download import flusher
from module_utils._source.download.flusher import Flusher
from module_utils._source.download.partfile import PartFile, Received
from module_utils._source.download.segments import Ledger
from module_utils._source.s3.bucket import ObjectInfo


class Part(PartFile):
    """A part file whose first syncs meet ``errors``."""

    def __init__(self, path: Path, *errors: FlydError) -> None:
        super().__init__(str(path), ObjectInfo("archive.tar", 100, '"etag"'), -1, Received())
        self.errors = list(errors)
        self.synced = 0

    def sync(self) -> None:
        self.synced += 1
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setattr(flusher, "_FLUSH_BYTES", 10)
    monkeypatch.setattr(flusher, "_LOOK_SECONDS", 0.005)
    return Ledger(100, 100)


def receive_some(ledger: Ledger, part: Part) -> None:
    ledger.segments[0].next_byte = 50
    until = time.monotonic() + 5
    while not part.synced and time.monotonic() < until:
        time.sleep(0.005)


def test_what_has_come_is_synced_before_all_has_come(tmp_path: Path, ledger: Ledger) -> None:
    part = Part(tmp_path)
    with Flusher(part, ledger):
        receive_some(ledger, part)
    assert part.synced == 1


def test_an_error_that_was_met_on_the_way_is_raised_although_the_last_sync_would_succeed(
    tmp_path: Path, ledger: Ledger
) -> None:
    part = Part(tmp_path, Unsupported("the disk is failing", hint="see dmesg"))
    with Flusher(part, ledger) as running:
        receive_some(ledger, part)
    with pytest.raises(Unsupported, match="the disk is failing"):
        running.sync()


def test_a_small_object_is_synced_once(tmp_path: Path) -> None:
    part = Part(tmp_path)
    with Flusher(part, Ledger(100, 100)) as running:
        pass
    running.sync()
    assert part.synced == 1
