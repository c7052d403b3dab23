"""The role prepare where a package index is in reach: what the host's pip is set up for is asked, once."""

from __future__ import annotations

import functools
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.machine import ROOT, Machine
from tests.unit.builders import images, tar

pytestmark = pytest.mark.timeout(1800)

CONTROLLER = "10.0.2.2"  # as QEMU's user network shows it
KEY = "images/by-index.tar"
LIST = ROOT / "roles/prepare/files/requirements/python3.11.txt"  # the VM's Python
ENVIRONMENT = "ls -A /opt/flyd; find -L /opt/flyd/venv -type f -not -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum | sha256sum"
PACKAGES = "/opt/flyd/venv/bin/python -m pip list --format freeze"


class Index:
    """A package index of a directory of wheels, in the form of PEP 503, and what it was asked for."""

    def __init__(self, wheels: Path, root: Path) -> None:
        for wheel in wheels.glob("*.whl"):
            project = root / re.sub("[-_.]+", "-", wheel.name.split("-")[0]).lower()
            project.mkdir(parents=True, exist_ok=True)
            (project / wheel.name).symlink_to(wheel)
        self.root = root
        self.asked: list[str] = []
        asked = self.asked

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                asked.append(self.path)

        # Links without hashes: what is served must be compared with the list.
        handler = functools.partial(Handler, directory=str(root))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://{CONTROLLER}:{self.server.server_port}/"


@pytest.fixture(scope="module")
def index(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """An index with the packages that hosts need, as the VM reaches it."""
    index = Index(wheels, tmp_path_factory.mktemp("index"))
    thread = threading.Thread(target=index.server.serve_forever)
    thread.start()
    try:
        yield index
    finally:
        index.server.shutdown()
        thread.join()
        index.server.server_close()


@pytest.fixture(scope="module", autouse=True)
def asks(prepared: Machine, index: Index) -> Iterator[None]:
    """The host's pip is set up for the index."""
    configuration = f"[global]\nindex-url = {index.url}\ntrusted-host = {CONTROLLER}\n"
    prepared.ssh("cat > /etc/pip.conf", stdin=configuration.encode())
    yield
    prepared.ssh("rm /etc/pip.conf")


@pytest.mark.parametrize("package", ["boto3", "pip", "isal"])
def test_an_index_that_serves_something_else_is_refused_and_the_host_stays_as_it_was(
    prepared: Machine, index: Index, package: str
) -> None:
    """One that is needed, the installer itself, and one that a host can do without: that must not hide it."""
    [link] = (index.root / package).glob("*.whl")
    sound = link.readlink()
    link.unlink()
    link.write_bytes(sound.read_bytes() + b"\0")
    before = prepared.ssh(ENVIRONMENT)
    try:
        play = prepared.play("playbooks/prepare.yml")
    finally:
        link.unlink()
        link.symlink_to(sound)
    assert (play.returncode, play.failed) == (2, 1), play.output
    assert "another file than the listed one" in play.output
    assert package in play.output
    assert prepared.ssh(ENVIRONMENT) == before


def test_without_wheels_the_index_of_the_hosts_pip_is_asked(prepared: Machine, index: Index) -> None:
    prepared.ssh("rm -rf /opt/flyd")
    play = prepared.play("playbooks/prepare.yml")
    assert play.returncode == 0, play.output
    packages = prepared.ssh(PACKAGES)
    listed = dict(re.findall(r"^(\S+)==(\S+)", LIST.read_text(), re.MULTILINE))
    pairs = (line.split("==") for line in packages.splitlines())
    found = {re.sub("[-_.]+", "-", name).lower(): version for name, version in pairs}  # as PEP 503 compares them
    assert {name: found.get(name) for name in listed} == listed
    for package in ("boto3", "python-ulid"):
        assert [path for path in index.asked if path.startswith(f"/{package}/") and path.endswith(".whl")], package
    assert prepared.ssh("find /opt/flyd -name '*.whl' -o -path '*/venv-*/cache'") == ""


def test_a_second_run_changes_nothing_and_sends_no_request(prepared: Machine, index: Index) -> None:
    del index.asked[:]
    again = prepared.play("playbooks/prepare.yml")
    assert (again.returncode, again.changed, index.asked) == (0, 0, []), again.output


def test_a_module_runs_with_what_was_installed(
    prepared: Machine, index: Index, upload: Callable[[str, bytes], None]
) -> None:
    upload(KEY, images.docker_archive([tar.tar(tar.file(b"hello", b"by an index\n"))]))
    prepared.module("flyd_fetch", key=KEY, state="absent")
    fetched = prepared.module("flyd_fetch", key=KEY)
    assert fetched["changed"] is True, fetched
    assert prepared.module("flyd_fetch", key=KEY, state="absent")["changed"] is True
