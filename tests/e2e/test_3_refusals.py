"""What must fail: each with its kind and a hint, nothing left over, and the next right run succeeds."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.campaigns.harness.target import Step, Target
from tests.e2e.machine import Machine, Play
from tests.unit.builders import images, tar

pytestmark = pytest.mark.timeout(1800)

LAYER = tar.tar(tar.file(b"hello", b"from a small image\n"))


def fetch(prepared: Machine, key: str) -> Step:
    return Step("flyd_fetch", {**prepared.s3_options(), "key": key})


def test_an_archive_with_a_layer_missing_gives_its_volume_back(
    prepared: Machine, activation: Play, target: Target, upload: Callable[[str, bytes], None]
) -> None:
    key = "images/torn.tar"
    unpack = Step("flyd_unpack", {"key": key})
    members = images.docker_members([LAYER])
    del members[b"layer0/layer.tar"]
    upload(key, images.archive(members))
    assert [one["changed"] for one in target.drive([fetch(prepared, key)])] == [True]
    before = prepared.traces()
    [result] = target.drive([unpack])
    assert result["error_kind"] == "untrusted"
    assert result["hint"]
    assert "layer0/layer.tar" in json.dumps(result)
    assert prepared.traces() == before
    upload(key, images.docker_archive([LAYER]))
    right = target.drive([fetch(prepared, key), unpack, Step("flyd_snapshot", {"key": key})])
    assert [one["changed"] for one in right] == [True, True, True], right
    assert "hello" in target.ssh(f"debugfs -R 'ls -p /' {right[-1]['device']}")


def test_a_layer_with_a_lying_digest_gives_its_volume_back(
    prepared: Machine, activation: Play, target: Target, upload: Callable[[str, bytes], None]
) -> None:
    key = "images/swapped.tar"
    members = images.docker_members([LAYER])
    members[b"layer0/layer.tar"] = tar.tar(tar.file(b"hello", b"from somebody else\n"))
    upload(key, images.archive(members))
    assert [one["driven"] for one in target.drive([fetch(prepared, key)])] == [0]
    before = prepared.traces()
    [result] = target.drive([Step("flyd_unpack", {"key": key})])
    assert result["error_kind"] == "untrusted"
    assert "layer0/layer.tar has the digest" in result["msg"]
    assert prepared.traces() == before
