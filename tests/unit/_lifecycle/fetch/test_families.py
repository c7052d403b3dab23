# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A family: several objects that are the layers of one image, from the bucket to a base."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from module_utils._errors import BadInput, ErrorKind, FlydError, Untrusted
from module_utils._lifecycle.store.records import Image, RetiredImage, State, Volume
from module_utils._names import ObjectKey, exact_size_text
from tests.unit._lifecycle.conftest import needs_root
from tests.unit._lifecycle.machine import LAYERS, Machine
from tests.unit.builders import tar

pytestmark = pytest.mark.slow

FAMILY = ObjectKey("images/redis/")
OTHER_FAMILY = ObjectKey("images/other/")
NAMES = ("2.tar", "10.tar", "11.tar")  # the order of their bytes is the other one
TOP = tar.tar(tar.file(b"top", b"of a third layer"))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(machine: Machine, family: ObjectKey, *layers: bytes) -> None:
    """Let the family be these layers and nothing else."""
    for key in machine.s3.keys(family.value):
        machine.s3.delete(key)
    for name, layer in zip(NAMES, layers):
        machine.s3.put(family.value + name, layer)
    machine.s3.forget()


def digest_by_coreutils(directory: Path, *layers: bytes) -> str:
    """What ``sha256sum $(ls -v) | sha256sum`` prints for the layers."""
    for name, layer in zip(NAMES, layers):
        (directory / name).write_bytes(layer)
    command = "sha256sum $(ls -v) | sha256sum"
    done = subprocess.run(["sh", "-c", command], cwd=directory, capture_output=True, text=True, check=True)
    return done.stdout.split()[0]


@pytest.fixture
def host(pooled: Machine) -> Machine:
    """A host with a pool, and a bucket with a family."""
    put(pooled, FAMILY, *LAYERS)
    return pooled


def requests(machine: Machine, method: str) -> list[str]:
    return [line for line in machine.s3.requests() if line.startswith(method)]


def test_each_layer_lies_under_its_own_digest_and_the_familys_is_what_sha256sum_makes_of_them(
    host: Machine, tmp_path: Path
) -> None:
    outcome = host.fetch(key=FAMILY)
    assert outcome.facts["sha256"] == digest_by_coreutils(tmp_path, *LAYERS)
    assert [one["key"] for one in outcome.facts["objects"]] == [FAMILY.value + name for name in NAMES[:2]]
    assert [one["sha256"] for one in outcome.facts["objects"]] == [sha256(layer) for layer in LAYERS]
    assert [Path(one["path"]).read_bytes() for one in outcome.facts["objects"]] == list(LAYERS)
    assert (outcome.facts["size"], outcome.facts["received_bytes"]) == (sum(map(len, LAYERS)),) * 2
    assert host.left_over() == []


def test_the_base_holds_the_layers_merged_in_natural_order(host: Machine) -> None:
    needs_root()
    host.fetch(key=FAMILY)
    outcome = host.unpack(key=FAMILY)
    [base] = host.records(Volume)
    assert host.tree_of(base) == {"etc/kept": b"kept", "redis-server": b"#!"}
    assert (outcome.facts["layers"], outcome.facts["whiteouts"]) == (2, 1)
    assert host.snapshot(key=FAMILY).changed
    assert host.left_over() == []


def test_a_second_run_asks_for_one_list_and_changes_nothing(host: Machine) -> None:
    host.fetch(key=FAMILY)
    host.s3.forget()
    before = host.everything()
    assert not host.fetch(key=FAMILY).changed
    assert host.s3.requests() == [f"LIST {FAMILY}"]
    assert host.everything() == before


def test_a_pinned_family_is_found_without_a_question(host: Machine) -> None:
    pinned = f"sha256:{host.fetch(key=FAMILY).facts['sha256']}"
    host.s3.forget()
    again = host.fetch(key=FAMILY, checksum=pinned)
    assert (again.changed, again.facts["trust"]) == (False, "pinned")
    assert host.s3.requests() == []


def test_a_layer_that_is_missing_is_fetched_again_alone(host: Machine) -> None:
    host.fetch(key=FAMILY)
    (host.state / "archives" / sha256(LAYERS[1])).unlink()
    host.s3.forget()
    assert host.fetch(key=FAMILY).changed
    assert requests(host, "GET") == [f"GET {FAMILY}10.tar"]
    assert host.records(RetiredImage) == []


def test_a_family_that_grew_is_a_new_generation_of_which_only_the_new_layer_comes(host: Machine) -> None:
    [old] = [host.fetch(key=FAMILY).facts["image_id"]]
    put(host, FAMILY, *LAYERS, TOP)
    outcome = host.fetch(key=FAMILY)
    assert requests(host, "GET") == [f"GET {FAMILY}11.tar"]
    assert (outcome.facts["new_generation"], outcome.facts["received_bytes"]) == (True, len(TOP))
    [image], [retired] = host.records(Image), host.records(RetiredImage)
    assert (image.state, retired.id) == (State.FETCHED, old)
    assert host.files_in("archives") == sorted(sha256(layer) for layer in (*LAYERS, TOP))
    assert host.left_over() == []


def test_a_family_that_grew_brings_back_the_layers_that_were_let_go(host: Machine) -> None:
    needs_root()
    host.fetch(key=FAMILY)
    host.unpack(key=FAMILY, keep_archive=False)
    assert host.files_in("archives") == []
    put(host, FAMILY, *LAYERS, TOP)
    assert host.fetch(key=FAMILY).facts["new_generation"] is True
    assert host.files_in("archives") == sorted(sha256(layer) for layer in (*LAYERS, TOP))
    assert host.unpack(key=FAMILY).changed
    assert host.left_over() == []


def test_a_layer_that_two_families_have_is_on_disk_once_and_stays_as_long_as_one_needs_it(host: Machine) -> None:
    put(host, OTHER_FAMILY, LAYERS[0], TOP)
    host.fetch(key=FAMILY)
    host.fetch(key=OTHER_FAMILY)
    assert host.files_in("archives") == sorted(sha256(layer) for layer in (*LAYERS, TOP))
    host.remove_archive(key=FAMILY)
    assert host.files_in("archives") == sorted(sha256(layer) for layer in (LAYERS[0], TOP))
    host.remove_archive(key=OTHER_FAMILY)
    assert host.files_in("archives") == []
    assert host.left_over() == []


def test_two_layers_of_the_same_bytes_are_on_disk_once(host: Machine) -> None:
    put(host, FAMILY, LAYERS[0], LAYERS[0])
    host.fetch(key=FAMILY)
    assert host.files_in("archives") == [sha256(LAYERS[0])]
    assert host.left_over() == []


def test_check_mode_reports_that_a_family_has_changed_and_asks_for_no_bytes(host: Machine) -> None:
    assert host.fetch(key=FAMILY, dry_run=True).changed
    assert requests(host, "GET") == []
    host.fetch(key=FAMILY)
    put(host, FAMILY, TOP, *LAYERS)
    before = host.everything()
    predicted = host.fetch(key=FAMILY, dry_run=True)
    assert (predicted.changed, predicted.facts["new_generation"]) == (True, True)
    assert (predicted.before["image_id"] is None, predicted.after["image_id"]) == (False, "<new ULID>")
    assert requests(host, "GET") == []
    assert host.everything() == before


def test_a_family_that_changed_leaves_the_old_base_alone(host: Machine) -> None:
    needs_root()
    host.fetch(key=FAMILY)
    host.unpack(key=FAMILY)
    put(host, FAMILY, *LAYERS, TOP)
    host.fetch(key=FAMILY)
    host.unpack(key=FAMILY)
    assert sorted("top" in host.tree_of(base) for base in host.records(Volume)) == [False, True]
    host.remove_base(key=FAMILY)
    host.remove_archive(key=FAMILY)
    assert (host.files_in("archives"), host.left_over()) == ([], [])


# Trust


def test_a_checksum_file_that_names_every_layer_vouches_for_the_family(host: Machine) -> None:
    sums = "".join(f"{sha256(layer)}  {name}\n" for name, layer in zip(NAMES, LAYERS))
    host.s3.put("images/redis.sha256", sums.encode())
    assert host.fetch(key=FAMILY, checksum="images/redis.sha256", policy="require").facts["trust"] == "sidecar"


CHECKSUM_FILES = {
    "names a layer that is not there": f"{sha256(LAYERS[0])}  2.tar\n{sha256(LAYERS[1])}  10.tar\n{sha256(TOP)}  11.tar\n",
    "names too few": f"{sha256(LAYERS[0])}  2.tar\n",
    "gives another digest": f"{sha256(LAYERS[0])}  2.tar\n{sha256(TOP)}  10.tar\n",
    "gives another digest for the whole": sha256(TOP),
}


@pytest.mark.parametrize("content", CHECKSUM_FILES.values(), ids=CHECKSUM_FILES)
def test_a_checksum_file_of_another_family_refuses_it(host: Machine, content: str) -> None:
    host.s3.put("images/redis.sha256", content.encode())
    with pytest.raises(Untrusted):
        host.fetch(key=FAMILY, checksum="images/redis.sha256")
    assert (host.records(Image), host.files_in("archives"), host.left_over()) == ([], [], [])
    assert host.fetch(key=FAMILY).changed


@pytest.mark.parametrize("policy", ["first_use", "require"])
@pytest.mark.parametrize("content", CHECKSUM_FILES.values(), ids=CHECKSUM_FILES)
def test_a_checksum_file_of_another_family_refuses_one_that_is_here(host: Machine, content: str, policy: str) -> None:
    host.fetch(key=FAMILY)
    host.s3.put("images/redis.sha256", content.encode())
    host.s3.forget()
    with pytest.raises(Untrusted):
        host.fetch(key=FAMILY, checksum="images/redis.sha256", policy=policy)
    assert requests(host, "GET") == ["GET images/redis.sha256"]


def test_a_checksum_file_vouches_for_a_family_that_is_here(host: Machine, tmp_path: Path) -> None:
    sums = "".join(f"{sha256(layer)}  {name}\n" for name, layer in zip(NAMES, LAYERS))
    long_sums = "".join(f"{hashlib.sha512(layer).hexdigest()}  {name}\n" for name, layer in zip(NAMES, LAYERS))
    host.fetch(key=FAMILY)
    for content in (sums, long_sums, digest_by_coreutils(tmp_path, *LAYERS)):
        host.s3.put("images/redis.sha256", content.encode())
        done = host.fetch(key=FAMILY, checksum="images/redis.sha256", policy="require")
        assert (done.changed, done.facts["trust"]) == (False, "sidecar")
    host.s3.forget()
    assert not host.fetch(key=FAMILY, checksum="images/redis.sha256", on_change="ignore").changed
    assert host.s3.requests() == []


def test_a_family_that_is_not_the_pinned_one_is_refused_after_one_more_try_and_leaves_nothing(host: Machine) -> None:
    pinned = f"sha256:{host.fetch(key=FAMILY).facts['sha256']}"
    host.remove_archive(key=FAMILY)
    put(host, FAMILY, LAYERS[0], TOP)
    with pytest.raises(Untrusted, match="of 2 objects has sha256:") as caught:
        host.fetch(key=FAMILY, checksum=pinned)
    assert caught.value.details["expected"] == pinned
    assert sorted(requests(host, "GET")) == sorted([f"GET {FAMILY}{name}" for name in NAMES[:2]] * 2)
    assert (host.files_in("archives"), host.files_in("spool"), host.left_over()) == ([], [], [])


def test_the_policy_require_refuses_a_layer_that_nothing_vouches_for(host: Machine) -> None:
    with pytest.raises(Untrusted, match="no digest is known for images/redis/2"):
        host.fetch(key=FAMILY, policy="require")


def test_a_limit_is_for_all_layers_together(host: Machine) -> None:
    together = sum(map(len, LAYERS))
    with pytest.raises(
        BadInput, match=f"has {exact_size_text(together)}; max_size allows {exact_size_text(together - 1)}"
    ):
        host.fetch(key=FAMILY, max_bytes=together - 1)
    assert host.fetch(key=FAMILY, max_bytes=together).changed


def test_objects_that_are_no_tar_are_refused_and_leave_no_base(host: Machine) -> None:
    needs_root()
    host.s3.put(FAMILY.value + "README", b"these are the layers")
    host.fetch(key=FAMILY)
    with pytest.raises(FlydError) as caught:
        host.unpack(key=FAMILY)
    assert caught.value.kind is ErrorKind.UNTRUSTED
    assert host.left_over() == []


# Interruptions


def test_an_interrupted_family_is_resumed_and_no_byte_comes_twice(host: Machine) -> None:
    host.killed_at("fetch:downloaded", lambda: host.fetch(key=FAMILY))
    assert len([name for name in host.files_in("spool") if name.endswith(".part")]) == 2
    host.s3.forget()
    outcome = host.fetch(key=FAMILY)
    assert (outcome.facts["received_bytes"], outcome.facts["resumed_bytes"]) == (0, sum(map(len, LAYERS)))
    assert requests(host, "GET") == []
    assert host.left_over() == []


def test_a_family_that_shrank_after_an_interruption_leaves_no_part(host: Machine) -> None:
    host.killed_at("fetch:downloaded", lambda: host.fetch(key=FAMILY))
    host.s3.delete(FAMILY.value + NAMES[1])
    host.fetch(key=FAMILY)
    assert host.files_in("archives") == [sha256(LAYERS[0])]
    assert host.left_over() == []


def test_a_layer_that_is_replaced_in_the_middle_begins_the_family_again(host: Machine) -> None:
    host.s3.put_before_next_get(FAMILY.value + NAMES[1], TOP)
    outcome = host.fetch(key=FAMILY)
    assert [one["sha256"] for one in outcome.facts["objects"]] == [sha256(LAYERS[0]), sha256(TOP)]
    assert len(requests(host, "LIST")) == 2
    assert host.left_over() == []


def test_one_layer_that_cannot_be_read_leaves_nothing_of_the_others(host: Machine) -> None:
    host.s3.forbid(FAMILY.value + NAMES[1])
    with pytest.raises(FlydError) as caught:
        host.fetch(key=FAMILY)
    assert caught.value.kind is ErrorKind.BAD_INPUT
    assert host.left_over() == []
