"""The main job: from an archive in S3 to a snapshot that runs redis, and what holds afterwards."""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e.conftest import REDIS_KEY
from tests.e2e.machine import ROOT, Machine, Play, lab
from tests.e2e.oracle import tree_by_gnu_tar

pytestmark = pytest.mark.timeout(1800)


def test_activation_ends_with_the_device_and_redis_answers_from_it(activation: Play) -> None:
    assert activation.device.startswith("/dev/mapper/snap-")
    assert "PONG" in activation.output


def test_a_second_run_changes_nothing_and_writes_nothing(prepared: Machine, activation: Play) -> None:
    fingerprint = (
        "sha256sum /var/lib/flyd/flyd.db /var/lib/flyd/log/*; stat -c %y /var/lib/flyd/flyd.db; dmsetup status pool"
    )
    before = prepared.ssh(fingerprint)
    again = prepared.play("playbooks/activate.yml", key=REDIS_KEY)
    assert (again.returncode, again.changed, again.device) == (0, 0, activation.device), again.output
    assert prepared.ssh(fingerprint) == before


def test_a_second_run_sends_no_message_fetches_no_body_and_opens_nothing_for_writing(
    prepared: Machine, activation: Play
) -> None:
    """What the kernel was asked for, by strace around every module of the play."""
    calls_seen = "execve,openat,ioctl,rename,unlink,pwrite64,write,ftruncate,fsync,fdatasync,sendto"
    program = f"""#!/bin/sh
exec strace -f --seccomp-bpf -y -s 80 -o "|cat >> /root/strace" -e trace={calls_seen} python3 "$@"
"""
    prepared.ssh("cat > /root/traced && chmod +x /root/traced && rm -f /root/strace", stdin=program.encode())
    again = prepared.play("playbooks/activate.yml", key=REDIS_KEY, ansible_python_interpreter="/root/traced")
    assert (again.returncode, again.changed, again.device) == (0, 0, activation.device), again.output
    # The whole is long: Python reads hundreds of files.
    told = prepared.ssh("grep -e /var/lib/flyd -e dmsetup -e DM_ -e HTTP/1 /root/strace; rm /root/strace /root/traced")
    calls = told.splitlines()
    assert [call for call in calls if "HEAD /" in call], "it is seen how S3 is asked"
    assert not [call for call in calls if re.search(r'"GET /.*HTTP/1', call)], "no body"
    asked = set(re.findall(r"\bDM_(?!\w+_FLAG\b)[A-Z_]+", told))
    assert "DM_TABLE_STATUS" in asked, "it is seen how device-mapper is asked"
    assert asked <= {"DM_VERSION", "DM_TABLE_STATUS", "DM_DEV_STATUS", "DM_LIST_VERSIONS", "DM_GET_TARGET_VERSION"}
    ours = [call for call in calls if "/var/lib/flyd" in call]
    assert [call for call in ours if "flyd.db" in call], "it is seen how the store is opened"
    writing = re.compile(
        r"\b(pwrite64|write|ftruncate|fsync|fdatasync)\(\d+</var/lib/flyd|(rename|unlink)\(|flyd.db-journal.* = \d"
    )
    assert [call for call in ours if writing.search(call)] == []


def test_a_pattern_in_one_snapshot_is_in_no_other(prepared: Machine, activation: Play) -> None:
    def first_bytes(device: str) -> str:
        # The block group descriptors leave room behind the boot sector: the first 1024 bytes of ext4 are unused.
        return prepared.ssh(f"head -c 1024 {device} | sha256sum")

    second = prepared.module("flyd_snapshot", key=REDIS_KEY, name="second")
    assert second["changed"] is True
    clean = first_bytes(second["device"])
    prepared.ssh(f"yes pattern | head -c 1024 | dd of={activation.device} conv=fsync status=none")
    assert first_bytes(activation.device) != clean
    assert first_bytes(second["device"]) == clean
    third = prepared.module("flyd_snapshot", key=REDIS_KEY, name="third")
    assert first_bytes(third["device"]) == clean


def test_the_tree_is_what_gnu_tar_makes_of_the_layers(
    prepared: Machine, activation: Play, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected = tree_by_gnu_tar(lab("image", "redis").strip(), tmp_path_factory.mktemp("oracle"))
    snapshot = prepared.module("flyd_snapshot", key=REDIS_KEY, name="tree", read_only=True)
    prepared.put(ROOT / "tests/tools/tree.py", "/root/tree.py")
    found = prepared.ssh(
        f"mkdir -p /mnt/tree && mount -o ro,noload,nodev,nosuid {snapshot['device']} /mnt/tree"
        " && python3 /root/tree.py /mnt/tree --exact; umount /mnt/tree"
    )
    expected_rows = {line.split("\t")[0]: line for line in expected.splitlines()}
    found_rows = {line.split("\t")[0]: line for line in found.splitlines()}
    differing = [
        f"{expected_rows.get(path)}\n{found_rows.get(path)}"
        for path in expected_rows | found_rows
        if expected_rows.get(path) != found_rows.get(path)
    ]
    assert len(found_rows) > 5000
    assert not differing, "\n".join(differing[:20])


def test_a_snapshot_begins_with_no_work_left_by_mkfs(prepared: Machine, activation: Play) -> None:
    snapshot = prepared.module("flyd_snapshot", key=REDIS_KEY, name="tree", read_only=True)
    groups = [
        line for line in prepared.ssh(f"dumpe2fs {snapshot['device']}").splitlines() if re.match(r"Group \d", line)
    ]
    assert groups
    assert all("ITABLE_ZEROED" in group for group in groups)
    assert "lost+found" not in prepared.ssh(f"debugfs -R 'ls -p /' {snapshot['device']}")


def test_the_schema_keeps_the_two_tables_that_others_read(prepared: Machine, activation: Play) -> None:
    columns = prepared.ssh(
        'sqlite3 -readonly /var/lib/flyd/flyd.db \'SELECT name FROM pragma_table_info("images"); SELECT name FROM pragma_table_info("_busy")\''
    )
    names = columns.split()
    assert names[:8] == [
        "id",
        "object_key",
        "sha256",
        "state",
        "pool_device",
        "snap_device",
        "created_at",
        "updated_at",
    ]
    assert "name" in names
    row = prepared.ssh(
        "sqlite3 -readonly /var/lib/flyd/flyd.db 'SELECT object_key, state, snap_device FROM images'"
    ).strip()
    assert row == f"{REDIS_KEY}|activated|{activation.device}"


def test_the_log_has_every_transition_and_no_credential(prepared: Machine, activation: Play) -> None:
    text = prepared.ssh("cat /var/lib/flyd/log/flyd*.jsonl")
    ended = {
        line["transition"]: line
        for line in map(json.loads, text.splitlines())
        if line["event"] == "end" and line["outcome"] == "ok"
    }
    assert {"pool", "fetch", "unpack", "snapshot"} <= set(ended)
    for name, line in ended.items():
        assert len(line["run_id"]) == 26, name
        assert line["attempts"] >= 1, name
        assert line["seconds"] > 0, name
    assert ended["pool"]["data_size"] > 0
    assert ended["snapshot"]["size"] > 0
    assert ended["fetch"]["size"] > 100 << 20
    assert ended["unpack"]["bytes"] > 100 << 20
    for secret in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert prepared.environment[secret] not in text


def test_info_reports_the_image_and_no_drift(prepared: Machine, activation: Play) -> None:
    report = prepared.module("flyd_info")
    assert [(image["key"], image["state"]) for image in report["images"]] == [(REDIS_KEY, "activated")]
    assert report["drift"] == []
    assert report["operations"] == []
    assert activation.device in [snapshot["device"] for snapshot in report["snapshots"]]
