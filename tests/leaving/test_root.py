"""prepare and unprepare on the tree of a Debian system, run there by its own Ansible: no VM, so what is left is seen to the last file.

The tree is that of the lab's machines below an overlay, whose upper directory has all that has changed. The tasks run in a changed root with
namespaces of their own. apt, dpkg, pip and LVM are real; systemctl and modprobe are stand-ins, as neither systemd nor the kernel is the tree's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import VENV
from tests.e2e.machine import ROOT, lab
from tests.unit.roles.leaving import PROGRAMS

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0, reason="mounts a tree"),
]
COLLECTION = "root/.ansible/collections/ansible_collections/flyd/lite"
NUMBERS = "/var/lib/node-exporter"
PURGED = "thin-provisioning-tools"  # prepare installs it
# What belongs to the system: lists, logs and caches of apt and dpkg, compiled Python of packages, Ansible's own directory.
SYSTEM = re.compile(
    r"(var/(log|cache|tmp|backups)|tmp|run|var/lib/(apt|dpkg)|root/\.ansible|etc/ld\.so\.cache)(/|$)|.*/__pycache__(/|$)"
)
ANSIBLE = """import os, sys
sys.path.insert(0, "/root/.ansible/controller")
from ansible.cli.playbook import main
sys.argv[0] = "ansible-playbook"
main()
"""


class Tree:
    """A root directory; what runs in it has mounts and processes of its own."""

    def __init__(self, directory: Path) -> None:
        self.root, self.directory = directory / "root", directory

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        inside = f"mount -t proc proc {self.root}/proc && mount --rbind /dev {self.root}/dev && mount -t tmpfs run {self.root}/run"
        path = "/root/.ansible/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        clean = (
            f"env -i PATH={path} HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive CALLS=/root/.ansible/calls"
        )
        script = f"{inside} && exec {clean} chroot {self.root} /bin/sh -c {shlex.quote(command)}"
        argv = ["unshare", "--mount", "--pid", "--fork", "--propagation", "private", "/bin/sh", "-c", script]
        return subprocess.run(argv, capture_output=True, text=True, check=False)

    def succeed(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def play(self, book: str, *arguments: str, **variables: Any) -> tuple[int, int, str]:
        """Run a playbook of the collection on the tree; returns the exit code, the number of changes, and what was printed."""
        given = {"flyd_hosts": "localhost", "ansible_become": False, **variables}
        words = shlex.join([book, "--extra-vars", json.dumps(given), *arguments])
        done = self.run(f"cd /{COLLECTION}/playbooks && ansible-playbook {words}")
        found = re.search(r"^localhost .* changed=(\d+) ", done.stdout, re.MULTILINE)
        return done.returncode, int(found[1]) if found else -1, done.stdout + done.stderr

    def files(self) -> dict[str, tuple[int, int, int, str]]:
        """Return mode, owner, group and content (its hash, or where a link leads to) of each path that is not the system's."""
        found = {}
        for directory, names, files in os.walk(self.root):
            for name in (*names, *files):
                path = Path(directory, name)
                short = str(path.relative_to(self.root))
                if SYSTEM.match(short):
                    continue
                status = path.lstat()
                content = os.readlink(path) if path.is_symlink() else ""
                if path.is_file() and not content:
                    with path.open("rb") as file:
                        content = hashlib.file_digest(file, "sha256").hexdigest()
                found[short] = (status.st_mode, status.st_uid, status.st_gid, content)
        return found


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """The tree, with LVM and mdadm as a host may have them, and without a package that prepare installs."""
    directory = tmp_path_factory.mktemp("tree")
    base = Path(lab("build").strip()) / "disk.img"
    for name in ("base", "changes", "root"):
        (directory / name).mkdir()
    mounts = [
        ["mount", "-o", "loop,ro", str(base), str(directory / "base")],
        ["mount", "-t", "tmpfs", "-o", "mode=0755", "changes", str(directory / "changes")],
        ["mkdir", str(directory / "changes/upper"), str(directory / "changes/work")],
    ]
    layers = f"lowerdir={directory}/base,upperdir={directory}/changes/upper,workdir={directory}/changes/work"
    mounts.append(["mount", "-t", "overlay", "-o", layers, "overlay", str(directory / "root")])
    try:
        for argv in mounts:
            subprocess.run(argv, check=True)
        found = Tree(directory)
        furnish(found)
        yield found
    finally:
        for name in ("root", "changes", "base"):
            subprocess.run(["umount", "--quiet", directory / name], check=False)


def furnish(tree: Tree) -> None:
    """Put Ansible, the collection and the stand-ins below ~/.ansible; prepare what the host is before prepare."""
    own = tree.root / "root/.ansible"
    (own / "bin").mkdir(parents=True)
    (tree.root / "sys/module/dm_thin_pool").mkdir(parents=True)  # as modprobe would have it
    subprocess.run([ROOT / "tools/lab/controller.sh", VENV, ROOT / "build/controller"], check=True)
    subprocess.run([ROOT / "tools/lab/wheels.sh", VENV, ROOT / "build/wheels"], check=True)
    shutil.copytree(ROOT / "build/controller", own / "controller")
    shutil.copytree(ROOT / "build/wheels", own / "wheels")
    for name in (
        "galaxy.yml",
        "meta",
        "playbooks",
        "plugins",
        "roles",
        "requirements.txt",
        "requirements-optional.txt",
    ):
        source, target = ROOT / name, tree.root / COLLECTION / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    programs = {"systemctl": PROGRAMS["systemctl"], "modprobe": "#!/bin/sh\n"}
    programs["ansible-playbook"] = f'#!/bin/sh\nexec python3 -c {shlex.quote(ANSIBLE)} "$@"\n'
    for name, text in programs.items():
        (own / "bin" / name).write_text(text)
        (own / "bin" / name).chmod(0o755)
    packages = tree.root / "srv/packages"
    packages.mkdir(parents=True)
    wanted = [
        PURGED,
        "lvm2",
        "mdadm",
        "dmeventd",
        "libdevmapper-event1.02.1",
        "liblvm2cmd2.03",
        "libaio1",
        "libedit2",
        "libbsd0",
        "libmd0",
    ]
    subprocess.run(["apt-get", "download", "--quiet", *wanted], cwd=packages, check=True, stdout=subprocess.DEVNULL)
    index = ""
    for package in sorted(packages.glob("*.deb")):
        control = subprocess.run(["dpkg-deb", "--field", package], check=True, capture_output=True, text=True).stdout
        digest = hashlib.sha256(package.read_bytes()).hexdigest()
        index += f"{control.strip()}\nFilename: ./{package.name}\nSize: {package.stat().st_size}\nSHA256: {digest}\n\n"
    (packages / "Packages").write_text(index)
    tree.succeed(
        "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/* && echo update_initramfs=no > /etc/initramfs-tools/update-initramfs.conf"
        " && echo 'deb [trusted=yes] file:/srv/packages ./' > /etc/apt/sources.list && apt-get -qq -o APT::Sandbox::User=root update"
        " && printf 'APT::Sandbox::User \"root\";\n' > /etc/apt/apt.conf.d/99-sandbox"
        f" && dpkg --purge {PURGED} && apt-get install -y -qq --no-install-recommends lvm2 mdadm && mkdir -p {NUMBERS}"
    )


def test_a_host_that_is_left_is_as_it_was(tree: Tree) -> None:
    local = tree.root / "etc/lvm/lvmlocal.conf"
    local.write_text(f"{local.read_text()}# of the administrator\n")  # LVM takes no file of comments alone
    local.chmod(0o600)
    before = tree.files()
    wheels = {"prepare_wheels": "/root/.ansible/wheels", "prepare_textfile_directory": NUMBERS}
    code, changed, said = tree.play("prepare.yml", **wheels)
    assert (code, changed > 5) == (0, True), said
    tree.succeed(f"echo 1 > {NUMBERS}/flyd.prom && dpkg --status {PURGED} && test -e /etc/mdadm/mdadm.conf.d/flyd.conf")
    assert "flyd" in local.read_text()
    record = json.loads((tree.root / "opt/flyd/before.json").read_text())
    assert PURGED in record["packages"]
    code, _, said = tree.play(
        "activate.yml", key="a.tar", activate_endpoint_url="http://127.0.0.1:9", activate_retries="0"
    )
    assert code == 2, said  # there is no thin-pool target here; the database and the log have been made
    assert (tree.root / "var/lib/flyd/flyd.db").exists(), said
    prepared = tree.files()
    options = {"unprepare_state": True, "unprepare_packages": True}
    code, foretold, said = tree.play("unprepare.yml", "--check", "--diff", **options)
    assert (code, tree.files() == prepared) == (0, True), said
    code, changed, said = tree.play("unprepare.yml", **options)
    assert (code, changed) == (0, foretold + 1), said  # units are not stopped in check mode
    after = tree.files()
    assert {
        path: (before.get(path), after.get(path)) for path in {*before, *after} if before.get(path) != after.get(path)
    } == {}
    code, changed, said = tree.play("unprepare.yml", **options)
    assert (code, changed) == (0, 0), said
