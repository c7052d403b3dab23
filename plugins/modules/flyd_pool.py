#!/usr/bin/python
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_pool: make the thin pool, or find it there and healthy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flyd_pool
short_description: Make sure that a device-mapper thin pool exists and is healthy
version_added: 0.1.0
description:
  - Makes the thin pool in which images live, brings it back after a reboot, or finds it active and healthy.
  - The snapshots that were activated in it come back with it, of all images and names. One that was never activated, or was
    removed, does not.
  - Without devices, the pool lives in two files of O(state_dir) on loop devices, which are found again by the file's
    device and inode, never by number.
  - Metadata that holds a pool is never written over, and a pool of another owner is never touched.
  - A pool that is not active has its metadata read whole by C(thin_check) before it is brought up.
requirements:
  - python-ulid (only when something is made; the role C(flyd.lite.prepare) installs it)
options:
  name:
    description:
      - The name of the pool and of its device-mapper device.
    type: str
    default: pool
    aliases: [pool]
  state:
    description:
      - V(present) makes the pool, or brings it back.
      - V(absent) removes the pool with its loop devices and files. It refuses while there are images in it.
      - V(repaired) mends a pool whose metadata the kernel or C(thin_check) refuses, and changes nothing in one that is sound.
        The metadata is copied first; C(thin_repair) writes new metadata, which is checked before it takes the place of the old;
        then C(e2fsck -fn) checks the bases. A base or snapshot that could not be saved is forgotten, and made again by the next
        run. Nothing in the pool may be in use. It never happens by itself, and only O(name) and O(metadata_size) count for it.
    type: str
    choices: [present, absent, repaired]
    default: present
  force:
    description:
      - With O(state=absent), remove the images along with the pool, and thin ids in it that others have made.
      - A pool that a device of others is mapped from is never removed.
    type: bool
    default: false
  data_file:
    description:
      - The file that holds the pool's data. Made when missing, below O(state_dir) when left out.
    type: path
  metadata_file:
    description:
      - The file that holds the pool's metadata. Made when missing, below O(state_dir) when left out.
    type: path
  data_device:
    description:
      - A block device for the pool's data, instead of a file. Which disk it is is recorded, where the kernel tells - over another one
        the pool does not come up.
    type: path
  metadata_device:
    description:
      - A block device for the pool's metadata, instead of a file. A new pool wants its first 4 KiB to be zero.
    type: path
  data_size:
    description:
      - The size of the data, such as V(20G).
      - A pool that exists grows while it is in use when this is larger than what it has. It never shrinks - a smaller size is refused.
    type: str
    default: 2G
  metadata_size:
    description:
      - The size of the metadata. When left out, 48 bytes for each block of data, and at least 4 MiB.
      - It grows as O(data_size) does, and along with it when left out.
    type: str
  block_size:
    description:
      - The size of the pool's blocks, a multiple of 64 KiB. Computed from O(data_size) when left out. It is fixed once the pool exists.
    type: str
  low_water_mark:
    description:
      - How many free blocks are so few that the kernel raises an event. Computed for a new pool when left out.
      - It can be changed while the pool is in use.
    type: int
  error_if_no_space:
    description:
      - Whether a write to a full pool fails at once, instead of hanging for a minute first.
      - It can be changed while the pool is in use.
    type: bool
    default: true
  min_free_percent:
    description:
      - The share of the pool's data and of its metadata that must stay free. Below it nothing new is made.
    type: int
    default: 10
extends_documentation_fragment:
  - flyd.lite.common
  - flyd.lite.attributes
seealso:
  - module: flyd.lite.flyd_fetch
  - module: flyd.lite.flyd_unpack
  - module: flyd.lite.flyd_snapshot
"""

EXAMPLES = r"""
- name: A pool in files of the state directory
  flyd.lite.flyd_pool:
    data_size: 20G

- name: A pool on block devices
  flyd.lite.flyd_pool:
    data_device: /dev/disk/by-id/nvme-DATA
    metadata_device: /dev/disk/by-id/nvme-OTHER-part1
    data_size: 900G

- name: Let a pool grow that is nearly full
  flyd.lite.flyd_pool:
    data_size: 40G

- name: Mend a pool whose metadata is damaged
  flyd.lite.flyd_pool:
    state: repaired
  register: mended
"""

RETURN = r"""
device:
  description: The pool's device.
  returned: O(state=present)
  type: str
  sample: /dev/mapper/pool
pool_id:
  description: The ULID of the pool, which is part of the device-mapper UUID of everything in it.
  returned: O(state=present), except in check mode for a pool that does not exist
  type: str
data:
  description: Where the data lives (C(path)), and C(used_bytes) of C(total_bytes).
  returned: O(state=present), except in check mode for a pool that does not exist
  type: dict
metadata:
  description: Where the metadata lives (C(path)), and C(used_bytes) of C(total_bytes).
  returned: O(state=present), except in check mode for a pool that does not exist
  type: dict
block_size:
  description: The size of a block, in bytes.
  returned: O(state=present), except in check mode for a pool that does not exist
  type: int
transaction_id:
  description: The transaction id in the pool's metadata, which ties the pool to the database.
  returned: O(state=present), except in check mode for a pool that does not exist
  type: int
status:
  description: The mode that the kernel reports, V(rw) when all is well.
  returned: O(state=present), except in check mode for a pool that does not exist
  type: str
  sample: rw
restored:
  description: The devices of the snapshots that were not mapped, as after a reboot, and are now. In check mode, those that would be.
  returned: O(state=present), O(state=repaired)
  type: list
  elements: str
removed:
  description: What was removed, or would be.
  returned: O(state=absent)
  type: list
  elements: str
freed_bytes:
  description: What the files of the pool took on the host's disk, and gave back.
  returned: O(state=absent)
  type: int
trouble:
  description: What was wrong with the pool; empty when nothing was.
  returned: O(state=repaired)
  type: str
metadata_copy:
  description: Where the metadata lies as it was before the repair. It is kept until the pool is removed.
  returned: O(state=repaired)
  type: str
bases:
  description: The bases whose file systems were checked and are clean.
  returned: O(state=repaired)
  type: list
  elements: str
lost:
  description: What the repair could not save, one sentence each.
  returned: O(state=repaired)
  type: list
  elements: str
settled:
  description:
    - What was finished or undone of earlier runs that were cut off, one sentence each. That is a change.
    - What could not be, because its pool is in trouble or its device in use, is a sentence that begins with C(left).
  returned: always
  type: list
  elements: str
actions:
  description: The programs that were run, in order.
  returned: always
  type: list
  elements: str
error_kind:
  description:
    - Whose fault a failure is.
    - One of V(bad_input), V(untrusted), V(out_of_order), V(busy), V(no_space), V(transient), V(command_failed),
      V(corrupt_store) and V(unsupported).
  returned: failure
  type: str
retryable:
  description: Whether running the same again can help.
  returned: failure
  type: bool
hint:
  description: What to do about a failure.
  returned: failure
  type: str
doing:
  description: What was being done when it failed, the outermost first.
  returned: failure
  type: list
  elements: str
details:
  description: Small facts about a failure for programs. Which ones there are depends on the failure.
  returned: failure
  type: dict
diff:
  description:
    - The pool's sizes and devices, C(before) and C(after).
    - In check mode, a ULID that only the real run makes stands as C(<new ULID>).
  returned: in diff mode, when something changes
  type: dict
"""

from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.host import Host
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.outcome import Outcome
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.pool import ensure_pool
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.pool_asked import PoolOptions
from ansible_collections.flyd.lite.plugins.module_utils._module import Given, run
from ansible_collections.flyd.lite.plugins.module_utils._names import ShortName

ARGUMENTS = {
    "name": {"type": "str", "default": "pool", "aliases": ["pool"]},
    "force": {"type": "bool", "default": False},
    "data_file": {"type": "path"},
    "metadata_file": {"type": "path"},
    "data_device": {"type": "path"},
    "metadata_device": {"type": "path"},
    "data_size": {"type": "str", "default": "2G"},
    "metadata_size": {"type": "str"},
    "block_size": {"type": "str"},
    "low_water_mark": {"type": "int"},
    "error_if_no_space": {"type": "bool", "default": True},
    "min_free_percent": {"type": "int", "default": 10},
}


def work(host: Host, given: Given) -> Outcome:
    """The options in the terms of the machine."""
    return ensure_pool(
        host,
        PoolOptions(
            name=ShortName(given.text("name")),
            data=given.text("data_device") or given.text("data_file"),
            metadata=given.text("metadata_device") or given.text("metadata_file"),
            is_loop=not given.text("data_device"),
            data_bytes=given.size_bytes("data_size"),
            metadata_bytes=given.size_bytes("metadata_size") or None,
            block_bytes=given.size_bytes("block_size") or None,
            low_water_blocks=given.optional_int("low_water_mark"),
            error_if_no_space=given.flag("error_if_no_space"),
            min_free_percent=int(given.number("min_free_percent")),
        ),
    )


def undo(host: Host, given: Given) -> Outcome:
    """What absent means."""
    from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.teardown import remove_pool

    return remove_pool(host, ShortName(given.text("name")), force=given.flag("force"))


def mend(host: Host, given: Given) -> Outcome:
    """What repaired means."""
    from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.repair import repair_pool

    return repair_pool(host, ShortName(given.text("name")), given.size_bytes("metadata_size"))


def main() -> None:
    """Entry point."""
    run(
        work,
        ARGUMENTS,
        absent=undo,
        repaired=mend,
        mutually_exclusive=[("data_file", "data_device"), ("metadata_file", "metadata_device")],
        required_together=[("data_device", "metadata_device")],
    )


if __name__ == "__main__":
    main()
