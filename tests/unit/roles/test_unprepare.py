# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role unprepare takes back: what prepare wrote, no more; what was there before comes back; a killed run is completed."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.roles.leaving import BLOCK, MARK, ROOT, SYSTEMD, Host

STATE = "var/lib/flyd"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


class TestRecord:
    """What prepare records."""

    def test_what_was_recorded_once_is_not_recorded_again(self, host: Host) -> None:
        host.record(own_paths=False)
        first = host.path("opt/flyd/before.json").read_text()
        paths = json.loads(first)["paths"]
        assert paths[str(host.path("opt/flyd"))] == {"kind": "absent"}
        assert paths[str(host.path("opt"))] == {"kind": "directory"}
        host.path("etc/modules-load.d/flyd.conf").write_text("dm_thin_pool\n")
        host.record(own_paths=False)
        assert host.path("opt/flyd/before.json").read_text() == first

    def test_on_a_host_that_was_prepared_without_a_record_its_files_were_not_there_before(self, host: Host) -> None:
        host.prepare()
        host.path("opt/flyd/before.json").unlink()
        host.record()
        paths = json.loads(host.path("opt/flyd/before.json").read_text())["paths"]
        assert paths["/etc/udev/rules.d/10-flyd.rules"] == {"kind": "absent"}
        assert paths["/etc/lvm/lvmlocal.conf"] == {"kind": "other"}

    @pytest.mark.parametrize(
        ("killed", "expected"),
        [(False, ["dependency", "wanted"]), (True, ["wanted"])],
        ids=["whole", "killed before it was recorded"],
    )
    def test_packages_are_those_that_were_installed_meanwhile(
        self, host: Host, killed: bool, expected: list[str]
    ) -> None:
        """After a kill, what came without being asked for may be someone else's."""
        home, listed = host.path("opt/flyd"), host.root.parent / "installed"
        (host.programs / "dpkg-query").write_text(f"#!/bin/sh\nsed 's/^/ii  /' {listed}\n")
        given = json.dumps({"paths": [], "state_dir": "/var/lib/flyd", "packages": ["wanted", "there"]})

        def record(verb: str) -> None:
            argv = [sys.executable, str(ROOT / "roles/prepare/files/record.py"), str(home), verb]
            subprocess.run(argv, input=given, text=True, check=True, capture_output=True, env=host.environment)

        listed.write_text("there\nother\n")
        record("paths")
        record("before")
        listed.write_text("there\nother\nwanted\ndependency\n")
        record("paths" if killed else "after")
        assert json.loads((home / "before.json").read_text())["packages"] == expected
        assert not (home / "packages-before.json").exists()


class TestFiles:
    """What is removed, set back and kept."""

    def test_nothing_is_there_on_a_host_that_was_never_prepared(self, host: Host) -> None:
        found = host.look()
        assert {
            name: found[name] for name in ("stop", "units", "remove", "restore", "home", "record", "held", "kept")
        } == {name: [] for name in ("stop", "units", "remove", "restore", "home", "record", "held", "kept")}

    def test_a_file_that_was_there_comes_back_with_its_mode(self, host: Host) -> None:
        rule = host.path("etc/udev/rules.d/10-flyd.rules")
        rule.write_text("somebody's rule\n")
        rule.chmod(0o600)
        host.prepare()
        [back] = [one for one in host.look()["restore"] if one["path"] == str(rule)]
        assert (back["content"], back["mode"], back["uid"]) == ("somebody's rule\n", "0600", os.geteuid())

    def test_what_the_administrator_added_to_a_shared_file_stays(self, host: Host) -> None:
        lvm = host.path("etc/lvm/lvmlocal.conf")
        lvm.write_text("before\n")
        host.prepare()
        lvm.write_text(f"{lvm.read_text()}after\n")
        [back] = host.look()["restore"]
        assert back["content"] == "before\nafter\n"

    def test_a_file_of_a_role_name_with_other_content_is_kept_and_named(self, host: Host) -> None:
        host.prepare()
        rule = host.path("etc/udev/rules.d/10-flyd.rules")
        rule.write_text("edited\n")
        found = host.look()
        assert str(rule) not in found["remove"]
        assert found["kept"] == [str(rule)]

    def test_an_empty_file_of_a_package_is_not_removed(self, host: Host) -> None:
        host.prepare()
        (host.programs / "dpkg-query").write_text("#!/bin/sh\nexit 0\n")
        found = host.look()
        assert [one["content"] for one in found["restore"]] == [""]
        assert found["directories"] == []

    def test_directories_that_were_there_or_hold_more_stay(self, host: Host) -> None:
        host.path(f"{SYSTEMD}/timers.target.wants").mkdir()
        host.prepare()
        host.path(f"{SYSTEMD}/multi-user.target.wants/other.service").write_text("")
        assert host.relative(host.look()["directories"]) == ["etc/mdadm/mdadm.conf.d"]

    def test_units_of_these_names_that_prepare_did_not_write_stay(self, host: Host) -> None:
        unit = host.path(f"{SYSTEMD}/flyd-restore.service")
        unit.write_text("[Service]\nExecStart=/bin/true\n")
        assert host.look()["units"] == []

    def test_what_others_have_put_into_the_directory_of_the_environment_stays(self, host: Host) -> None:
        host.path("opt/flyd").mkdir()
        host.path("opt/flyd/notes").write_text("mine")
        host.prepare()
        found = host.look()
        assert host.relative(found["home"]) == ["opt/flyd/engine", "opt/flyd/venv", "opt/flyd/venv-1"]
        assert host.relative(found["kept"]) == ["opt/flyd/notes"]
        assert found["home_directories"] == []

    def test_without_a_record_what_bears_the_mark_goes(self, host: Host) -> None:
        host.prepare()
        host.path("opt/flyd/before.json").unlink()
        found = host.look()
        assert len(found["units"]) == 10
        assert host.relative(found["home_directories"]) == ["opt/flyd"]
        assert "etc/lvm/lvmlocal.conf" in host.relative(found["remove"])
        assert found["directories"] == []
        assert found["packages"] == []

    def test_a_run_that_was_killed_at_any_point_is_completed_by_the_next(self, host: Host) -> None:
        """Each step is taken as the role takes it, then the host is looked at again, as a new run does."""
        before = host.files()
        host.prepare()
        for _ in range(40):
            found = host.look()
            order = [*found["units"], *found["remove"], *found["directories"], *found["home"], *found["record"]]
            if not order:
                break
            path = Path(order[0])
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            if path.name == "before.json":
                path.parent.rmdir()
        shutil.rmtree(host.path("numbers"))
        assert host.files() == before

    def test_the_state_directory_is_that_of_the_last_prepare(self, host: Host) -> None:
        host.record("/srv/deep/state")
        found = host.look()
        assert host.relative([found["state_dir"]]) != ["var/lib/flyd"]
        assert host.look("/elsewhere")["state_dir"] == str(host.path("elsewhere"))


class TestHeld:
    """What keeps a host from being left."""

    def test_devices_loops_and_processes_are_named(self, host: Host) -> None:
        host.path("sys/block/dm-3/dm").mkdir(parents=True)
        host.path("sys/block/dm-3/dm/uuid").write_text("FLYD-01ARZ3NDEKTSV4RRFFQ69G5FAV-base\n")
        host.path("sys/block/dm-3/dm/name").write_text("base-1\n")
        host.path("sys/block/dm-4/dm").mkdir(parents=True)
        host.path("sys/block/dm-4/dm/uuid").write_text("LVM-x\n")
        for number, path in (("1", "/var/lib/flyd/pools/X/data"), ("2", "/srv/pools/X/data")):
            host.path(f"sys/block/loop{number}/loop").mkdir(parents=True)
            host.path(f"sys/block/loop{number}/loop/backing_file").write_text(f"{path}\n")
        host.path("proc/41").mkdir(parents=True)
        host.path("proc/41/cmdline").write_bytes(os.fsencode(host.path("opt/flyd/venv-1/bin/python")) + b"\0-c\0")
        assert host.look()["held"] == [
            "the device /dev/mapper/base-1",
            "the loop device /dev/loop1 over /var/lib/flyd/pools/X/data",
            "process 41, which runs in the environment /opt/flyd/venv",
        ]


class TestState:
    """The state directory."""

    @pytest.fixture(autouse=True)
    def used(self, host: Host) -> None:
        host.prepare()
        host.use()

    def test_all_of_it_goes_the_database_last(self, host: Host) -> None:
        found = host.state("remove")
        assert found["remove"][-1] == str(host.path(f"{STATE}/flyd.db"))
        assert (found["kept"], found["holds"], list(host.path(STATE).iterdir())) == ([], [], [])
        assert host.state("remove")["remove"] == []

    def test_what_others_have_put_there_stays(self, host: Host) -> None:
        mine = ("notes", "archives/notes", "pools/01ARZ3NDEKTSV4RRFFQ69G5FAV/data", "log/other.log")
        host.path(f"{STATE}/pools/01ARZ3NDEKTSV4RRFFQ69G5FAV").mkdir()
        for name in mine:
            host.path(f"{STATE}/{name}").write_text("mine")
        host.path(f"{STATE}/archives/{'b' * 64}").symlink_to(host.root.parent)
        host.state("remove")
        there = {str(path.relative_to(host.path(STATE))) for path in host.path(STATE).rglob("*") if path.is_file()}
        assert there == set(mine)
        assert host.root.parent.exists()

    def test_a_link_is_not_followed(self, host: Host, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        host.path(STATE).rename(tmp_path / "moved")
        host.path(STATE).symlink_to(tmp_path / "moved")
        assert host.state("remove")["remove"] == []
        assert (tmp_path / "moved/flyd.db").exists()

    def in_namespace(self, host: Host, mounts: str) -> list[str]:
        """Remove the state directory while ``mounts`` are there; return which of its files are left."""
        argv = [sys.executable, str(ROOT / "roles/unprepare/files/state.py"), "remove", str(host.path(STATE))]
        script = (
            f"set -e; cd {shlex.quote(str(host.root))}; {mounts}; {shlex.join(argv)} > /dev/null; find {STATE} -type f"
        )
        unshared = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script]
        done = subprocess.run(unshared, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return sorted(done.stdout.split())

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
    def test_all_of_it_goes_from_an_overlay_too(self, host: Host) -> None:
        """There files have another device number than their directories."""
        layers = "mkdir base upper && mount -t tmpfs upper upper && mkdir upper/new upper/work"
        overlay = "mount -t overlay -o lowerdir=base,upperdir=upper/new,workdir=upper/work overlay var/lib"
        moved = f"cp -a {STATE} other && {layers} && {overlay} && cp -a other {STATE}"
        assert self.in_namespace(host, moved) == []

    @pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
    def test_what_others_have_mounted_there_stays(self, host: Host) -> None:
        archive = f"{STATE}/archives/{'b' * 64}"
        mounts = f"echo theirs > mine && touch {archive} && mount --bind mine {archive}"
        assert self.in_namespace(host, mounts) == [archive]

    @pytest.mark.parametrize(
        ("table", "row", "said"),
        [
            ("pools", ("1", "pool", "d", "m", 1, 1, 1, 1, 1, 1, 1, 1, 1, "", "{}", 0, 0), "pool pool"),
            ("operations", ("1", "fetch", "images/a.tar", "", "", 1, 1, ""), "operation images/a.tar"),
        ],
    )
    def test_nothing_goes_when_the_database_has_something_meanwhile(
        self, host: Host, table: str, row: tuple[object, ...], said: str
    ) -> None:
        with sqlite3.connect(host.path(f"{STATE}/flyd.db")) as store:
            store.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
        store.close()
        assert host.state("remove")["holds"] == [said]
        assert host.path(f"{STATE}/flyd.db").exists()
        assert host.path(f"{STATE}/log/flyd.jsonl").exists()

    def test_nothing_goes_while_a_process_works_on_an_image(self, host: Host) -> None:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        with sqlite3.connect(host.path(f"{STATE}/flyd.db")) as store:
            store.execute("INSERT INTO _busy VALUES ('images/a.tar', ?, ?, ?)", (boot, os.getpid(), started))
            store.execute("INSERT INTO _busy VALUES ('images/b.tar', ?, ?, ?)", (boot, os.getpid(), started - 1))
        store.close()
        assert host.state("remove")["holds"] == [f"process {os.getpid()}, which works on images/a.tar"]

    def test_nothing_goes_without_a_database_that_can_be_read(self, host: Host) -> None:
        host.path(f"{STATE}/flyd.db").write_bytes(b"no database" * 1000)
        [said] = host.state("remove")["holds"]
        assert "cannot be read" in said
        assert host.path(f"{STATE}/log/flyd.jsonl").exists()


APT = """#!{python}
import json, os, sys
needs = json.loads(os.environ["NEEDS"])  # by package, which others cannot be without it
asked = [word for word in sys.argv[1:] if word in needs]
gone = set(asked)
while True:
    more = {{name for one in gone for name in needs.get(one, [])}} - gone
    if not more: break
    gone |= more
both = os.environ.get("EITHER", "").split()
if both and set(both) <= gone: gone.add("either")
if "--simulate" not in sys.argv: open(os.environ["CALLS"], "a").write("purge " + " ".join(sorted(asked)) + "\\n")
print("".join(f"Purg {{name}} [1]\\n" for name in sorted(gone)))
"""


class TestPackages:
    """Packages that prepare has installed."""

    def ask(self, host: Host, verb: str, needs: dict[str, list[str]], either: str = "") -> dict[str, object]:
        (host.programs / "apt-get").write_text(APT.format(python=sys.executable))
        (host.programs / "apt-get").chmod(0o755)
        names = [name for name in needs if name in ("one", "two", "three")]
        listed = "".join(f"ii  {name}\\n" for name in names)
        (host.programs / "dpkg-query").write_text(f"#!/bin/sh\nprintf '{listed}'\n")
        argv = [sys.executable, str(ROOT / "roles/unprepare/files/packages.py"), verb, *names]
        environment = {**host.environment, "NEEDS": json.dumps(needs), "EITHER": either}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
        found: dict[str, object] = json.loads(done.stdout)
        return found

    def test_one_that_others_need_stays_with_what_it_needs(self, host: Host) -> None:
        needs = {"one": [], "two": ["lvm2"], "three": ["two"], "lvm2": []}
        found = self.ask(host, "remove", needs)
        assert found == {"remove": ["one"], "kept": {"three": ["lvm2"], "two": ["lvm2"]}}
        assert host.calls.read_text() == "purge one\n"

    def test_of_two_that_another_needs_either_of_one_stays(self, host: Host) -> None:
        found = self.ask(host, "look", {"one": [], "two": []}, either="one two")
        assert found == {"remove": ["two"], "kept": {"one": ["either"]}}
        assert not host.calls.exists()


def test_the_marks_are_those_of_what_prepare_writes() -> None:
    """Else nothing of it would be found."""
    roles = ROOT / "roles"
    written = [*(roles / "prepare/templates").glob("*.j2"), roles / "prepare/files/10-flyd.rules"]
    assert [path.name for path in written if MARK.strip(".\n#") not in path.read_text()[:200]] == []
    assert MARK.strip(".\n# ") in (roles / "prepare/files/pack.py").read_text()
    guests = (roles / "prepare/tasks/guests.yml").read_text()
    assert MARK.strip(".\n# ") in guests
    assert 'marker: "# {mark} flyd.lite"' in guests
    assert BLOCK.startswith("# BEGIN flyd.lite\n")
    assert r'content: "dm_thin_pool\n"' in (roles / "prepare/tasks/kernel.yml").read_text()
