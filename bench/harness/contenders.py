"""Who unpacks: ourselves and the programs that we are compared with, each as its users run it.

Invariant: each gets an empty directory on a new file system and input that is in memory; ``tree`` says where its
result is. No contender runs with a check turned off that it makes by default.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import containerd
from bench.harness.inputs import ROOT, TAG, Inputs
from bench.harness.measuring import Argv, environment, run
from bench.harness.verifying import Standard

Commands = Callable[[Inputs, Path], Sequence[Argv]]
Around = Callable[[Path, Path], AbstractContextManager[None]]

DISTRIBUTIONS_PYTHON = Path("/usr/bin/python3")
UNPACK = ROOT / "tests/tools/unpack.py"


@contextlib.contextmanager
def _nothing(_root: Path, _work: Path) -> Iterator[None]:
    yield


@dataclass(frozen=True)
class Contender:
    """``commands`` unpack an image into a directory; ``around`` is what must run meanwhile; ``tree`` is where the result lies."""

    name: str
    commands: Commands
    programs: tuple[str, ...] = ()
    standard: Standard = Standard.TREE
    around: Around = _nothing
    tree: Callable[[Path], AbstractContextManager[Path]] = contextlib.nullcontext
    env: Mapping[str, str] = field(default_factory=environment)


def _per_layer(*argv: str) -> Commands:
    return lambda inputs, root: [[*argv, layer, "-C", root] for layer in inputs.layers]


def _gzip_into_tar(inputs: Inputs, root: Path) -> Sequence[Argv]:
    script = 'set -eo pipefail; root=$1; shift; for layer; do gzip -dc "$layer" | tar -x -C "$root"; done'
    return [["bash", "-c", script, "bash", root, *inputs.gzip_layers]]


def _umoci(inputs: Inputs, root: Path) -> Sequence[Argv]:
    return [["umoci", "raw", "unpack", "--image", f"{inputs.gzip_oci}:{TAG}", root / "tree"]]


def flyd(name: str, python: Path, work: Path, *, packed: bool, whole: bool, packages: Path | None = None) -> Contender:
    """Ourselves: the tool as a process of its own, its start included, every layer's digest verified.

    ``packed`` is for the archive with gzip layers; ``whole`` has it verify the digest of the archive, too, as flyd_unpack does: all
    bytes are hashed twice then. ``packages`` is a directory to import from (see ``optional_packages``).
    """

    def commands(inputs: Inputs, root: Path) -> Sequence[Argv]:
        archive = inputs.gzip_archive if packed else inputs.archive
        argv: list[str | Path] = [python, UNPACK, archive, root, "--spool", work]
        return [[*argv, *(["--sha256", _sha256(archive)] if whole else [])]]

    # Compiled modules lie beside the sources of an installed collection; here they must not.
    more = {"PYTHONPATH": str(packages)} if packages else {}
    return Contender(name, commands, env=environment(PYTHONPYCACHEPREFIX=str(work / "pycache"), **more))


def optional_packages(python: Path, work: Path) -> Path:
    """A directory with what the role prepare installs beside what must be, for ``python``."""
    target = work / "optional"
    version = run([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], environment()).strip()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
    run(
        [*pip, "--python-version", version, "--target", target, "--requirement", ROOT / "requirements-optional.txt"],
        environment(),
    )
    return target


_DIGESTS: dict[Path, str] = {}


def _sha256(path: Path) -> str:
    if path not in _DIGESTS:  # found out once, before any clock runs
        with path.open("rb") as file:
            _DIGESTS[path] = hashlib.file_digest(file, "sha256").hexdigest()
    return _DIGESTS[path]


GNU_TAR = Contender("GNU tar, layers flat", _per_layer("tar", "-xf"), ("tar",), Standard.FILES)
BSDTAR = Contender("bsdtar, layers flat", _per_layer("bsdtar", "-xf"), ("bsdtar",), Standard.FILES)
GZIP_TAR = Contender("gzip -dc into GNU tar, layers flat", _gzip_into_tar, ("gzip", "tar"), Standard.FILES)


@contextlib.contextmanager
def _below_tree(root: Path) -> Iterator[Path]:
    yield root / "tree"


# It reads no plain layers: "gzip: invalid header".
UMOCI = Contender("umoci raw unpack, gzip layers", _umoci, ("umoci",), tree=_below_tree)


def ctr(work: Path) -> Contender:
    """containerd's client; its daemon was started before and keeps all in the new file system."""
    daemon = containerd.Daemon(work)
    return Contender(
        "ctr images import, overlayfs",
        lambda inputs, _root: [daemon.import_argv(inputs.archive)],
        ("containerd", "ctr"),
        around=daemon.running,
        tree=daemon.mounted,
        standard=Standard.TREE_BUT_TIMES_OF_DIRECTORIES,
    )
