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
  - Warns on a host that lacks the udev rule of the role C(flyd.lite.prepare), or has not applied it to the pool.
requirements:
  - python-ulid (only when something is made; the role C(flyd.lite.prepare) installs it)
options:
  name:
    description:
      - The name of the pool and of its device-mapper device.
      - When left out, it is O(pool), else the pool that holds the image of O(key), and V(pool) when there is none.
    type: str
  pool:
    description:
      - The same as O(name), by the name that the other modules have for it, so that one C(pool) in C(module_defaults) of
        C(group/flyd.lite.flyd) is meant for all of them.
      - O(name) counts when both are given, with a warning when they differ.
    type: str
  state:
    description:
      - V(present) makes the pool, or brings it back.
      - V(absent) removes the pool with its loop devices and files. It refuses while there are images in it, and while a device is in use
        that is mapped from it; nothing is removed then.
      - V(repaired) mends a pool whose metadata the kernel or C(thin_check) refuses, and changes nothing in one that is sound.
        The metadata is copied first; C(thin_repair) writes new metadata, which is checked before it takes the place of the old;
        then C(e2fsck -fn) checks the bases. A base or snapshot that could not be saved is forgotten, and made again by the next
        run. Nothing in the pool may be in use. It is done only when it is asked for.
      - V(recovered) makes a lost database again from the copy that lies with the pool, and brings back all pools, snapshots and instances. A
        database that is there is left as it is; one that is damaged is to be moved away first. A pool that does not lie in O(state_dir) is named
        with its files or devices. What runs have done that were killed before they could write the copy is not known afterwards.
      - With V(absent) and V(repaired), files and devices that are not those of the pool are refused, and options that have no effect are
        named in a warning.
    type: str
    choices: [present, absent, repaired, recovered]
    default: present
  key:
    description:
      - The key of an image that is about to be put into the pool. When that image lies in another pool, nothing is made, and the error
        names the pool that holds it.
      - Refused with another O(state) than V(present).
    type: str
  force:
    description:
      - With O(state=absent), remove the images along with the pool, and thin ids in it that others have made. Refused with another state.
      - A pool that a device of others is mapped from is never removed.
    type: bool
    default: false
  data_file:
    description:
      - The file that holds the pool's data. Made when missing, below O(state_dir) when left out.
      - Not below C(/home), C(/root) or C(/run/user), nor C(/usr), C(/boot) or C(/etc), where C(flyd-restore.service) cannot use it.
    type: path
  metadata_file:
    description:
      - The file that holds the pool's metadata. Made when missing, below O(state_dir) when left out.
      - Not below C(/home), C(/root) or C(/run/user), nor C(/usr), C(/boot) or C(/etc), where C(flyd-restore.service) cannot use it.
    type: path
  data_device:
    description:
      - A block device for the pool's data, instead of a file. Which disk it is is recorded, where the kernel shows it - over another one
        the pool does not come up.
      - The first MiB of a new pool is given to no guest, for there the host looks for partition tables and file systems when it boots. Where
        O(data_size) is left out or a share, the last MiB is not used either.
    type: path
  metadata_device:
    description:
      - A block device for the pool's metadata, instead of a file. A new pool wants its first 4 KiB to be zero.
    type: path
  data_size:
    description:
      - The size of the data, such as V(20G), or a share such as V(80%) of O(data_device), or of the file system that holds the data file.
      - A new pool gets 2G when this is left out, and all of O(data_device) when it is on a device. A pool that exists keeps its size.
      - A pool that exists grows while it is in use when this is larger than what it has. It never shrinks - a smaller size is refused.
    type: str
  metadata_size:
    description:
      - The size of the metadata. When left out, 48 bytes for each block of data and 128 KiB for each of up to a thousand snapshots (one
        for 16 blocks of data), and at least 16 MiB.
      - A new pool gets all of O(metadata_device) when this is left out. A device that has less than the above is refused then.
      - It grows as O(data_size) does, and along with it when left out.
      - With O(state=repaired), the size of the metadata that is written. For a pool that is sound it is a warning.
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
      - It can be changed while the pool is in use. When left out, a pool that exists keeps what it has, and a new one gets V(true).
    type: bool
  min_free_percent:
    description:
      - The share of the pool's data and of its metadata that must stay free, in percent. Below it nothing new is made.
      - When left out, a pool that exists keeps what it has, and a new one gets V(10).
    type: int
  max_size:
    description:
      - How far the data of the pool may grow automatically, as a size such as V(200G), or a share such as V(80%) of O(data_device), or of the
        file system that holds the data file. V(none) for a pool that grows only when O(data_size) or O(metadata_size) asks for it.
      - It grows when it has as few blocks free as O(low_water_mark), or less free than O(min_free_percent) - before a run makes something
        in it, and on the host, by C(flyd-grow.service) of the role C(flyd.lite.prepare), while guests write. For users of LVM,
        C(thin_pool_autoextend_threshold) is 100 minus O(min_free_percent).
      - The metadata grows automatically, too, when a quarter of it is free, or 4 MiB are. On devices, both grow as far as the devices go.
      - O(data_size) and O(metadata_size) are then the least that the pool has.
      - When left out, a pool that exists keeps what it has, and a new one gets V(none).
    type: str
  grow_by:
    description:
      - The step in which it grows, as a size or as a share of what the pool has - C(thin_pool_autoextend_percent) of LVM. It is larger where
        a step does not suffice, and smaller at the end of what there is.
      - When left out, a pool that exists keeps what it has, and a new one gets V(20%).
    type: str
  grow_reserve:
    description:
      - What stays free of the file system that holds the pool's files when it grows automatically, as a size or as a share of that file system.
        Blocks of the files that were discarded count as taken.
      - When left out, a pool that exists keeps what it has, and a new one gets V(10%).
    type: str
  adopt:
    description:
      - Take over the files or devices of a thin pool that was made by hand and holds no volume. Its metadata is formatted again.
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

- name: Let a pool grow automatically
  flyd.lite.flyd_pool:
    data_size: 20G
    max_size: 200G

- name: Repair a pool whose metadata is damaged
  flyd.lite.flyd_pool:
    state: repaired
  register: repaired

- name: Make a lost database again
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
  description: Where the data lives, and how full it is. None in check mode for a pool that is not up.
  returned: O(state=present)
  type: dict
  contains:
    path:
      description: The file or device.
      type: str
    size:
      description: How much there is, in bytes.
      type: int
    used:
      description: How much is in use, in bytes.
      type: int
metadata:
  description: Where the metadata lives, and how full it is. None in check mode for a pool that is not up.
  returned: O(state=present)
  type: dict
  contains:
    path:
      description: The file or device.
      type: str
    size:
      description: How much there is, in bytes.
      type: int
    used:
      description: How much is in use, in bytes.
      type: int
block_size:
  description: The size of a block, in bytes.
  returned: O(state=present)
  type: int
low_water_mark:
  description: How many free blocks are so few that the kernel raises an event.
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
  description: How far the pool may grow automatically, as O(max_size) takes it.
  returned: O(state=present)
  type: str
  sample: 200G
grow_by:
  description: The step in which it does, as O(grow_by) takes it.
  returned: O(state=present)
  type: str
  sample: 20%
grow_reserve:
  description: What it leaves free of the host's file system, as O(grow_reserve) takes it.
  returned: O(state=present)
  type: str
  sample: 10%
transaction_id:
  description: The transaction id in the pool's metadata, which ties the pool to the database. None in check mode for a pool that is not up.
  returned: O(state=present)
  type: int
status:
  description: The mode that the kernel reports, V(rw) when all is well. None in check mode for a pool that is not up.
  returned: O(state=present)
  type: str
  choices: [rw, ro, out_of_data_space, fail, error]
  sample: rw
restored:
  description: The devices of the snapshots that were not mapped, as after a reboot, and are now. In check mode, those that would be.
  returned: O(state=present), O(state=repaired), O(state=recovered)
  type: list
  elements: str
source:
  description: The file or device that the database was made again from. None when there was one.
  returned: O(state=recovered)
  type: str
recovered:
  description: How much the database that was made again knows. None when there was one.
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
  description: The devices of volumes that the copy has, and the pool no longer.
  returned: O(state=recovered)
  type: list
  elements: str
removed:
  description:
    - What was removed, or would be.
    - Of a run that failed, what was removed before that, or has been recorded as going and is finished by the next run.
      C(changed) is true then.
  returned: O(state=absent); on failure, when something was removed
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
    - 1, plus one for each retry after a transient error, of the whole transition or (in M(flyd.lite.flyd_fetch)) of a request. 0 when there was
      nothing to do.
  returned: always
  type: int
waited_seconds:
  description: How long the run has waited between attempts.
  returned: success
  type: float
run_id:
  description: The ULID of this run, which the lines that it has written to C(log/flyd.jsonl) below O(state_dir) have too.
  returned: always
  type: str
run_seconds:
  description: How long the run took, on the host.
  returned: always
  type: float
settled:
  description:
    - What was recovered of interrupted runs, or of an earlier attempt of this one, and in check mode what would be. That is a change, but for
      the kind V(not_recovered).
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
          database no longer has either, and the next transition makes it again.
        - V(link_restored), the name of an instance that did not point at what the database has.
        - V(not_recovered), what is left for a later run, as its pool is in trouble or its device in use.
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
    - That the pool has grown by its policy (O(max_size)) in this run, or would in check mode. That is a change.
  returned: when the pool has grown automatically
  type: list
  elements: dict
  contains:
    pool:
      description: The pool.
      type: str
    data_size:
      description: The size of its data then, in bytes.
      type: int
    metadata_size:
      description: The size of its metadata then, in bytes.
      type: int
    why:
      description: How little was free, for people.
      type: str
actions:
  description: What was done to the host and asked of it, in order.
  returned: always
  type: list
  elements: dict
  contains:
    action:
      description: What was done, or asked.
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
      description: The paths of the files or devices that it was done to. Empty where it concerns none.
      type: str
    count:
      description: How often it was done in a row.
      type: int
    text:
      description: The command line; for a request to the kernel without a program, that of dmsetup for the same.
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
