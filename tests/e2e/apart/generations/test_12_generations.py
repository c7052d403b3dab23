# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generations of one image on a real thin pool: each base is made of the one before, takes what has changed, and holds what a fresh one does.

The tests run in order; each finds the machine as the one before has left it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.campaigns.harness.target import Step, Target
from tests.e2e.machine import Machine
from tests.unit.builders import images, tar

pytestmark = pytest.mark.timeout(1800)

KEY, FRESH_KEY = "generations/image.tar", "generations/fresh.tar"
BLOCK_BYTES = 64 << 10
FILES, APPLICATION_FILES = 1500, 60
REMEMBERED = "/root/sealed-bases"


def layer(prefix: bytes, files: int, *, changed: range = range(0), mtime: int = 1_600_000_000) -> bytes:
    """A layer of ``files`` files in a tree of directories; those whose numbers are in ``changed`` have other bytes."""
    members = [tar.directory(prefix, mode=0o2755, gid=50), tar.symlink(prefix + b"/link", b"d1/f1")]
    for number in range(files):
        content = random.Random(f"{prefix!r} {number} {number in changed}").randbytes(200 + number * 37 % 40_000)
        members.append(tar.file(prefix + b"/d%d/f%d" % (number % 40, number), content, mtime=mtime))
    return tar.tar(*members, tar.hard_link(prefix + b"/hard", prefix + b"/d1/f1"))


BASE, APPLICATION = layer(b"usr", FILES), layer(b"app", APPLICATION_FILES)
LATER = 1_700_000_000
GENERATIONS = {
    "first": (BASE, APPLICATION),
    "another application": (BASE, layer(b"app", APPLICATION_FILES, changed=range(8), mtime=LATER)),
    "rebuilt without a change": (layer(b"usr", FILES, mtime=LATER), APPLICATION),
    "an update": (layer(b"usr", FILES, changed=range(100, 220), mtime=LATER), APPLICATION),
    "one layer": (tar.tar(BASE[: -len(tar.END)], APPLICATION[: -len(tar.END)]),),
}


class Host:
    """The machine with its pool."""

    def __init__(self, target: Target, machine: Machine, upload: Callable[[str, bytes], None]) -> None:
        self.target = target
        self._machine = machine
        self._upload = upload

    def used_blocks(self) -> int:
        """How many blocks the pool has given out."""
        return int(self.target.ssh("dmsetup status pool").split()[5].split("/")[0])

    def run(self, module: str, **options: Any) -> dict[str, Any]:
        [result] = self.target.drive([Step(module, options)])
        assert not result.get("failed"), result
        return result

    def unpack(self, key: str, layers: tuple[bytes, ...], **options: Any) -> tuple[dict[str, Any], int]:
        """The result of flyd_unpack for a new generation of ``key``, and the blocks that it took."""
        self._upload(key, images.docker_archive(layers))
        self.run("flyd_fetch", key=key, **self._machine.s3_options())
        before = self.used_blocks()
        result = self.run("flyd_unpack", key=key, **options)
        return result, self.used_blocks() - before


@pytest.fixture(scope="module")
def host(prepared: Machine, target: Target, upload: Callable[[str, bytes], None]) -> Host:
    host = Host(target, prepared, upload)
    host.run("flyd_pool", data_size="3G")
    return host


@pytest.fixture(scope="module")
def made() -> dict[str, tuple[dict[str, Any], int]]:
    """What came of each generation."""
    return {}


@pytest.mark.parametrize("name", GENERATIONS)
def test_a_generation_holds_what_a_fresh_one_does(
    host: Host, made: dict[str, tuple[dict[str, Any], int]], name: str
) -> None:
    made[name] = host.unpack(KEY, GENERATIONS[name])
    fresh, blocks = host.unpack(FRESH_KEY, GENERATIONS[name], reuse="never")
    report = host.target.invariants("--trees", "--bases", REMEMBERED)
    assert report["violations"] == []
    assert report["trees"][KEY] == report["trees"][FRESH_KEY]
    made[f"{name}, fresh"] = fresh, blocks
    host.run("flyd_fetch", key=FRESH_KEY, state="absent", force=True)


def test_each_is_made_of_the_one_before(made: dict[str, tuple[dict[str, Any], int]]) -> None:
    results = [made[name][0] for name in GENERATIONS]
    assert results[0]["fresh_because"] == "no_earlier_base"
    assert [result["origin"] for result in results[1:]] == [result["base"] for result in results[:-1]]


def test_each_takes_what_has_changed(made: dict[str, tuple[dict[str, Any], int]]) -> None:
    changed = {name: (made[name][0]["written_bytes"], made[name][1], made[f"{name}, fresh"][1]) for name in GENERATIONS}
    print(changed)
    for name in ("another application", "rebuilt without a change", "an update"):
        written_bytes, blocks, fresh_blocks = changed[name]
        assert blocks * BLOCK_BYTES <= 2 * written_bytes + 60 * BLOCK_BYTES, name
        assert blocks < fresh_blocks / 2, name
    assert changed["rebuilt without a change"][0] <= changed["another application"][0]


def test_the_ones_before_can_go(host: Host) -> None:
    before = host.target.invariants("--trees")["trees"][KEY]
    generations = host.run("flyd_info", what=["images"])["images"]
    for image in generations:
        if image["key"] == KEY and not image["current"]:
            host.run("flyd_unpack", key=KEY, sha256=image["sha256"], state="absent")
    report = host.target.invariants("--trees", "--bases", REMEMBERED)
    assert (report["violations"], report["trees"][KEY]) == ([], before)


def test_no_byte_of_another_key_is_on_the_raw_device(host: Host) -> None:
    """Neither of an image that is still there nor of one that was removed, whose blocks the pool gives out again."""
    secrets = {name: name * (3000 // len(name)) for name in (b"KEPT-OF-A-STRANGER", b"REMOVED-OF-A-STRANGER")}
    for name, content in secrets.items():
        key = f"generations/{name.decode().lower()}.tar"
        host.unpack(key, (tar.tar(*(tar.file(b"s%d" % number, content) for number in range(500))),))
        if name.startswith(b"REMOVED"):
            host.run("flyd_fetch", key=key, state="absent", force=True)
    layers = (*GENERATIONS["an update"], tar.tar(*(tar.file(b"n%d" % number, b"new" * 900) for number in range(500))))
    result, _blocks = host.unpack(KEY, layers)
    assert result["origin"], result["fresh_because"]
    device = host.run("flyd_snapshot", key=KEY, name="raw")["device"]
    for name in secrets:
        assert host.target.ssh(f"grep --count --text --fixed-strings {name.decode()} {device} || true").strip() == "0"
    assert host.target.ssh(f"grep --count --text newnewnew {device} || true").strip() != "0", "the search finds nothing"
    host.run("flyd_snapshot", key=KEY, name="raw", state="absent")


def secret_layer(word: bytes) -> bytes:
    """Files that are smaller than a block of the pool, so that trimming does not take all of them away, among others that stay."""
    files = [tar.file(b"private/s%d" % number, word * (3000 // len(word))) for number in range(500)]
    return tar.tar(*files)


OTHERS = {"plain": "others/plain.tar", "private": "others/private.tar", "second": "others/second.tar"}
PRIVATE, REMOVED = b"PRIVATE-OF-ANOTHER-KEY", b"REMOVED-OF-ANOTHER-KEY"
OWN = layer(b"own", APPLICATION_FILES)


def count_on_device(host: Host, key: str, *words: bytes) -> int:
    """How many lines of the raw device of a snapshot of ``key`` have one of ``words``."""
    device = host.run("flyd_snapshot", key=key, name="raw")["device"]
    wanted = " ".join(f"-e {word.decode()}" for word in words)
    found = int(host.target.ssh(f"grep --count --text --fixed-strings {wanted} {device} || true").strip())
    host.run("flyd_snapshot", key=key, name="raw", state="absent")
    return found


def remove(host: Host, *keys: str) -> None:
    for key in keys:
        host.run("flyd_fetch", key=key, state="absent", force=True)


def test_another_image_with_its_layers_is_made_of_it_and_takes_what_it_has_more(host: Host) -> None:
    plain, _blocks = host.unpack(OTHERS["plain"], (BASE,), reuse="never")
    result, blocks = host.unpack(OTHERS["second"], (BASE, OWN))
    assert (result["origin"], result["origin_key"]) == (plain["base"], OTHERS["plain"]), result["fresh_because"]
    fresh, fresh_blocks = host.unpack(FRESH_KEY, (BASE, OWN), reuse="never")
    report = host.target.invariants("--trees", "--bases", REMEMBERED)
    assert (report["violations"], report["trees"][OTHERS["second"]]) == ([], report["trees"][FRESH_KEY])
    print({"written": result["written_bytes"], "blocks": blocks, "fresh": fresh_blocks})
    assert blocks * BLOCK_BYTES <= 2 * result["written_bytes"] + 60 * BLOCK_BYTES
    assert blocks < fresh_blocks / 2
    assert result["reused_bytes"] > fresh["bytes"] / 2
    remove(host, *OTHERS.values(), FRESH_KEY)


def test_a_layer_that_another_key_has_alone_is_not_on_the_raw_device(host: Host) -> None:
    """Neither what the other image has, nor what an earlier generation of it had in free blocks of the same file system."""
    key = OTHERS["private"]
    host.unpack(key, (BASE, secret_layer(REMOVED)), reuse="never")
    later, _blocks = host.unpack(key, (BASE, APPLICATION))
    assert later["origin"], later["fresh_because"]
    second, _blocks = host.unpack(OTHERS["second"], (BASE, APPLICATION, OWN))
    assert (second["fresh_because"], second["origin"]) == ("other_layers", None)
    third, _blocks = host.unpack(key, (BASE, APPLICATION, secret_layer(PRIVATE)))
    assert third["origin"], third["fresh_because"]
    plain, _blocks = host.unpack(OTHERS["plain"], (BASE, APPLICATION))
    # That of the second image has held nothing but layers of it, and OWN.
    assert (plain["fresh_because"], plain["origin"]) == ("other_layers", None)
    for other in ("second", "plain"):
        assert count_on_device(host, OTHERS[other], PRIVATE, REMOVED) == 0, other
    assert count_on_device(host, key, PRIVATE) > 0, "the search finds nothing"
    remove(host, *OTHERS.values())


def test_the_layers_of_an_origin_that_the_image_has_may_be_there_and_no_other(host: Host) -> None:
    """The secret is in a layer of both, hidden by a whiteout in the second one: its bytes are in the second archive as well."""
    key = OTHERS["private"]
    host.unpack(key, (BASE, secret_layer(PRIVATE)), reuse="never")
    hiding = tar.tar(tar.file(b".wh.private"), tar.file(b"kept", b"kept"))
    second, _blocks = host.unpack(OTHERS["second"], (BASE, secret_layer(PRIVATE), hiding))
    assert second["origin_key"] == key, second["fresh_because"]
    report = host.target.invariants("--bases", REMEMBERED)
    assert report["violations"] == []
    remove(host, key)
    plain, _blocks = host.unpack(OTHERS["plain"], (BASE, hiding))
    assert (plain["fresh_because"], plain["origin"]) == ("other_layers", None)
    assert count_on_device(host, OTHERS["plain"], PRIVATE) == 0
    remove(host, *OTHERS.values())


def test_images_that_share_their_lowest_layers_are_made_of_a_hidden_base(host: Host) -> None:
    def hidden_bases() -> int:
        [pool] = host.run("flyd_info", what=["pools"])["pools"]
        return int(pool["hidden_bases"])

    shared = (BASE, layer(b"lib", 900))
    host.unpack(OTHERS["private"], (*shared, secret_layer(PRIVATE)), reuse="never")
    second, _blocks = host.unpack(OTHERS["second"], (*shared, OWN))
    assert (str(second["origin"]).partition("-")[0], second["origin_key"]) == ("hidden", None), second["fresh_because"]
    third, blocks = host.unpack(OTHERS["plain"], (*shared, APPLICATION))
    assert (third["origin"], hidden_bases()) == (second["origin"], 1)
    assert blocks * BLOCK_BYTES <= 2 * third["written_bytes"] + 60 * BLOCK_BYTES
    host.unpack(FRESH_KEY, (*shared, APPLICATION), reuse="never")
    report = host.target.invariants("--trees", "--bases", REMEMBERED)
    assert (report["violations"], report["trees"][OTHERS["plain"]]) == ([], report["trees"][FRESH_KEY])
    assert [count_on_device(host, OTHERS[name], PRIVATE) for name in ("second", "plain")] == [0, 0]
    assert host.run("flyd_prune", keep=99)["removed"] == []
    remove(host, *OTHERS.values(), FRESH_KEY)
    assert host.run("flyd_prune", keep=99)["removed"] == [f"/dev/mapper/{second['origin']}"]
    assert (hidden_bases(), host.target.violations()) == (0, [])


def test_what_a_guest_writes_is_its_own(host: Host) -> None:
    def taken() -> tuple[int, int]:
        [snapshot] = host.run("flyd_info", what=["snapshots"])["snapshots"]
        return snapshot["used"], snapshot["exclusive"]

    device = host.run("flyd_snapshot", key=KEY)["device"]
    used, exclusive = taken()
    assert exclusive < used / 10, "most is the base's"
    last = f"$(($(blockdev --getsize64 {device}) / {BLOCK_BYTES} - 1))"
    host.target.ssh(
        f"yes | dd of={device} bs={BLOCK_BYTES} seek={last} count=1 iflag=fullblock conv=fsync,notrunc status=none"
    )
    assert taken() == (used + BLOCK_BYTES, exclusive + BLOCK_BYTES)


def test_a_guest_can_use_it(host: Host) -> None:
    device = host.run("flyd_snapshot", key=KEY)["device"]
    host.target.ssh(
        f"mount {device} /mnt && dumpe2fs -h {device} 2>/dev/null | grep -q has_journal && echo written > /mnt/new"
        f" && test -s /mnt/usr/d1/f1 && umount /mnt && e2fsck -f -n {device}"
    )
    host.run("flyd_pool", name="pool", state="absent", force=True)
    assert host.target.violations() == []
