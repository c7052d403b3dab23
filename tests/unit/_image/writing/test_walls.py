"""Two walls, each tried with the other one taken down: names resolved in the plan, and a changed root in the kernel."""

from __future__ import annotations

import codecs
import importlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import pytest

from module_utils._errors import FlydError
from module_utils._host.processes.child import in_child
from module_utils._image.extent import Extent
from module_utils._image.limits import Limits
from module_utils._image.merge.inodes import Directory, File, Inode, Symlink
from module_utils._image.merge.plan import HardLink, Plan
from module_utils._image.tar.access import Access
from module_utils._image.writing import tree_writer
from module_utils._image.writing.sandbox import contain
from module_utils._image.writing.tree_writer import write_tree
from tests.unit._image.unpacked import Playground, needs_root, options
from tests.unit.builders import tar

pytestmark = needs_root

OWN = Access(0o644, 0, 0)


@pytest.fixture
def content(tmp_path: Path) -> Extent:
    """Five bytes to write."""
    (tmp_path / "archive").write_bytes(b"owned")
    return Extent.whole(os.open(tmp_path / "archive", os.O_RDONLY))


def evil_plan(content: Extent, name: bytes, directory: bytes = b"d") -> Plan:
    """A plan that no tree would give: a file ``name`` in a directory ``directory``."""
    plan = Plan()
    plan.directories.add(0, b"", Directory())
    plan.directories.add(0, directory, Directory())
    plan.leaves.add(1, name, File(OWN, 0, (), content, 0, content.size, None))
    return plan


def write(playground: Playground, plan: Plan) -> object:
    """Write ``plan`` as the engine does, in a child."""
    fd = os.open(playground.root, os.O_RDONLY | os.O_DIRECTORY)
    before = playground.canaries()
    try:
        return in_child(lambda: write_tree(plan, fd, options(playground.root)), what="the test")
    finally:
        os.close(fd)
        assert playground.canaries() == before


def everything(playground: Playground) -> list[str]:
    """All paths below the root."""
    return sorted(str(path.relative_to(playground.root)) for path in playground.root.rglob("*"))


@pytest.mark.parametrize("name", [b"../../victim/pwned", b"../../../outer/victim/pwned"])
def test_behind_the_second_wall_dot_dot_ends_at_the_root(playground: Playground, content: Extent, name: bytes) -> None:
    (playground.root / "victim").mkdir()
    (playground.root / "outer").mkdir()
    (playground.root / "outer/victim").mkdir()
    write(playground, evil_plan(content, name))
    assert not (playground.victim / "pwned").exists()
    assert len([path for path in everything(playground) if path.endswith("pwned")]) == 1


def test_behind_the_second_wall_an_absolute_name_starts_at_the_root(playground: Playground, content: Extent) -> None:
    inside = playground.root / str(playground.victim).lstrip("/")
    inside.mkdir(parents=True)
    write(playground, evil_plan(content, os.fsencode(playground.victim / "pwned")))
    assert (inside / "pwned").read_bytes() == b"owned"


def test_behind_the_second_wall_a_link_cannot_name_the_host(playground: Playground, content: Extent) -> None:
    plan = evil_plan(content, b"f")
    plan.hard_links.append(HardLink(1, b"stolen", 1, b"../../victim/hello"))
    with pytest.raises(FlydError):
        write(playground, plan)


@pytest.fixture
def second_wall_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the umask is left of the second wall."""

    def contain_nothing(_root_fd: int, _limits: Limits, start: Callable[[], object]) -> list[str]:
        os.umask(0)
        start()
        return []

    monkeypatch.setattr(tree_writer, "contain", contain_nothing)
    monkeypatch.setattr(tree_writer, "lock_calls", lambda: True)


@pytest.mark.usefixtures("second_wall_down")
def test_with_the_second_wall_down_names_still_stay_inside(playground: Playground, form: str) -> None:
    victim = str(playground.victim).encode()
    layers = [
        tar.tar(tar.symlink(b"out", victim), tar.symlink(b"up", b"../victim"), tar.symlink(b"leaf", victim + b"/new")),
        tar.tar(
            tar.file(b"out/a", b"x"), tar.file(b"up/b", b"x"), tar.file(b"leaf", b"x"), tar.hard_link(b"h", b"up/b")
        ),
    ]
    done = playground.unpack(form, layers)
    assert done.kinds()[f"{playground.victim}/a"] == "f"
    assert done.kinds()["/victim/b"] == done.kinds()["/leaf"] == done.kinds()["/h"] == "f"


@pytest.mark.usefixtures("second_wall_down")
def test_with_the_second_wall_down_a_link_in_a_directorys_place_is_not_followed(
    playground: Playground, content: Extent
) -> None:
    plan = evil_plan(content, b"pwned")

    def swap_after_making() -> None:
        (playground.root / "d").rmdir()
        os.symlink(playground.victim, playground.root / "d")

    with pytest.raises(FlydError):
        write_with_interruption(playground, plan, swap_after_making)
    assert not (playground.victim / "pwned").exists()


def write_with_interruption(playground: Playground, plan: Plan, interrupt: Callable[[], None]) -> None:
    """Write ``plan``, and let another program change the tree when its directories are made."""
    shares = tree_writer.shares
    before = playground.canaries()

    def shares_after(inodes: Sequence[Inode], processes: int) -> list[tuple[int, int]]:
        interrupt()
        return shares(inodes, processes)

    patch = pytest.MonkeyPatch()
    patch.setattr(tree_writer, "shares", shares_after)
    try:
        write(playground, plan)
    finally:
        patch.undo()
        assert playground.canaries() == before


@pytest.mark.usefixtures("second_wall_down")
def test_a_link_in_a_files_place_is_not_written_through(playground: Playground, content: Extent) -> None:
    plan = evil_plan(content, b"f")
    with pytest.raises(FlydError):
        write_with_interruption(playground, plan, lambda: os.symlink(playground.victim / "x", playground.root / "d/f"))
    assert not (playground.victim / "x").exists()


def seen_when_contained(root: Path, look: Callable[[], object]) -> object:
    """What ``look`` finds in a process that was contained in ``root``."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)

    def work() -> object:
        contain(fd, Limits())
        return look()

    try:
        return in_child(work, what="the test")
    finally:
        os.close(fd)


@pytest.mark.parametrize("module", ["colorsys.py", "encodings/koi8_t.py"])
def test_no_code_is_loaded_from_the_image(playground: Playground, module: str) -> None:
    path = playground.root / Path(os.__file__).parent.relative_to("/") / module
    path.parent.mkdir(parents=True)
    path.write_text("raise SystemExit('code of the image ran')")

    def try_both() -> str:
        for attempt in (lambda: importlib.import_module("colorsys"), lambda: codecs.lookup("koi8_t")):
            # Python warns that no one is left to import anything, and tests turn warnings into errors.
            with pytest.raises((ImportError, LookupError, ImportWarning)):
                attempt()
        return "refused"

    assert seen_when_contained(playground.root, try_both) == "refused"


def test_only_the_capabilities_that_writing_takes_are_left(playground: Playground) -> None:
    def capabilities() -> list[int]:
        from ctypes import CDLL, c_uint32

        header, data = (c_uint32 * 2)(0x20080522, 0), (c_uint32 * 6)()
        CDLL(None).capget(header, data)
        return list(data)

    allowed = sum(1 << number for number in (0, 1, 3, 4, 27, 31))
    effective, permitted, inheritable, *high = cast("list[int]", seen_when_contained(playground.root, capabilities))
    assert effective & ~allowed == permitted & ~allowed == inheritable == 0
    assert high == [0, 0, 0]


def test_symbolic_links_of_the_image_lead_nowhere_for_the_writer(playground: Playground) -> None:
    os.symlink("/etc/hostname", playground.root / "link")
    assert seen_when_contained(playground.root, lambda: os.path.exists("link")) is False


def test_a_link_that_the_plan_knows_is_made_as_it_is(playground: Playground) -> None:
    plan = Plan()
    plan.directories.add(0, b"", Directory())
    plan.leaves.add(0, b"l", Symlink(OWN, 5, b"../../../etc"))
    write(playground, plan)
    assert os.readlink(playground.root / "l") == "../../../etc"
