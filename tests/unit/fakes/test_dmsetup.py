"""The stand-in says what the real program says: a transcript of dmsetup 1.02.185 on Linux 6.1, line by line."""

from __future__ import annotations

import re
import subprocess

import pytest

from module_utils._thin.pool.backing import make_backing_file
from tests.unit.fakes.host import FakeHost
from tests.unit.support import loops

pytestmark = pytest.mark.slow

# METADATA and DATA stand for the loop devices of a 4 MiB and a 64 MiB file; a line without words succeeds silently.
TRANSCRIPT = """
$ dmsetup target-version nonesuch
device-mapper: target-version ioctl on nonesuch  failed: Invalid argument
$ dmsetup remove nonesuch
device-mapper: remove ioctl on nonesuch  failed: No such device or address
$ dmsetup suspend nonesuch
device-mapper: suspend ioctl on nonesuch  failed: No such device or address
$ dmsetup resume nonesuch
device-mapper: resume ioctl on nonesuch  failed: No such device or address
$ dmsetup status nonesuch
Device does not exist.
$ dmsetup table nonesuch
device-mapper: table ioctl on nonesuch  failed: No such device or address
$ dmsetup message nonesuch 0 'create_thin 1'
device-mapper: message ioctl on nonesuch  failed: No such device or address
$ dmsetup load nonesuch --table '0 8 zero'
device-mapper: reload ioctl on nonesuch  failed: No such device or address
$ dmsetup create bad --uuid FLYD-bad --table '0 131072 thin-pool /dev/nonesuch DATA 128 100'
device-mapper: reload ioctl on bad (253:0) failed: No such device
$ dmsetup create bad --uuid FLYD-bad --table '0 131072 nonesuch'
device-mapper: reload ioctl on bad (253:0) failed: Invalid argument
$ dmsetup create pool --uuid FLYD-x-pool --table '0 131072 thin-pool METADATA DATA 128 100 1 error_if_no_space'
$ dmsetup create pool --uuid FLYD-y-pool --table '0 131072 error'
device-mapper: create ioctl on pool FLYD-y-pool failed: Device or resource busy
$ dmsetup create pool2 --uuid FLYD-x-pool --table '0 131072 error'
device-mapper: create ioctl on pool2 FLYD-x-pool failed: Device or resource busy
$ dmsetup create pool2 --uuid FLYD-y-pool --table '0 131072 thin-pool METADATA DATA 128 100'
device-mapper: reload ioctl on pool2 (253:1) failed: Device or resource busy
$ dmsetup status --noflush pool
0 131072 thin-pool 0 111/1024 0/1024 - rw discard_passdown error_if_no_space - 256
$ dmsetup table pool
0 131072 thin-pool 7:0 7:1 128 100 1 error_if_no_space
$ dmsetup message pool 0 'create_thin 1'
$ dmsetup message pool 0 'create_thin 1'
device-mapper: message ioctl on pool  failed: File exists
$ dmsetup message pool 0 'create_thin 16777216'
device-mapper: message ioctl on pool  failed: Invalid argument
$ dmsetup message pool 0 'create_thin 16777215'
$ dmsetup message pool 0 'delete 16777215'
$ dmsetup message pool 0 'create_snap 2 99'
device-mapper: message ioctl on pool  failed: No data available
$ dmsetup message pool 0 'create_snap 2 1'
$ dmsetup message pool 0 'create_snap 2 1'
device-mapper: message ioctl on pool  failed: File exists
$ dmsetup message pool 0 'delete 99'
device-mapper: message ioctl on pool  failed: No data available
$ dmsetup message pool 0 'set_transaction_id 5 6'
device-mapper: message ioctl on pool  failed: Invalid argument
$ dmsetup message pool 0 'set_transaction_id 0 1'
$ dmsetup message pool 0 nonsense
device-mapper: message ioctl on pool  failed: Invalid argument
$ dmsetup create v99 --uuid FLYD-x-99 --table '0 2048 thin /dev/mapper/pool 99'
device-mapper: reload ioctl on v99 (253:1) failed: No data available
$ dmsetup create v1 --uuid FLYD-x-1 --table '0 2048 thin 253:0 1'
$ dmsetup create v1b --uuid FLYD-x-1b --table '0 2048 thin 253:0 1'
$ dmsetup remove v1b
$ dmsetup status v1
0 2048 thin 0 -
$ dmsetup table v1
0 2048 thin 253:0 1
$ dmsetup message v1 0 hello
device-mapper: message ioctl on v1  failed: Invalid argument
$ dmsetup message pool 0 'delete 1'
device-mapper: message ioctl on pool  failed: Device or resource busy
$ dmsetup remove pool
device-mapper: remove ioctl on pool  failed: Device or resource busy
$ dmsetup create --notable half --uuid FLYD-x-half
$ dmsetup info --columns --noheadings --separator '|' --options uuid,tables_loaded half
FLYD-x-half|None
$ dmsetup remove half
$ dmsetup suspend v1
$ dmsetup suspend v1
$ dmsetup message pool 0 'create_snap 3 1'
$ dmsetup resume v1
$ dmsetup resume v1
$ dmsetup remove v1
$ dmsetup remove pool
"""


def test_the_stand_in_repeats_the_transcript(fake_host: FakeHost) -> None:
    devices = {}
    for name, size in (("METADATA", 4 << 20), ("DATA", 64 << 20)):
        path = str(fake_host.root / "files" / name)
        make_backing_file(fake_host.runner, path, size)
        devices[name] = loops.attach(fake_host.runner, path, sysfs=fake_host.sysfs).path
    said = []
    for command in re.findall(r"^\$ (.*)$", TRANSCRIPT, re.MULTILINE):
        said.append(f"$ {command}")
        said += _words(fake_host, command.replace("METADATA", devices["METADATA"]).replace("DATA", devices["DATA"]))
    assert "\n".join(said) == TRANSCRIPT.strip()


def _words(host: FakeHost, command: str) -> list[str]:
    argv = ["/bin/sh", "-c", f"{host.root}/bin/{command}"]
    done = subprocess.run(argv, capture_output=True, text=True)
    words = (done.stdout + done.stderr).splitlines()
    if done.returncode:
        assert words.pop() == "Command failed."
    return [word.strip() for word in words]
