"""tests/tools/unpack.py as other programs drive it: one JSON object, exit codes, silence."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tools.tree import differences, rows_of_directory
from tests.unit._image.unpacked import needs_root
from tests.unit.builders import images, tar

ROOT = Path(__file__).parents[3]
LAYER = tar.tar(tar.directory(b"etc"), tar.file(b"etc/motd", b"hello\n", uid=7))


def run(*arguments: object) -> tuple[int, dict[str, Any]]:
    """The tool's exit code and its answer; it must say nothing on standard error."""
    command = [sys.executable, str(ROOT / "tests/tools/unpack.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1
    return done.returncode, json.loads(done.stdout)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A docker archive."""
    (tmp_path / "image.tar").write_bytes(images.docker_archive([LAYER]))
    return tmp_path / "image.tar"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """An empty directory."""
    (tmp_path / "target").mkdir(mode=0o755)
    return tmp_path / "target"


@needs_root
def test_an_archive_is_unpacked_and_summed_up(archive: Path, target: Path) -> None:
    code, answer = run(archive, target, "--spool", target.parent)
    assert code == 0
    assert (answer["layout"], answer["entries"], answer["bytes"], answer["layers"]) == ("docker", 2, 6, 1)
    assert answer["config"]["Cmd"] == ["/bin/sh"]
    assert rows_of_directory(target)["/etc/motd"][3] == "7"


@needs_root
def test_a_directory_of_layers_is_a_family_in_natural_order(tmp_path: Path, target: Path) -> None:
    (tmp_path / "family").mkdir()
    for number in (1, 2, 10):
        layer = tar.tar(tar.file(b"last", b"%d" % number))
        (tmp_path / "family" / f"{number}.tar").write_bytes(gzip.compress(layer) if number == 2 else layer)
    code, answer = run(f"{tmp_path}/family/", target)
    assert (code, answer["layout"], answer["layers"]) == (0, "family", 3)
    assert (target / "last").read_bytes() == b"10"


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        (["--limits", "entries=1"], "untrusted", "limit entries is 1, and the archive needs 2"),
        (["--limits", "nonsense=1"], "bad_input", "no limit named"),
        (["--image-name", "other"], "bad_input", "no image"),
        (["--platform", "linux"], "bad_input", "platform"),
        (["--sha256", "0" * 64], "untrusted", "digest"),
        (["--device-nodes", "maybe"], "bad_input", "invalid choice"),
        (["--no-such-option"], "bad_input", "unrecognized"),
        (["--processes", "many"], "bad_input", "invalid int"),
    ],
)
def test_a_failure_is_one_object_too(archive: Path, target: Path, arguments: list[str], kind: str, text: str) -> None:
    code, answer = run(archive, target, *arguments)
    assert (code, answer["error_kind"]) == (1, kind)
    assert text in answer["msg"]
    assert answer["hint"]
    assert list(target.iterdir()) == []


def test_the_member_is_named_escaped(tmp_path: Path, target: Path) -> None:
    (tmp_path / "image.tar").write_bytes(images.docker_archive([tar.tar(tar.file(b"\x1b[2J/../x"))]))
    code, answer = run(tmp_path / "image.tar", target)
    assert (code, answer["error_kind"], answer["member"]) == (1, "untrusted", "\\x1b[2J/../x")


def test_paths_that_cannot_be_used_are_bad_input(archive: Path, target: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for arguments in ((tmp_path / "missing", target), (archive, tmp_path / "missing"), (tmp_path / "fifo", target)):
        code, answer = run(*arguments)
        assert (code, answer["error_kind"]) == (1, "bad_input")
    (target / "there").touch()
    assert run(archive, target)[1]["error_kind"] == "bad_input"


def test_differences_between_trees_are_listed(tmp_path: Path) -> None:
    for name, content in (("one", "a"), ("two", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(content)
        (tmp_path / name / f"only-{name}").symlink_to("x")
        os.utime(tmp_path / name / "file", (5, 5))
        os.utime(tmp_path / name / f"only-{name}", (5, 5), follow_symlinks=False)
    found = differences(rows_of_directory(tmp_path / "one"), rows_of_directory(tmp_path / "two"))
    assert [line[:10].strip() for line in found] == ["- /file\tf", "+ /file\tf", "+ /only-on", "- /only-tw"]
    assert differences(rows_of_directory(tmp_path / "one"), rows_of_directory(tmp_path / "one")) == []
