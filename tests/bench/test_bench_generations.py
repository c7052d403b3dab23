# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The generations that are measured differ in what they say. The rest of that benchmark needs a machine with device-mapper."""

from __future__ import annotations

import hashlib
import io
import socket
import tarfile
from dataclasses import replace
from pathlib import Path

from bench import chain as chain_of_bases
from bench.generations import Figures, report
from bench.harness.arena import Checked, Cost, served
from bench.harness.image_generations import (
    Changed,
    application,
    chain,
    changed,
    generations,
    python_lineages,
    rebuilt,
)
from bench.harness.snapshotter import Imported, chain_id
from tests.unit.builders import tar

TOP = tar.tar(*(tar.file(b"f%d" % number, b"x" * 100) for number in range(200)), tar.symlink(b"s", b"f1"))


def contents(layer: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(layer)) as opened:
        files = {member.name: opened.extractfile(member) for member in opened if member.isreg()}
        return {name: file.read() for name, file in files.items() if file}


def test_a_layer_that_is_built_again_has_the_same_files() -> None:
    again = rebuilt(TOP, 0)
    assert again != TOP
    assert contents(again) == contents(TOP)


def test_an_update_changes_some_of_them() -> None:
    before, after = contents(TOP), contents(rebuilt(TOP, 0.06))
    assert before.keys() == after.keys()
    assert 0 < sum(before[name] != after[name] for name in before) < 30


def test_a_later_application_changes_some_files_and_all_times() -> None:
    before, after = contents(application(later=False)), contents(application(later=True))
    assert 20 < sum(before[name] != after[name] for name in before) < 90


def test_each_generation_keeps_the_layers_below() -> None:
    names = [(name, layers[0]) for name, layers in generations([b"below", TOP])]
    assert names == [
        (name, b"below")
        for name in (
            "first",
            "another application",
            "its largest layer rebuilt without a change",
            "an update of its largest layer",
        )
    ]


def test_what_differs_is_counted_in_the_layers_that_are_not_the_same() -> None:
    same, gone = tar.tar(tar.file(b"a", b"1")), tar.file(b"gone", b"1")
    before = tar.tar(tar.file(b"kept", b"12", mtime=1), tar.file(b"other", b"12"), gone)
    after = tar.tar(tar.file(b"kept", b"12", mtime=2), tar.file(b"other", b"34"), tar.file(b"new", b"567"))
    assert changed([same, before], [same, after]) == Changed(2, 5)
    assert changed([same, before], [same, tar.tar(tar.file(b"kept", b"12", mtime=2))]) == Changed(0, 0)


def test_generations_with_python_each_have_one_layer_of_their_own(tmp_path: Path) -> None:
    names = ("base", "python", "python-rebuilt", "python-updated", "other", "flat", "flat-updated")
    for name in names:
        (tmp_path / f"{name}.tar").write_bytes(name.encode())
    layered, flat = python_lineages(tmp_path)
    app = layered.first[2]
    own = [[layer for layer in layers if layer not in layered.first] for _name, layers in layered.later]
    assert layered.first == [b"base", b"python", app]
    assert [len(layers) for layers in own] == [1, 1, 1]
    assert own[1:] == [[b"python-rebuilt"], [b"python-updated"]]
    assert layered.other == [b"base", b"other"]
    assert (flat.first, [layers for _name, layers in flat.later]) == ([b"flat"], [[b"flat-updated"]])


FIGURES = Figures(
    Changed(3, 327_680),
    [Cost(10, 1.0, 0.5, 3.0)],
    [Cost(1000, 4.0, 2.0, 6.0)],
    [Imported("/dev/x", 12.0, 77)],
)


def test_the_table_has_shares_and_ratios() -> None:
    row = report({"an update": FIGURES}).splitlines()[-1]
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        "an update",
        "3",
        "0.3",
        "1000",
        "10",
        "1.00 %",
        "2.00",
        "0.25 0.25 0.25",
        "0.25 0.25 0.25",
        "77",
        "0.25 0.25 0.25",
    ]


def test_another_image_is_compared_with_what_its_own_layers_take() -> None:
    hiding = Cost(985, 5.0, 2.0, 6.0)
    said = report({"another image": replace(FIGURES, hiding=[hiding])}).splitlines()[-1]
    assert "take 25 blocks of a fresh base: it has 0.400 times as many" in said
    assert "a hidden base of 975 blocks as well (wall 1.25, CPU 1.00)" in said


def test_the_last_snapshot_has_the_chain_id_of_the_specification() -> None:
    first, second = (f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in (b"one", b"two"))
    assert chain_id([b"one"]) == first
    assert chain_id([b"one", b"two"]) == f"sha256:{hashlib.sha256(f'{first} {second}'.encode()).hexdigest()}"


def test_what_is_served_arrives_whole() -> None:
    content = bytes(range(256)) * 40_000
    with served(content) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        assert connection.makefile("rb").read() == content


def test_serving_ends_without_a_client() -> None:
    with served(b"content"):
        pass


def test_a_chain_changes_the_application_each_time_and_the_system_every_tenth() -> None:
    made = list(chain(12))
    assert [made[number][0] == made[0][0] for number in (1, 9, 10, 11)] == [True, True, False, False]
    assert len({one[1] for one in made}) == 12
    before, after = contents(made[5][1]), contents(made[6][1])
    assert 20 < sum(before[name] != after[name] for name in before) < 90


def test_the_table_of_a_chain_names_the_fresh_bases() -> None:
    costs = [Cost(100, 2.0, 1.0, 3.0, "no_earlier_base"), *[Cost(2, 1.0, 0.5, 2.0)] * 3]
    base = chain_of_bases.Base(7 << 20, Checked(0.5, 0.1))
    rows = chain_of_bases.report(costs, base, costs[0], base).splitlines()[2:]
    cells = [[cell.strip() for cell in row.split("|")[2:-1]] for row in rows]
    assert cells[0] == ["7", "25"]
    assert cells[-1] == ["1", "all"]
