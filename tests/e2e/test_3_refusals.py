"""What must fail: each with its kind and a hint, nothing left over, and the next right run succeeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.machine import Machine, Play, lab
from tests.unit.builders import images, tar

pytestmark = pytest.mark.timeout(1800)

SMALL_KEY = "images/small.tar"
LAYER = tar.tar(tar.file(b"hello", b"from a small image\n"))


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bytes], None]:
    """Puts bytes into the bucket under a key."""

    def put(key: str, data: bytes) -> None:
        path: Path = tmp_path_factory.mktemp("object") / "data"
        path.write_bytes(data)
        lab("s3", "put", str(path), key)

    return put


@pytest.fixture(scope="module")
def small(activation: Play, upload: Callable[[str, bytes], None]) -> str:
    """The key of a small image that is right."""
    upload(SMALL_KEY, images.docker_archive([LAYER]))
    return SMALL_KEY


def test_a_wrong_checksum_is_untrusted_and_the_right_one_succeeds(prepared: Machine, small: str) -> None:
    before = prepared.traces()
    result = prepared.module("flyd_fetch", key=small, checksum="sha256:" + "0" * 64)
    assert result["error_kind"] == "untrusted"
    assert result["hint"]
    assert "0" * 64 in result["msg"]
    assert prepared.traces() == before
    assert prepared.module("flyd_fetch", key=small)["changed"] is True


def test_a_missing_object_is_named(prepared: Machine, activation: Play) -> None:
    before = prepared.traces()
    result = prepared.module("flyd_fetch", key="images/nowhere.tar")
    assert (result["error_kind"], result["retryable"]) == ("bad_input", False)
    assert "images/nowhere.tar" in result["msg"]
    assert result["hint"]
    assert prepared.traces() == before


def test_an_archive_with_a_layer_missing_gives_its_volume_back(
    prepared: Machine, activation: Play, upload: Callable[[str, bytes], None]
) -> None:
    key = "images/torn.tar"
    members = images.docker_members([LAYER])
    del members[b"layer0/layer.tar"]
    upload(key, images.archive(members))
    assert prepared.module("flyd_fetch", key=key)["changed"] is True
    before = prepared.traces()
    result = prepared.module("flyd_unpack", key=key)
    assert result["error_kind"] == "untrusted"
    assert result["hint"]
    assert "layer0/layer.tar" in json.dumps(result)
    assert prepared.traces() == before
    upload(key, images.docker_archive([LAYER]))
    play = prepared.play("playbooks/activate.yml", key=key)
    assert play.returncode == 0, play.output
    assert play.device


def test_a_layer_with_a_lying_digest_gives_its_volume_back(
    prepared: Machine, activation: Play, upload: Callable[[str, bytes], None]
) -> None:
    key = "images/swapped.tar"
    members = images.docker_members([LAYER])
    members[b"layer0/layer.tar"] = tar.tar(tar.file(b"hello", b"from somebody else\n"))
    upload(key, images.archive(members))
    prepared.module("flyd_fetch", key=key)
    before = prepared.traces()
    result = prepared.module("flyd_unpack", key=key)
    assert result["error_kind"] == "untrusted"
    assert "layer0/layer.tar has the digest" in result["msg"]
    assert prepared.traces() == before
