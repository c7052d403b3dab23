"""When mdadm starts what a guest has written, which arrays of the host keep prepare from changing that, and what drift says of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from module_utils._thin.guards.mdadm import look
from tests.unit._thin.host_files import REPOSITORY, Files, prepared_host

VARS = REPOSITORY / "roles/prepare/vars/main.yml"
MINE = "etc/mdadm/mdadm.conf.d/flyd.conf"
UUID = "95da1faa:c0d29a46:c1fe5e4a:70371a5b"


def array(files: Files, name: str = "md9", number: int = 9, uuid: str = UUID) -> None:
    """An array of the host that runs, of a partition."""
    files.put(f"sys/block/{name}/md/array_state", "active\n")
    files.put(f"sys/block/{name}/dev", f"9:{number}\n")
    files.put(f"sys/block/{name}/slaves/vdb3/size", "8\n")
    files.put(f"run/udev/data/b9:{number}", f"I:1\nE:MD_LEVEL=raid1\nE:MD_NAME=box:9\nE:MD_UUID={uuid}\n")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A host of Debian with mdadm and no arrays."""
    files = prepared_host(tmp_path)
    files.put("etc/debian_version", "12\n")
    files.put("etc/mdadm/mdadm.conf", "HOMEHOST <system>\n")
    files.program("mdadm")
    return files


def test_mdadm_that_assembles_what_it_finds_is_named(files: Files) -> None:
    [line] = files.missing()
    assert "`mdadm --assemble --scan`" in line
    assert "run the role flyd.lite.prepare on this host, with prepare_mdadm: true" in line


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (MINE, "# flyd\nAUTO -all\n"),
        ("etc/mdadm/mdadm.conf", "auto -ALL # ours alone\n"),
        ("etc/mdadm/mdadm.conf", "AUTO\n  -all\n"),
        ("etc/mdadm/mdadm.conf.d/a.conf", "AUT -all +1.x\n"),
    ],
)
def test_mdadm_that_assembles_what_is_listed_is_not(files: Files, path: str, text: str) -> None:
    files.put(path, text)
    assert files.missing() == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("etc/mdadm/mdadm.conf", "AUTO +1.x homehost -all\n"),
        ("etc/mdadm/mdadm.conf.d/a.conf", "AUTO +all\n"),
        ("etc/mdadm/mdadm.conf.d/a.conf", "AUTO homehost -all\n"),
    ],
)
def test_an_auto_line_of_the_administrators_counts_before_ours(files: Files, path: str, text: str) -> None:
    files.put(path, text)
    files.put(MINE, "AUTO -all\n")
    [line] = files.missing()
    assert f"{files.root / path} has an AUTO line that does not begin with -all" in line
    assert not look(str(files.root)).is_wanted


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("etc/mdadm/mdadm.conf", "# AUTO -all\n"),
        ("etc/mdadm/mdadm.conf.d/a.txt", "AUTO -all\n"),
        ("etc/mdadm/mdadm.conf.d/.a.conf", "AUTO -all\n"),
        ("etc/mdadm.conf", "AUTO -all\n"),
    ],
)
def test_what_mdadm_does_not_read_does_not_count(files: Files, path: str, text: str) -> None:
    files.put(path, text)
    assert len(files.missing()) == 1


@pytest.mark.parametrize("is_debian", [True, False])
@pytest.mark.parametrize("there", ["etc/mdadm/mdadm.conf", "etc/mdadm.conf"])
def test_the_drop_in_lies_beside_the_file_that_mdadm_reads(tmp_path: Path, there: str, is_debian: bool) -> None:
    files = Files(tmp_path)
    if is_debian:
        files.put("etc/debian_version")
    files.put(there)
    assert look(str(files.root)).drop_in == str(files.root / f"{there}.d" / "flyd.conf")


@pytest.mark.parametrize(
    "line",
    [
        f"ARRAY /dev/md/9 metadata=1.2 UUID={UUID} name=box:9",
        f"array <none>\n\tuuid={UUID.replace(':', '').upper()}",
        f'ARRAY /dev/md9 "UUID={UUID}" # spare',
    ],
)
def test_a_listed_array_is_no_reason_to_leave_mdadm_as_it_is(files: Files, line: str) -> None:
    array(files)
    files.put("etc/mdadm/mdadm.conf", f"{line}\n")
    assert look(str(files.root)).is_wanted


@pytest.mark.parametrize(
    "line",
    [
        "",
        f"# ARRAY /dev/md/9 UUID={UUID}",
        f"ARRAY <ignore> UUID={UUID}",
        f"ARRAY /dev/md/9 UUID={UUID.replace('9', '8')}",
        f"ARRAY /dev/md/9 UUID={UUID} name=other:9",
        f"ARRAY /dev/md/9 UUID={UUID} devices=/dev/sdz1",
        "ARRAY /dev/md/9 UUID=",
        "ARRAY /dev/md/9 name=box:9",
    ],
)
def test_an_array_that_is_not_listed_by_its_uuid_is_one(files: Files, line: str) -> None:
    array(files)
    files.put("etc/mdadm/mdadm.conf", f"{line}\n")
    assert not look(str(files.root)).is_wanted
    [named] = files.missing()
    assert (
        "no ARRAY line names md9 by its UUID; add its line of `mdadm --detail --scan` to mdadm.conf, then run" in named
    )
    files.put(MINE, "AUTO -all\n")
    [named] = files.missing()
    assert "mdadm will not assemble md9 when the host boots" in named


def test_an_array_whose_uuid_is_not_known_counts_as_not_listed(files: Files) -> None:
    array(files)
    files.put("etc/mdadm/mdadm.conf", f"ARRAY /dev/md/9 UUID={UUID}\nARRAY /dev/md/8 UUID=\n")
    files.put("run/udev/data/b9:9", "I:1\n")
    assert look(str(files.root)).unlisted == ("md9",)


def test_an_array_that_was_stopped_does_not_count(files: Files) -> None:
    array(files)
    files.put("sys/block/md9/md/array_state", "clear\n")
    assert look(str(files.root)).is_wanted


def test_an_array_that_a_guest_has_written_is_named_and_does_not_count_as_the_hosts(files: Files) -> None:
    array(files)
    files.put("sys/block/md9/slaves/vdb3/dm/uuid", "FLYD-1-snap\n")
    assert look(str(files.root)).is_wanted
    first, second = files.missing()
    assert "mdadm --stop /dev/md9" in first
    assert "prepare_mdadm" in second
    files.put("sys/block/md9/slaves/vdc/size", "8\n")
    assert not look(str(files.root)).is_wanted, "a disk of the host is in it too"


def test_the_role_runs_what_is_tested_here(files: Files) -> None:
    """As it is sent: with isolated Python, and without the modules."""
    program = next(
        text
        for text in yaml.safe_load(VARS.read_text()).values()
        if isinstance(text, str) and "_thin/guards/mdadm.py" in text
    )
    source = (REPOSITORY / "plugins/module_utils/_thin/guards/mdadm.py").read_text()
    sent = program.replace(program[: program.index("}}") + 2], source, 1).replace(
        "look()", f"look({str(files.root)!r})"
    )
    done = subprocess.run([sys.executable, "-I", "-c", sent], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["is_wanted"] is True
    assert found["has_directory"] is False
    assert found["drop_in"] == str(files.root / MINE)
