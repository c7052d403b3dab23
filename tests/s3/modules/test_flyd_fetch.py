# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_fetch itself, against a real S3 server: what it asks, what it tells, and what it leaves on the host."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("ansible.module_utils.testing", reason="ansible-core is not installed")
pytest.importorskip("ulid", reason="python-ulid is not installed")

from tests.faults import kinds
from tests.faults.proxy import FaultProxy
from tests.s3.conftest import Stored
from tests.s3.module import Module, descendants
from tests.s3.server import BUCKET, PUBLIC_BUCKET, SECRET_KEY

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

Store = Callable[..., Stored]
PART_BYTES = 64 << 10
TOKEN = "flyd-test-session-token-that-nobody-may-print"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="modules refuse to run as another user than root")


@pytest.fixture
def stored(store: Store) -> Stored:
    return store(5 * PART_BYTES + 123)


def asked(proxy: FaultProxy) -> list[str]:
    """What S3 was asked since the proxy was cleared: HEAD, GET or LIST."""
    return ["LIST" if "list-type=2" in one.request.target else one.request.method for one in proxy.seen]


def put_family(store: Store, admin: S3Client, prefix: str, count: int) -> list[bytes]:
    contents = [store(PART_BYTES + number).content for number in range(1, count + 1)]
    for number, content in enumerate(contents, 1):
        admin.put_object(Bucket=BUCKET, Key=f"{prefix}{number}.tar", Body=content)
    return contents


# Idempotence by asking


def test_a_second_run_asks_once_and_writes_nothing(module: Module, proxy: FaultProxy, stored: Stored) -> None:
    first = module.run(key=stored.key.value)
    assert (first["changed"], first["sha256"], first["trust"]) == (True, stored.sha256, "first_use")
    assert (first["received_bytes"], first["new_generation"]) == (len(stored.content), False)
    assert asked(proxy) == ["HEAD"] + 6 * ["GET"]
    proxy.clear()
    before = module.files()
    second = module.run(key=stored.key.value)
    assert (second["changed"], second["image_id"], asked(proxy)) == (False, first["image_id"], ["HEAD"])
    assert module.files() == before


def test_a_pinned_archive_that_is_here_is_not_asked_for_at_all(
    module: Module, proxy: FaultProxy, stored: Stored
) -> None:
    pinned = f"sha256:{stored.sha256}"
    assert module.run(key=stored.key.value, checksum=pinned)["trust"] == "pinned"
    proxy.clear()
    before = module.files()
    again = module.run(key=stored.key.value, checksum=pinned)
    assert (again["changed"], again["trust"], asked(proxy)) == (False, "pinned", [])
    assert module.files() == before


def test_a_family_that_is_here_is_asked_for_by_one_list(
    module: Module, proxy: FaultProxy, store: Store, admin: S3Client
) -> None:
    contents = put_family(store, admin, "families/listed/", 12)
    proxy.clear()
    first = module.run(key="families/listed/")
    assert [one["key"] for one in first["objects"]] == [f"families/listed/{n}.tar" for n in range(1, 13)]
    assert module.archives() == sorted(hashlib.sha256(content).hexdigest() for content in contents)
    assert (asked(proxy).count("LIST"), asked(proxy).count("HEAD")) == (1, 12)
    assert first["received_bytes"] == sum(map(len, contents))
    proxy.clear()
    before = module.files()
    second = module.run(key="families/listed/")
    assert (second["changed"], second["sha256"], asked(proxy)) == (False, first["sha256"], ["LIST"])
    assert module.files() == before
    assert module.run(key="families/listed/", checksum=f"sha256:{first['sha256']}")["changed"] is False
    assert asked(proxy) == ["LIST"]


def test_check_mode_reports_of_a_changed_object_without_a_byte_of_it(
    module: Module, proxy: FaultProxy, stored: Stored
) -> None:
    old = module.run(key=stored.key.value)
    stored.replace(stored.content[::-1])
    proxy.clear()
    before = module.files()
    told = module.run(key=stored.key.value, check=True)
    assert (told["changed"], told["new_generation"], asked(proxy)) == (True, True, ["HEAD"])
    assert old["image_id"] in told["diff"]["after"]["retired"]
    assert module.files() == before
    done = module.run(key=stored.key.value)
    assert (done["changed"], done["new_generation"], done["sha256"]) == (True, True, stored.sha256)
    assert done["image_id"] != old["image_id"]


def test_a_pinned_checksum_that_no_longer_fits_is_untrusted_and_changes_nothing(
    module: Module, proxy: FaultProxy, stored: Stored
) -> None:
    pinned = f"sha256:{stored.sha256}"
    (module.state / "archives").mkdir(parents=True, mode=0o700)
    module.state.chmod(0o700)
    stored.replace(stored.content[::-1])
    failed = module.run(key=stored.key.value, checksum=pinned)
    assert (failed["failed"], failed["error_kind"], failed["retryable"]) == (True, "untrusted", False)
    assert pinned in failed["msg"]
    assert f"sha256:{stored.sha256}" in failed["msg"]
    assert (module.archives(), module.parts()) == ([], [])
    assert module.run(key=stored.key.value)["changed"] is True


def test_the_same_key_of_another_bucket_is_another_object(
    module: Module, proxy: FaultProxy, stored: Stored, admin: S3Client
) -> None:
    first = module.run(key=stored.key.value)
    admin.put_object(Bucket=PUBLIC_BUCKET, Key=stored.key.value, Body=stored.content)
    proxy.clear()
    other = module.run(key=stored.key.value, bucket=PUBLIC_BUCKET)
    assert (other["changed"], other["etag"]) == (True, first["etag"])
    assert "GET" in asked(proxy), "that its bytes are the same only its bytes can tell"
    assert module.run(key=stored.key.value, bucket=PUBLIC_BUCKET)["changed"] is False


def test_the_version_of_the_object_is_reported(module: Module, versioned: str, admin: S3Client) -> None:
    version = admin.put_object(Bucket=versioned, Key="one.tar", Body=b"one")["VersionId"]
    assert module.run(bucket=versioned, key="one.tar")["version_id"] == version
    other = admin.put_object(Bucket=versioned, Key="one.tar", Body=b"one")["VersionId"]
    again = module.run(bucket=versioned, key="one.tar")
    assert (again["version_id"], again["new_generation"]) == (other, False), "the same bytes are the same generation"


# Progress


def test_the_progress_stands_in_a_file_while_the_download_runs(module: Module, proxy: FaultProxy, store: Store) -> None:
    stored = store(40 * PART_BYTES)
    proxy.plan(kinds.slowed(4 * PART_BYTES), times=-1)
    with module.running(key=stored.key.value) as process:
        seen = _progress(module, at_least=PART_BYTES)
        assert process.poll() is None
    assert (seen["key"], seen["total_bytes"]) == (stored.key.value, len(stored.content))
    assert PART_BYTES <= seen["received_bytes"] <= len(stored.content)
    proxy.clear()
    assert module.run(key=stored.key.value)["resumed_bytes"] > 0
    assert module.parts() == []


def _progress(module: Module, at_least: int) -> dict[str, Any]:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        for path in module.state.glob("spool/*.progress"):
            with contextlib.suppress(FileNotFoundError):
                told: dict[str, Any] = json.loads(path.read_text())
                if told["received_bytes"] >= at_least:
                    return told
        time.sleep(0.01)
    raise AssertionError("no progress was told")


# The host's disk


@pytest.fixture
def small_disk(module: Module) -> Iterator[Path]:
    """The state directory on a file system of 80 MiB."""
    module.state.mkdir(mode=0o700)
    argv = ["mount", "-t", "tmpfs", "-o", "size=80m,mode=0700", "tmpfs", str(module.state)]
    if subprocess.run(argv, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    yield module.state
    subprocess.run(["umount", str(module.state)], check=True)


@pytest.mark.parametrize("left_kib", [0, 4, 8, 12, 16, 24, 32, 64])
def test_f22_a_disk_that_fills_up_is_reported_and_the_store_still_opens(
    module: Module, proxy: FaultProxy, stored: Stored, small_disk: Path, left_kib: int
) -> None:
    def fill() -> None:
        free = os.statvfs(small_disk)
        with contextlib.suppress(OSError), (small_disk / "hog").open("wb") as hog:
            os.posix_fallocate(hog.fileno(), 0, max(1, free.f_bavail * free.f_frsize - left_kib * 1024))

    proxy.plan(kinds.before(fill))
    result = module.run(key=stored.key.value)
    assert result.get("error_kind", "no_space") == "no_space", result
    with contextlib.closing(sqlite3.connect(f"file:{small_disk}/flyd.db?mode=ro", uri=True)) as store:
        assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    (small_disk / "hog").unlink()
    again = module.run(key=stored.key.value)
    assert (again.get("failed", False), again["sha256"]) == (False, stored.sha256)
    assert (module.archives(), module.parts()) == ([stored.sha256], [])
    assert module.run(key=stored.key.value)["changed"] is False


def test_f22_a_disk_without_room_is_reported_before_a_byte_is_asked_for(
    module: Module, proxy: FaultProxy, stored: Stored, small_disk: Path
) -> None:
    with (small_disk / "hog").open("wb") as hog:
        os.posix_fallocate(hog.fileno(), 0, 30 << 20)
    failed = module.run(key=stored.key.value)
    assert (failed["error_kind"], failed["retryable"], asked(proxy)) == ("no_space", False, ["HEAD"])
    assert module.parts() == []


def test_what_an_interrupted_download_has_reserved_is_not_asked_for_again(
    module: Module, proxy: FaultProxy, store: Store, small_disk: Path
) -> None:
    stored = store(15 << 20)
    proxy.plan(kinds.gone, skip=3, times=-1)
    assert module.run(key=stored.key.value, part_size="1M", connections=1)["retryable"] is True
    proxy.clear()
    with (small_disk / "hog").open("wb") as hog:
        os.posix_fallocate(hog.fileno(), 0, 500 << 10)
    assert module.run(key=stored.key.value)["resumed_bytes"] == 3 << 20


# The secret key


@pytest.fixture
def debug_log(module: Module, tmp_path: Path) -> Path:
    """Where everything is written that the module's libraries can log."""
    site, log = tmp_path / "debugging", tmp_path / "debug.log"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        f"import logging\nlogging.basicConfig(level=logging.DEBUG, filename={str(log)!r})\n"
    )
    module.environment["PYTHONPATH"] = str(site)
    return log


@pytest.mark.parametrize("is_refused", [False, True], ids=["a success", "a server that repeats what it was sent"])
def test_no_secret_is_in_the_result_the_log_the_state_or_any_process(
    module: Module, proxy: FaultProxy, stored: Stored, debug_log: Path, is_refused: bool
) -> None:
    if is_refused:
        proxy.plan(kinds.echoing_headers, times=-1)
        proxy.plan(kinds.echoing_headers, method="HEAD", times=-1)
    else:
        proxy.plan(kinds.slowed(2 * PART_BYTES), times=-1)
    module.options["session_token"] = TOKEN if is_refused else None
    with module.running(key=stored.key.value) as process:
        seen = ""
        while process.poll() is None:
            seen += "".join(_processes_below(process.pid))
            time.sleep(0.02)
        said, complained = process.communicate()
    assert ('"failed": true' in said) is is_refused
    assert "drive.py" in seen
    left = "".join(path.read_bytes().decode("latin-1") for path in module.state.rglob("*") if path.is_file())
    for secret in (SECRET_KEY, TOKEN):
        assert secret not in seen
        assert secret not in said + complained
        assert secret not in left
    assert not re.search("Signature=[0-9a-f]", said + complained + left)
    logged = debug_log.read_text(errors="replace")
    assert "AWS4-HMAC-SHA256" in logged, "botocore's debug log is on, and requests were signed"
    assert SECRET_KEY not in logged


def _processes_below(pid: int) -> Iterator[str]:
    """Command line and environment of a process and of all that it has started."""
    for one in (pid, *descendants(pid)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for name in ("cmdline", "environ"):
                yield Path(f"/proc/{one}/{name}").read_bytes().decode("latin-1")


# Credentials that no option names


def test_the_role_of_the_instance_is_asked_for_by_every_run_and_shown_by_none(
    module: Module, proxy: FaultProxy, stored: Stored, metadata: str, tmp_path: Path
) -> None:
    for name in ("access_key", "secret_key"):
        del module.options[name]
    nowhere = str(tmp_path / "none")
    module.environment = {
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata,
        "AWS_EC2_METADATA_DISABLED": "false",
        "AWS_SHARED_CREDENTIALS_FILE": nowhere,
        "AWS_CONFIG_FILE": nowhere,
    }
    first = module.run(key=stored.key.value)
    assert (first.get("failed", False), first["sha256"]) == (False, stored.sha256)
    proxy.clear()
    again = module.run(key=stored.key.value)
    assert (again["changed"], asked(proxy)) == (False, ["HEAD"])
    assert SECRET_KEY not in json.dumps([first, again])
    module.environment["AWS_EC2_METADATA_DISABLED"] = "true"
    failed = module.run(key=stored.key.value)
    assert (failed["error_kind"], failed["details"]["code"]) == ("bad_input", "NoCredentials")


# A checksum file


def test_a_checksum_file_is_read_in_every_run_and_only_when_it_is_named(
    module: Module, proxy: FaultProxy, stored: Stored, admin: S3Client
) -> None:
    beside = f"{stored.key}.sha256"
    admin.put_object(Bucket=BUCKET, Key=beside, Body=f"{stored.sha256}  {stored.key}\n".encode())
    refused = module.run(key=stored.key.value, checksum_policy="require")
    assert (refused["error_kind"], beside in refused["hint"]) == ("untrusted", True)
    assert not [one for one in proxy.seen if one.request.path.endswith(beside)]
    named: dict[str, Any] = {"key": stored.key.value, "checksum_policy": "require", "checksum": beside}
    assert module.run(**named)["trust"] == "sidecar"
    proxy.clear()
    before = module.files()
    assert module.run(**named)["changed"] is False
    assert [one.request.method for one in proxy.seen] == ["HEAD", "GET"], "one more for the checksum file"
    assert module.files() == before
    stored.replace(stored.content[::-1])
    assert module.run(**named)["error_kind"] == "untrusted", "the file still vouches for the old object"
    admin.delete_object(Bucket=BUCKET, Key=beside)
    assert module.run(**named)["error_kind"] == "bad_input", "without it nothing is taken at first use"
