"""The start of a data device of the operator's is given to no guest: no rule knows that device, and the host reads it at each boot."""

from __future__ import annotations

import re

import pytest

from tests.guests.host import ON_DEVICES, SETTLE, Host

pytestmark = pytest.mark.timeout(3600)

RESERVED_ID = "16777215"
RESERVED_BYTES = 1 << 20
DUMP = (
    f"dmsetup message {ON_DEVICES} 0 reserve_metadata_snap && thin_dump --metadata-snap METADATA;"
    f" dmsetup message {ON_DEVICES} 0 release_metadata_snap"
)
# One line of text at the start of each block, and nothing else.
HEAD = "head -c 1M DATA | tr -d '\\0'"


def blocks(dumped: str) -> tuple[int, dict[str, set[int]]]:
    """The size of a block in bytes, and the data blocks of each thin id; of the XML that thin_dump writes, an element a line."""
    found: dict[str, set[int]] = {}
    block_bytes = 0
    mine: set[int] = set()
    for element in re.findall(r"<[a-z].*>", dumped):
        values = dict(re.findall(r'(\w+)="(\d+)"', element))
        if element.startswith("<superblock"):
            block_bytes = int(values["data_block_size"]) * 512
        elif element.startswith("<device"):
            mine = found.setdefault(values["dev_id"], set())
        elif element.startswith("<single_mapping"):
            mine.add(int(values["data_block"]))
        elif element.startswith("<range_mapping"):
            mine |= set(range(int(values["data_begin"]), int(values["data_begin"]) + int(values["length"])))
    return block_bytes, found


def test_the_first_blocks_of_a_data_device_belong_to_no_volume_of_a_guest(host: Host) -> None:
    host.ssh("truncate -s 300M /root/data && truncate -s 64M /root/metadata")
    data, metadata = (host.ssh(f"losetup --find --show /root/{name}").strip() for name in ("data", "metadata"))
    snapshot = host.activate_on_devices(data, metadata)
    before = host.look()
    # To the last block, twice: over what the base has there, and over the snapshot's own.
    fill = f"yes guest | dd of={snapshot} bs=1M iflag=fullblock conv=fsync status=none 2> /dev/null; true"
    host.ssh(f"{fill}; {fill}")
    host.write("md-own", snapshot)
    host.ssh(f"udevadm trigger --action=change {data}; {SETTLE}")
    host.settle()
    assert host.look() == before
    assert host.ssh(f"blkid --probe {data}; true") == ""
    lines = host.ssh(HEAD.replace("DATA", data)).splitlines()
    block_bytes, of_volumes = blocks(host.ssh(DUMP.replace("METADATA", metadata)))
    count = -(-RESERVED_BYTES // block_bytes)
    assert of_volumes.pop(RESERVED_ID) == set(range(count))
    assert len(lines) == min(count, RESERVED_BYTES // block_bytes)
    assert {bool(re.match("flyd.lite: reserved", line)) for line in lines} == {True}
    assert len(of_volumes) == 2, "a base and its snapshot"
    assert min(set().union(*of_volumes.values())) >= count
    host.remove_from_devices()
    host.ssh(f"losetup --detach {data}; losetup --detach {metadata}; rm /root/data /root/metadata")
