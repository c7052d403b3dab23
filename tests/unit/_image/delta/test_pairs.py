# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree by applying a difference is the fresh one, for random pairs of images: ``make test-pairs`` runs more of them."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from module_utils._errors import FlydError
from module_utils._image.delta import changing, layer_index, origin, settling
from module_utils._image.merge import layer
from module_utils._image.pipeline import planned
from tests.unit._image.delta.pairs import Pair, Trees, pair, related, trees
from tests.unit._image.unpacked import needs_root

FIRST, COUNT = (int(os.environ.get(name, given)) for name, given in (("FLYD_FIRST_PAIR", "0"), ("FLYD_PAIRS", "300")))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory in memory, if attributes can be had there; and no namespaces, which take longer than all else in a small tree."""
    for module in (origin, planned):
        monkeypatch.setattr(module, "has_left_files", lambda: True)
    gc.freeze()  # a collection would touch all that the children share with this process
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as directory:
        try:
            os.setxattr(directory, "user.tried", b"")
            yield Path(directory)
        except OSError:
            yield tmp_path
    gc.unfreeze()


@pytest.fixture
def indexed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every layer has an index, however small, and every content a place in it."""
    monkeypatch.setattr(layer_index, "_LEAST_LAYER_BYTES", 0)
    monkeypatch.setattr(layer_index, "_LEAST_SHARE", 0)
    monkeypatch.setattr(layer, "LEAST_NOTED_BYTES", 1)


def differing(
    directory: Path,
    numbers: range,
    most: int = 1,
    *,
    made_by: Callable[[int], Pair] = pair,
    made_trees: list[Trees] | None = None,
    **how: bool,
) -> tuple[list[str], int]:
    """A sentence for each of ``numbers`` whose trees differ, up to ``most`` of them; and how many pairs were refused.

    ``made_trees`` receives those of each pair; ``how`` is for ``trees``.
    """
    found: list[str] = []
    refused = 0
    for number in numbers:
        below = directory / "pair"
        below.mkdir()
        try:
            made = trees(made_by(number), below, **how)
            if made_trees is not None:
                made_trees.append(made)
        except FlydError as error:
            if error.details.get("unfit_origin"):
                found.append(f"pair {number}: {error.msg}")
            refused += 1
        else:
            if made.changed != made.fresh:
                rows = sorted({*made.changed.items()} ^ {*made.fresh.items()})
                found.append(f"pair {number}: {rows[:4]}")
        finally:
            shutil.rmtree(below)
        if len(found) >= most:
            break
    return found, refused


@needs_root
@pytest.mark.timeout(max(120, COUNT))
def test_the_changed_tree_is_the_fresh_one(place: Path) -> None:
    found, refused = differing(place, range(FIRST, FIRST + COUNT))
    assert found == []
    assert refused < COUNT / 4


@needs_root
@pytest.mark.usefixtures("indexed")
@pytest.mark.timeout(max(120, COUNT))
def test_the_tree_is_the_same_when_layers_are_not_read(place: Path) -> None:
    made: list[Trees] = []
    count = COUNT // 3
    found, refused = differing(place, range(FIRST, FIRST + count), is_sealed=True, made_trees=made)
    assert found == []
    assert refused < count / 4
    assert sum(one.unread_layers > 0 for one in made) > count / 20, "too few of them left a layer unread"


@needs_root
@pytest.mark.usefixtures("indexed")
@pytest.mark.timeout(max(120, COUNT))
@pytest.mark.parametrize("is_sealed", [True, False])
def test_the_tree_is_the_same_when_archives_are_compared(place: Path, is_sealed: bool) -> None:
    made: list[Trees] = []
    count = COUNT // 3
    found, refused = differing(
        place, range(FIRST, FIRST + count), is_sealed=is_sealed, by_archive=True, made_trees=made
    )
    assert found == []
    assert refused < count / 4
    assert [one.unsure for one in made] == [0] * len(made)


@needs_root
@pytest.mark.parametrize("answer", [True, None])
def test_a_comparison_that_is_not_made_is_found(
    place: Path, monkeypatch: pytest.MonkeyPatch, answer: bool | None
) -> None:
    """Without an answer the files of the tree are compared, and the trees are the same; with a wrong one they are not."""
    monkeypatch.setattr(settling._Comparing, "is_same", lambda _self, _row: answer)
    found, _refused = differing(place, range(100), by_archive=True)
    assert bool(found) is bool(answer)


@needs_root
@pytest.mark.timeout(max(120, COUNT))
def test_an_image_made_of_another_one_is_the_fresh_one(place: Path) -> None:
    count = COUNT // 3
    found, refused = differing(place, range(FIRST, FIRST + count), made_by=related)
    assert found == []
    assert refused < count / 4


@needs_root
@pytest.mark.parametrize("step", ["setgid", "default list", "capability"])
def test_a_step_left_out_is_found(place: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """What the pairs are worth: a fault in each step that a fresh tree does not need shows within a few hundred of them."""
    _leave_out(monkeypatch, step)
    assert differing(place, range(300))[0]


def _leave_out(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    if step == "setgid":
        monkeypatch.setattr("stat.S_ISGID", 0)
    elif step == "default list":
        monkeypatch.setattr(changing, "_DEFAULT_ACL", b"system.none")
    else:
        monkeypatch.setattr("module_utils._image.delta.difference._Differing._may_stay", lambda *_given: True)
