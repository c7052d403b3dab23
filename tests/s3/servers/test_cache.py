# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache of docs/guides/fleet-at-scale.md, nginx in front of a real S3 server: each part is asked for once, and nothing in it can go stale.

The configuration is the guide's, with other paths and ports. FLYD_NGINX=required makes a missing nginx an error, as `make test-cache` does.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("ansible.module_utils.testing", reason="ansible-core is not installed")

from module_utils._host.processes.death_signal import die_with_parent
from tests.faults import kinds
from tests.faults.proxy import FaultProxy
from tests.s3.conftest import Stored
from tests.s3.module import ROOT, Module
from tests.s3.modules.test_flyd_fetch import PART_BYTES, Store, asked

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="modules refuse to run as another user than root"),
    pytest.mark.skipif(
        NGINX is None and os.environ.get("FLYD_NGINX") != "required", reason="nginx is not installed: make test-cache"
    ),
]
GUIDE = ROOT / "docs/guides/fleet-at-scale.md"
PARTS = 6


def configuration(directory: Path, origin: str, port: int) -> str:
    """The guide's, for a server of its own."""
    [block] = re.findall(r"^    proxy_cache_path .*\n(?:^ {4}.*\n|^\n)+", GUIDE.read_text(), re.MULTILINE)
    text = textwrap.dedent(block)
    for there, here in (
        ("/var/cache/nginx/flyd", str(directory / "cache")),
        ("http://s3.example.org:9000", origin),
        ("listen 8080", f"listen 127.0.0.1:{port}"),
    ):
        assert there in text
        text = text.replace(there, here)
    return f"""
        daemon off; user root; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log;
        events {{}}
        http {{
            access_log {directory}/access.log;
            client_body_temp_path {directory}/body; proxy_temp_path {directory}/temp;
            fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
            {text}
        }}
    """


@contextlib.contextmanager
def running(directory: Path, origin: str) -> Iterator[str]:
    """The URL of a cache in front of ``origin``."""
    assert NGINX, "nginx is not installed"
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    (directory / "nginx.conf").write_text(configuration(directory, origin, port))
    argv = [NGINX, "-p", str(directory), "-c", str(directory / "nginx.conf")]
    server = subprocess.Popen(argv, preexec_fn=die_with_parent(), process_group=0)
    try:
        until = time.monotonic() + 20
        while True:
            assert server.poll() is None, (directory / "error.log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert time.monotonic() < until
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where nginx has its files."""
    made = tmp_path / "nginx"
    made.mkdir()
    return made


@pytest.fixture
def cache(directory: Path, proxy: FaultProxy) -> Iterator[str]:
    """The URL of the cache."""
    with running(directory, proxy.url) as url:
        yield url


@pytest.fixture
def hosts(module: Module, cache: str, tmp_path: Path) -> list[Module]:
    """Three hosts of a rack."""
    options = {**module.options, "endpoint_url": cache, "read_timeout": 20.0}
    return [replace(module, state=tmp_path / f"state-{number}", options=options) for number in range(3)]


@pytest.fixture
def stored(store: Store) -> Stored:
    """An object of several parts."""
    return store((PARTS - 1) * PART_BYTES + 123)


def test_the_second_host_has_every_part_from_the_cache_and_asks_the_server_whether_it_is_current(
    hosts: list[Module], proxy: FaultProxy, stored: Stored
) -> None:
    first = hosts[0].run(key=stored.key.value)
    assert (first["changed"], first["sha256"], asked(proxy)) == (True, stored.sha256, ["HEAD"] + PARTS * ["GET"]), first
    proxy.clear()
    second = hosts[1].run(key=stored.key.value)
    assert (second["received_bytes"], second["sha256"], asked(proxy)) == (len(stored.content), stored.sha256, ["HEAD"])


def test_hosts_that_come_at_once_make_it_ask_once(hosts: list[Module], proxy: FaultProxy, stored: Stored) -> None:
    proxy.plan(kinds.before(lambda: time.sleep(0.8)), times=PARTS)  # so all of them come meanwhile
    with contextlib.ExitStack() as stack:
        running_hosts = [stack.enter_context(host.running(key=stored.key.value)) for host in hosts]
        results = [Module.result(process) for process in running_hosts]
    assert [one.get("sha256") for one in results] == [stored.sha256] * len(hosts), results
    assert asked(proxy).count("GET") == PARTS


def test_a_replaced_object_is_seen_at_once(hosts: list[Module], stored: Stored) -> None:
    assert hosts[0].run(key=stored.key.value)["sha256"] == stored.sha256
    stored.replace(stored.content[::-1])
    for host in hosts[:2]:
        assert host.run(key=stored.key.value)["sha256"] == stored.sha256


def test_what_the_cache_has_damaged_is_refused(hosts: list[Module], directory: Path, stored: Stored) -> None:
    assert hosts[0].run(key=stored.key.value)["sha256"] == stored.sha256
    middle = stored.content[PART_BYTES + 100 : PART_BYTES + 164]
    [damaged] = [path for path in (directory / "cache").rglob("*") if path.is_file() and middle in path.read_bytes()]
    damaged.write_bytes(damaged.read_bytes().replace(middle, bytes(len(middle))))
    refused = hosts[1].run(key=stored.key.value, checksum=f"sha256:{stored.sha256}", retries=0)
    assert (refused["failed"], hosts[1].archives()) == (True, []), refused


def test_a_refusal_is_not_kept(hosts: list[Module], stored: Stored) -> None:
    """Who may read is the server's to say, each time: of a host that may not, nothing is left for the others."""
    refused = hosts[0].run(key=stored.key.value, secret_key="not-the-secret-of-this-key")
    assert refused["failed"]
    assert hosts[1].run(key=stored.key.value)["sha256"] == stored.sha256
    again = hosts[2].run(key=stored.key.value, secret_key="not-the-secret-of-this-key")
    assert (again["failed"], hosts[2].archives()) == (True, []), "HEAD is not answered from the cache"
