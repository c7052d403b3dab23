"""The tree is what GNU tar extracts of the same layers with the whiteouts applied: every path, every attribute."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.fuzz.oracle import compare_with_gnu_tar
from tests.fuzz.recipes import cook
from tests.tools.tree import Rows, differences, rows_of_directory
from tests.unit._image.unpacked import Playground, needs_root

pytestmark = needs_root

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
ONE_DAY_NS = 86_400 * 10**9
SHARED = ("shared", "both")  # what several layers bring


def populate(directory: Path, chance: random.Random, count: int, tag: str = "") -> None:
    """Fill ``directory`` with ``count`` things of all kinds that a layer may hold; names with a ``tag`` are the layer's own."""
    places = [directory, directory / "shared", directory / "shared" / "deeper"]
    for place in places[1:]:
        place.mkdir()
    files: list[Path] = []
    for at in range(count):
        path = chance.choice(places) / f"{chance.choice('abcdef')}{at}{tag}"
        kind = chance.choice(["file", "file", "file", "directory", "symlink", "hard link", "fifo", "device", "long"])
        if kind == "directory":
            path.mkdir()
            places.append(path)
        elif kind == "symlink":
            path.symlink_to(chance.choice(["/etc/passwd", "../x", "a" * 150, "missing"]))
        elif kind == "hard link" and files:
            os.link(chance.choice(files), path)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "device":
            os.mknod(path, 0o20600, os.makedev(at, at * 3))
        else:
            path = path.with_name(path.name + "n" * 120) if kind == "long" else path
            path.write_bytes(chance.randbytes(chance.choice([0, 1, 511, 512, 513, 70_000])))
            files.append(path)
    for path in sorted(directory.rglob("*"), reverse=True):
        decorate(path, chance)
    decorate(directory, chance)


def decorate(path: Path, chance: random.Random) -> None:
    """Give ``path`` an owner, a mode, attributes and times."""
    os.chown(path, chance.choice([0, 0, 1000, 2**31 + 5]), chance.choice([0, 7]), follow_symlinks=False)
    if not path.is_symlink():
        os.chmod(path, chance.choice([0o644, 0o755, 0o4755, 0o2711, 0o1777, 0o400, 0o000]))
    if (path.is_dir() and not path.is_symlink()) or (path.is_file() and not path.is_symlink()):
        if chance.random() < 0.3:
            os.setxattr(path, "user.note", chance.randbytes(5))
        if path.is_file() and chance.random() < 0.2:
            os.setxattr(path, "security.capability", CAPABILITY)
    when = chance.randrange(-ONE_DAY_NS, 20_000 * ONE_DAY_NS)
    os.utime(path, ns=(when, when), follow_symlinks=False)


def tar_of(directory: Path, form: str) -> bytes:
    """What GNU tar makes of ``directory``."""
    options = ["--format=posix", "--xattrs", "--xattrs-include=*"] if form == "posix" else ["--format=gnu"]
    command = ["tar", "-c", *options, "--numeric-owner", "--sparse", "-C", str(directory), "-f", "-", "."]
    return subprocess.run(command, check=True, capture_output=True).stdout


def extract(layer: bytes, directory: Path) -> None:
    """Let GNU tar extract ``layer`` over what is in ``directory``."""
    command = ["tar", "-x", "-p", "--same-owner", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
    command += ["-C", str(directory), "-f", "-"]
    subprocess.run(command, input=layer, check=True, capture_output=True)


def remove(path: Path) -> None:
    """Remove whatever ``path`` is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def whited_out(lower: Path, upper: Path, chance: random.Random) -> None:
    """Put whiteouts for some of ``lower`` into ``upper``, and remove the same from ``lower``."""
    victims = chance.sample(sorted(path for path in lower.iterdir() if path.name not in SHARED), 3)
    for victim in victims:
        (upper / f".wh.{victim.name}").touch()
        remove(victim)


def rows(directory: Path) -> Rows:
    """All that is known about a tree, to the nanosecond."""
    return rows_of_directory(directory, exact=True)


@pytest.mark.parametrize("form", ["posix", "gnu"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_layer_becomes_what_gnu_tar_makes_of_it(playground: Playground, tmp_path: Path, form: str, seed: int) -> None:
    made = tmp_path / "outer" / "root" / "x"
    made.mkdir()
    populate(made, random.Random(seed), 120)
    layer = tar_of(made, form)
    theirs = tmp_path / "spool"
    theirs.mkdir()
    (theirs / "tar").mkdir()
    extract(layer, theirs / "tar")
    expected = rows(theirs / "tar")
    shutil.rmtree(made)
    done = playground.unpack("docker", [layer])
    assert differences(done.rows, expected) == []
    assert done["/"] == expected["/"]
    assert len(done.rows) > 100


@pytest.mark.parametrize("seed", [4, 5, 6])
def test_layers_with_whiteouts_become_what_gnu_tar_makes_of_them(
    playground: Playground, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    work = tmp_path / "spool"
    theirs = work / "theirs"
    theirs.mkdir(parents=True)
    layers = []
    for at in range(3):
        made = work / f"made{at}"
        made.mkdir()
        populate(made, chance, 60, tag=f"-{at}")
        if at:
            (made / "both").write_text(f"of layer {at}")
        if at:
            whited_out(theirs, made, chance)
        layers.append(tar_of(made, "posix"))
        extract(layers[-1], theirs)
        for marker in theirs.rglob(".wh.*"):
            marker.unlink()
    extract(layers[-1], theirs)  # removing the markers has changed the times of directories
    for marker in theirs.rglob(".wh.*"):
        parent = os.stat(marker.parent)
        marker.unlink()
        os.utime(marker.parent, ns=(parent.st_atime_ns, parent.st_mtime_ns))
    expected = rows(theirs)
    done = playground.unpack("oci", layers)
    assert differences(done.rows, expected) == []
    assert done.summary.whiteouts == 6


def test_what_gnu_tar_refuses_is_refused_and_what_we_take_it_lists(tmp_path: Path) -> None:
    chance = random.Random(39)
    taken = sum(
        compare_with_gnu_tar(tmp_path, layer) for _ in range(120) for layer in cook(chance.randbytes(100)).layers
    )
    assert taken > 100
