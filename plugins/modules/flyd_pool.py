#!/usr/bin/python
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_pool: create the thin pool, or verify that it is active and healthy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flyd_pool
short_description: Make sure that a device-mapper thin pool exists and is healthy
version_added: 0.1.0
description:
  - Creates the thin pool that holds the images, activates it after a reboot, or verifies that it is active and healthy.
  - Activating a pool also maps the recorded snapshots in it, of all images and names.
  - Without devices, the pool is in two files of O(state_dir) on loop devices, which are identified by the file's
    device and inode, never by number.
  - Metadata that holds a pool is never overwritten, and a foreign pool is never touched.
  - Before an inactive pool is activated, C(thin_check) checks all of its metadata.
  - Warns on a host that lacks the udev rule of the role C(flyd.lite.prepare), or has not applied it to the pool.
requirements:
  - python-ulid (only when something is created; the role C(flyd.lite.prepare) installs it)
options:
  name:
    description:
      - The name of the pool and of its device-mapper device.
      - When left out, it is O(pool), else the pool that holds the image of O(key), and V(pool) when there is none.
    type: str
  pool:
    description:
      - The same as O(name), under the name of the option in the other modules, so that one C(pool) in C(module_defaults) of
        C(group/flyd.lite.flyd) applies to all of them.
      - O(name) takes precedence when both are given, with a warning when they differ.
    type: str
  state:
    description:
      - V(present) creates the pool, or activates it.
      - V(absent) removes the pool with its loop devices and files. It refuses while there are images in it, and while a device is in use
        that is mapped from it; nothing is removed then.
      - V(repaired) repairs a pool whose metadata the kernel or C(thin_check) refuses, and changes nothing in a healthy one.
        The metadata is copied first; C(thin_repair) writes new metadata, which is checked before it replaces the old;
        then C(e2fsck -fn) checks the bases. A base or snapshot that could not be saved is removed from the database, and created again by
        the next run. Nothing in the pool may be in use.
      - V(recovered) rebuilds a lost database from the copy that is stored with the pool, and activates all pools, snapshots and instances. An
        existing database is left as it is; move a damaged one away first. For a pool outside of O(state_dir), give its
        files or devices. Changes of runs that were killed before they updated the copy are lost.
      - With V(absent) and V(repaired), files and devices that are not those of the pool are refused, and a warning names options that have
        no effect.
    type: str
    choices: [present, absent, repaired, recovered]
    default: present
  key:
    description:
      - The key of an image that is to be put into the pool. When that image is in another pool, nothing is created, and the error
        names the pool that holds it.
      - Refused with another O(state) than V(present).
    type: str
  force:
    description:
      - With O(state=absent), remove the images along with the pool, and foreign thin volumes in it. Refused with another state. Hidden bases
        (O(flyd.lite.flyd_unpack#module:reuse)) go without it.
      - A pool that a foreign device is mapped from is never removed.
    type: bool
    default: false
  data_file:
    description:
      - The file that holds the pool's data. Created when missing, below O(state_dir) when left out.
      - Not below C(/home), C(/root) or C(/run/user), nor C(/usr), C(/boot) or C(/etc), where C(flyd-restore.service) cannot use it.
    type: path
  metadata_file:
    description:
      - The file that holds the pool's metadata. Created when missing, below O(state_dir) when left out.
      - Not below C(/home), C(/root) or C(/run/user), nor C(/usr), C(/boot) or C(/etc), where C(flyd-restore.service) cannot use it.
    type: path
  data_device:
    description:
      - A block device for the pool's data, instead of a file. The identity of the disk is recorded, if the kernel shows it, and the pool is
        not activated on another one.
      - The first MiB of a new pool is never allocated to a guest, because the host looks there for partition tables and file systems at boot.
        When O(data_size) is left out or a share, the last MiB is not used either.
    type: path
  metadata_device:
    description:
      - A block device for the pool's metadata, instead of a file. For a new pool, its first 4 KiB must be zero.
    type: path
  data_size:
    description:
      - The size of the data, such as V(20G), or a share such as V(80%) of O(data_device), or of the file system that holds the data file.
      - A new pool gets 2G when this is left out, and all of O(data_device) when it is on a device. A pool that exists keeps its size.
      - An existing pool grows to a larger size while it is in use. It cannot shrink - a smaller size is refused.
    type: str
  metadata_size:
    description:
      - The size of the metadata. When left out, 48 bytes for each block of data and 128 KiB for each of up to a thousand snapshots (one
        for 16 blocks of data), and at least 16 MiB.
      - A new pool on devices gets all of O(metadata_device) when this is left out. A device that has less than the above is then refused.
      - It grows like O(data_size), and along with it when left out.
      - With O(state=repaired), the size of the new metadata. For a healthy pool, the module warns.
    type: str
  block_size:
    description:
      - The size of the pool's blocks, a multiple of 64 KiB. Computed from O(data_size) when left out. It is fixed once the pool exists.
    type: str
  low_water_mark:
    description:
      - The number of free blocks at which the kernel raises an event. Computed for a new pool when left out.
      - It can be changed while the pool is in use.
    type: int
  error_if_no_space:
    description:
      - Whether a write to a full pool fails at once, instead of hanging for a minute first.
      - It can be changed while the pool is in use. When left out, an existing pool keeps its setting, and a new one gets V(true).
    type: bool
  min_free_percent:
    description:
      - The share of the pool's data and of its metadata that must stay free, in percent. Below it nothing new is created.
      - When left out, an existing pool keeps its setting, and a new one gets V(10).
    type: int
  max_size:
    description:
      - The maximum size for automatic growth of the data, such as V(200G), or a share such as V(80%) of O(data_device), or of the
        file system that holds the data file. With V(none), the pool grows only by O(data_size) or O(metadata_size).
      - The pool grows when its free blocks fall to O(low_water_mark), or its free space below O(min_free_percent) - before a run creates
        something in it, and while guests write, by C(flyd-grow.service) of the role C(flyd.lite.prepare). In terms of LVM,
        C(thin_pool_autoextend_threshold) is 100 minus O(min_free_percent).
      - The metadata grows automatically, too, when a quarter of it, at most 4 MiB, is free. On devices, both can grow to the end of the devices.
      - O(data_size) and O(metadata_size) are then minimum sizes.
      - When left out, an existing pool keeps its setting, and a new one gets V(none).
    type: str
  grow_by:
    description:
      - The step of automatic growth, as a size or as a share of the pool's present size - C(thin_pool_autoextend_percent) of LVM. The step is
        larger if it would not suffice, and smaller near the maximum.
      - When left out, an existing pool keeps its setting, and a new one gets V(20%).
    type: str
  grow_reserve:
    description:
      - What automatic growth leaves free on the file system that holds the pool's files, as a size or as a share of that file system.
        Discarded blocks of the files count as used.
      - When left out, an existing pool keeps its setting, and a new one gets V(10%).
    type: str
  adopt:
    description:
      - Take over the files or devices of a thin pool that was created manually and holds no volume. Its metadata is formatted again.
      - A pool with volumes is refused, and so is one that is active or named by the database of O(state_dir). Remove its device first (C(dmsetup remove)).
      - For a pool that exists in the database, this has no effect.
    type: bool
    default: false
extends_documentation_fragment:
  - flyd.lite.common
  - flyd.lite.attributes
seealso:
  - module: flyd.lite.flyd_fetch
  - module: flyd.lite.flyd_unpack
  - module: flyd.lite.flyd_snapshot
"""

EXAMPLES = r"""
- name: Create a pool in files of the state directory
  flyd.lite.flyd_pool:
    data_size: 20G

- name: Create a pool on block devices
  flyd.lite.flyd_pool:
    data_device: /dev/disk/by-id/nvme-DATA
    metadata_device: /dev/disk/by-id/nvme-OTHER-part1
    data_size: 900G

- name: Grow a pool that is nearly full
  flyd.lite.flyd_pool:
    data_size: 40G

- name: Let a pool grow automatically
  flyd.lite.flyd_pool:
    data_size: 20G
    max_size: 200G

- name: Repair a pool whose metadata is damaged
  flyd.lite.flyd_pool:
    state: repaired
  register: repaired

- name: Rebuild a lost database
  flyd.lite.flyd_pool:
    state: recovered
"""

RETURN = r"""
device:
  description: The pool's device.
  returned: O(state=present)
  type: str
  sample: /dev/mapper/pool
data_size:
  description: The size of the pool's data, in bytes; in check mode the size that it would have.
  returned: O(state=present)
  type: int
  sample: 2147483648
pool_id:
  description: The ULID of the pool, which is part of the device-mapper UUID of everything in it. None in check mode for a new pool.
  returned: O(state=present)
  type: str
data:
  description: Where the data is, and how full it is. None in check mode for a pool that is not active.
  returned: O(state=present)
  type: dict
  contains:
    path:
      description: The file or device.
      type: str
    size:
      description: The size, in bytes.
      type: int
    used:
      description: How much is in use, in bytes.
      type: int
metadata:
  description: Where the metadata is, and how full it is. None in check mode for a pool that is not active.
  returned: O(state=present)
  type: dict
  contains:
    path:
      description: The file or device.
      type: str
    size:
      description: The size, in bytes.
      type: int
    used:
      description: How much is in use, in bytes.
      type: int
block_size:
  description: The size of a block, in bytes.
  returned: O(state=present)
  type: int
low_water_mark:
  description: The number of free blocks at which the kernel raises an event.
  returned: O(state=present)
  type: int
error_if_no_space:
  description: Whether a write to a full pool fails at once.
  returned: O(state=present)
  type: bool
min_free_percent:
  description: The share of the pool that must stay free, in percent.
  returned: O(state=present)
  type: int
max_size:
  description: The maximum size for automatic growth, in the form of O(max_size).
  returned: O(state=present)
  type: str
  sample: 200G
grow_by:
  description: The step of automatic growth, in the form of O(grow_by).
  returned: O(state=present)
  type: str
  sample: 20%
grow_reserve:
  description: What automatic growth leaves free on the host's file system, in the form of O(grow_reserve).
  returned: O(state=present)
  type: str
  sample: 10%
transaction_id:
  description: The transaction id in the pool's metadata, which ties the pool to the database. None in check mode for a pool that is not active.
  returned: O(state=present)
  type: int
status:
  description: The mode that the kernel reports, V(rw) for a healthy pool. None in check mode for a pool that is not active.
  returned: O(state=present)
  type: str
  choices: [rw, ro, out_of_data_space, fail, error]
  sample: rw
restored:
  description: The devices of the snapshots that this run has mapped, as after a reboot. In check mode, those that it would map.
  returned: O(state=present), O(state=repaired), O(state=recovered)
  type: list
  elements: str
source:
  description: The file or device with the copy that the database was rebuilt from. None when the database existed.
  returned: O(state=recovered)
  type: str
recovered:
  description: The numbers of records in the rebuilt database. None when the database existed.
  returned: O(state=recovered)
  type: dict
  contains:
    pools:
      description: Pools.
      type: int
    generations:
      description: Generations of images.
      type: int
    snapshots:
      description: Snapshots.
      type: int
    instances:
      description: Instances.
      type: int
left_out:
  description: The devices of volumes that are in the copy but no longer in the pool.
  returned: O(state=recovered)
  type: list
  elements: str
removed:
  description:
    - What was removed, or would be.
    - After a failure, what was removed before it, and what was recorded for removal and is removed by the next run.
      C(changed) is then true.
  returned: O(state=absent); on failure, when something was removed
  type: list
  elements: str
freed_bytes:
  description: The bytes that the files of the pool used on the host's file system.
  returned: O(state=absent)
  type: int
trouble:
  description: What was wrong with the pool. Empty for a healthy pool.
  returned: O(state=repaired)
  type: str
metadata_copy:
  description: The path of a copy of the metadata from before the repair. It is kept until the pool is removed.
  returned: O(state=repaired)
  type: str
bases:
  description: The bases of images whose file systems were checked and are clean. Hidden bases are checked as well.
  returned: O(state=repaired)
  type: list
  elements: str
lost:
  description: What the repair could not save. These records are in RV(settled), too.
  returned: O(state=repaired)
  type: list
  elements: dict
  contains:
    kind:
      description: As in RV(settled[].kind).
      type: str
      choices: [volume_missing, base_damaged]
    subject:
      description: The path of the device.
      type: str
    text:
      description: The same as a sentence, for people.
      type: str
attempts:
  description:
    - The number of attempts, including the first, of the whole transition or (in M(flyd.lite.flyd_fetch)) of a request. 0 when there was
      nothing to do.
  returned: always
  type: int
waited_seconds:
  description: How long the run waited between attempts, in seconds.
  returned: success
  type: float
run_id:
  description: The ULID of this run. It is also the C(run_id) of the lines that the run has written to C(log/flyd.jsonl) below O(state_dir).
  returned: always
  type: str
run_seconds:
  description: How long the run took on the host, in seconds.
  returned: always
  type: float
settled:
  description:
    - What was recovered of interrupted runs, or of an earlier attempt of this run; in check mode, what would be. Every kind but
      V(not_recovered) counts as a change.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description:
        - V(operation_finished) or V(operation_undone), an interrupted transition; V(growth_recovered), an interrupted growth of a pool, which is
          finished or undone.
        - V(device_resumed), a device that was left suspended; V(file_removed), a part of a download that belongs to no run.
        - V(volume_missing), a volume that its pool does not have; V(base_damaged), a base whose file system a repair found damaged. The
          database no longer has either, and the next transition creates it again.
        - V(link_restored), the link of an instance that did not match the database.
        - V(not_recovered), what is left for a later run because its pool is damaged or its device is in use.
      type: str
      choices:
        - operation_finished
        - operation_undone
        - growth_recovered
        - device_resumed
        - file_removed
        - volume_missing
        - base_damaged
        - link_restored
        - not_recovered
    subject:
      description: What it is about, a key, the path of a file or device, or C(pool NAME).
      type: str
    text:
      description: The same as a sentence, for people.
      type: str
grown:
  description:
    - How the pool has grown automatically (O(max_size)) in this run, or would in check mode. This counts as a change.
  returned: when the pool has grown automatically
  type: list
  elements: dict
  contains:
    pool:
      description: The pool.
      type: str
    data_size:
      description: The new size of its data, in bytes.
      type: int
    metadata_size:
      description: The new size of its metadata, in bytes.
      type: int
    why:
      description: The reason, as a sentence for people.
      type: str
actions:
  description: The changes and queries of the host, in order.
  returned: always
  type: list
  elements: dict
  contains:
    action:
      description: The operation.
      type: str
      choices:
        - create_device
        - remove_device
        - suspend_device
        - resume_device
        - load_table
        - clear_table
        - send_message
        - read_status
        - read_table
        - read_device
        - create_node
        - find_target
        - attach_loop
        - detach_loop
        - resize_loop
        - list_loops
        - allocate_file
        - probe_device
        - discard_device
        - create_filesystem
        - check_filesystem
        - grow_filesystem
        - check_metadata
        - repair_metadata
        - dump_metadata
        - switch_guest
        - start_timer
        - stop_timer
    subject:
      description: The paths of the files or devices that it was done to. Empty when there are none.
      type: str
    count:
      description: How many times in a row it was done.
      type: int
    text:
      description: The command line; for an ioctl, the equivalent command line of dmsetup.
      type: str
error_kind:
  description: The category of a failure. docs/errors.md of the collection has causes and remedies.
  returned: failure
  type: str
  choices:
    - bad_input
    - untrusted
    - out_of_order
    - busy
    - no_space
    - transient
    - command_failed
    - foreign_device
    - damaged_pool
    - corrupt_store
    - unhealthy
    - unsupported
    - internal
retryable:
  description: Whether the same run can succeed when it is repeated.
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
  description: Facts about a failure for programs. Which keys there are depends on the failure.
  returned: failure
  type: dict
diff:
  description:
    - The pool's sizes and devices, C(before) and C(after).
    - In check mode, C(<new ULID>) stands for a ULID that only the real run creates.
  returned: in diff mode, when something changes
  type: dict
"""

import ansible_collections.flyd.lite.plugins.module_utils._engine  # noqa: F401  # pylint: disable=unused-import  # first: where the others come from
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.backup.recovered import Recovery
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.growth.policy import PolicyRequest
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.image.placement import (
    named_pool,
    pool_name_of,
    require_pool_on,
)
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.option_states import Counts, present_only
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.outcome import Outcome
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.params import DEFAULT_POOL, ModuleParams
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.pool.data_size import DataSize
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.pool.ensure import ensure_pool
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.pool.request import PoolRequest
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.run import Run
from ansible_collections.flyd.lite.plugins.module_utils._module import run
from ansible_collections.flyd.lite.plugins.module_utils._names import ShortName

ARGUMENTS = {
    "name": {"type": "str"},
    "pool": {"type": "str"},
    "key": {"type": "str", "no_log": False},
    "force": {"type": "bool", "default": False},
    "data_file": {"type": "path"},
    "metadata_file": {"type": "path"},
    "data_device": {"type": "path"},
    "metadata_device": {"type": "path"},
    "data_size": {"type": "str"},
    "metadata_size": {"type": "str"},
    "block_size": {"type": "str"},
    "low_water_mark": {"type": "int"},
    "error_if_no_space": {"type": "bool"},
    "min_free_percent": {"type": "int"},
    "max_size": {"type": "str"},
    "grow_by": {"type": "str"},
    "grow_reserve": {"type": "str"},
    "adopt": {"type": "bool", "default": False},
}


RECOVERY = Recovery()
COUNTS = {
    **present_only("data_size", "block_size", "low_water_mark", "error_if_no_space", "min_free_percent"),
    **present_only("max_size", "grow_by", "grow_reserve", "adopt"),
    "metadata_size": Counts(("present", "repaired")),
    "key": Counts(("present",), is_refused=True),
    "force": Counts(("absent",), is_refused=True),
}


def work(host: Run, given: ModuleParams) -> Outcome:
    """The options in the terms of the machine."""
    return ensure_pool(
        host,
        PoolRequest(
            name=ShortName(_named(host, given) or pool_name_of(host, given.text("key")) or DEFAULT_POOL),
            data=given.text("data_device") or given.text("data_file"),
            metadata=given.text("metadata_device") or given.text("metadata_file"),
            is_loop=not given.text("data_device"),
            data_size=DataSize.parse_optional(given.text("data_size")),
            metadata_bytes=given.size_bytes("metadata_size") or None,
            block_bytes=given.size_bytes("block_size") or None,
            low_water_blocks=given.optional_int("low_water_mark"),
            error_if_no_space=given.optional_flag("error_if_no_space"),
            min_free_percent=given.optional_int("min_free_percent"),
            policy=PolicyRequest.parse(given.text("max_size"), given.text("grow_by"), given.text("grow_reserve")),
            adopt=given.flag("adopt"),
            key=given.text("key"),
        ),
    )


def undo(host: Run, given: ModuleParams) -> Outcome:
    """Handle state=absent."""
    from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.pool.teardown import remove_pool

    return remove_pool(host, _checked_name(host, given), force=given.flag("force"))


def repair(host: Run, given: ModuleParams) -> Outcome:
    """Handle state=repaired."""
    from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.pool.repair import repair_pool

    return repair_pool(host, _checked_name(host, given), given.size_bytes("metadata_size"))


def recover(host: Run, given: ModuleParams) -> Outcome:
    """Handle state=recovered."""
    return RECOVERY.work(host, _named(host, given))


def _named(host: Run, given: ModuleParams) -> str:
    """The name of the pool as it was given; empty when it was not."""
    return named_pool(host, given.text("name"), given.text("pool"))


def _checked_name(host: Run, given: ModuleParams) -> ShortName:
    """The name of a pool that exists, if there is one of it, on the files or devices that are named."""
    name = ShortName(_named(host, given) or DEFAULT_POOL)
    data = given.text("data_device") or given.text("data_file")
    require_pool_on(host, name.value, data, given.text("metadata_device") or given.text("metadata_file"))
    return name


def main() -> None:
    """Entry point."""
    run(
        work,
        ARGUMENTS,
        absent=undo,
        others={"repaired": repair, "recovered": recover},
        openers={"recovered": RECOVERY.opened},
        counts=COUNTS,
        pool_options=("name", "pool"),
        mutually_exclusive=[("data_file", "data_device"), ("metadata_file", "metadata_device")],
        required_together=[("data_device", "metadata_device")],
    )


if __name__ == "__main__":
    main()
