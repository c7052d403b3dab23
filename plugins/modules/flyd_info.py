#!/usr/bin/python
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_info: what is on this host, and whether it is as recorded."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flyd_info
short_description: Report images, snapshots, pools and drift
version_added: 0.1.0
description:
  - Reports what the database records and what the kernel has. Changes nothing.
options:
  what:
    description:
      - What to report. V(generations) are the images in short.
    type: list
    elements: str
    choices: [images, generations, snapshots, pools, instances, operations, drift, host, history]
    default: [images, snapshots, pools, instances, operations, drift, host]
  pool:
    description:
      - Report only the pool of that name, and the images and snapshots in it. Images that are in no pool are left out, too.
      - V(operations) and V(drift) always cover the whole host.
      - When there is no such pool, the module warns.
    type: str
  key:
    description:
      - Report only the image of that key, its snapshots, and the operations on it. V(pools) and V(drift) are not limited by it.
      - When there is no such image, the module warns.
    type: str
  runs:
    description:
      - How many transitions V(history) reports.
    type: int
    default: 50
extends_documentation_fragment:
  - flyd.lite.common
  - flyd.lite.attributes.info
seealso:
  - module: flyd.lite.flyd_snapshot
"""

EXAMPLES = r"""
- name: Report everything
  flyd.lite.flyd_info:
  register: flyd

- name: List the generations of one image, to roll back to one of them or to remove it
  flyd.lite.flyd_info:
    what: [images]
    key: images/redis_latest.tar
  register: flyd

- name: Fail when the host and its database differ
  ansible.builtin.assert:
    that: flyd.drift | length == 0
    fail_msg: "{{ flyd.drift | map(attribute='text') | join('; ') }}"
"""

RETURN = r"""
images:
  description: Every generation of every key. For each key, the current one is first, if there is one; the retired ones follow, newest first.
  returned: when O(what) has V(images)
  type: list
  elements: dict
  contains:
    image_id:
      description: The ULID of this generation of the image.
      type: str
    key:
      description: The key of the object, or of the family.
      type: str
    current:
      description: Whether it is the current generation, which M(flyd.lite.flyd_unpack) and M(flyd.lite.flyd_snapshot) use unless they name another.
      type: bool
    archives:
      description: Which of its archives, or of the layers of a family, are on the host.
      type: list
      elements: str
    snapshots:
      description: The snapshots of this generation. More of each is in RV(snapshots).
      type: list
      elements: dict
      contains:
        name:
          description: The name of the activation.
          type: str
        device:
          description: The device.
          type: str
    state:
      description: How far the image has come, V(fetched), V(unpacked) or V(activated), or V(new) when it is to be fetched again.
      type: str
    sha256:
      description: The SHA-256 of the archive, or of the family.
      type: str
    size:
      description: The size of the archive, or of all objects of the family, in bytes.
      type: int
    bucket:
      description: The bucket that it was fetched from.
      type: str
    etag:
      description: The ETag of the object.
      type: str
    version_id:
      description: The version of the object, in a bucket that has versions.
      type: str
    trust:
      description: How the digest was confirmed.
      type: str
    vouched_by:
      description: The digest or the checksum file that confirmed it.
      type: str
    vouched_digest:
      description: The digest that was confirmed.
      type: str
    keep_archive:
      description: Whether the archive stays on disk now that the base is sealed.
      type: bool
    objects:
      description: The objects of a family, lowest layer first.
      type: list
      elements: dict
      contains:
        key:
          description: The key of the object.
          type: str
        sha256:
          description: The SHA-256 of the object.
          type: str
        size:
          description: The size of the object, in bytes.
          type: int
        etag:
          description: The ETag of the object.
          type: str
        version_id:
          description: The version of the object.
          type: str
        trust:
          description: How the digest of the object was confirmed.
          type: str
    platform:
      description: The platform of the image. None before it is unpacked, or when its configuration has none.
      type: str
    config:
      description: The image's runtime configuration. None before it is unpacked.
      type: dict
      contains:
        Env:
          description: The environment, each variable as C(NAME=VALUE).
          type: list
          elements: str
        Cmd:
          description: The command, or the default arguments of the entry point.
          type: list
          elements: str
        Entrypoint:
          description: The program to run, with arguments.
          type: list
          elements: str
        User:
          description: The user to run it as.
          type: str
        WorkingDir:
          description: The directory to run it in.
          type: str
        architecture:
          description: The architecture, as Go names it.
          type: str
        os:
          description: The operating system.
          type: str
        variant:
          description: The variant of the architecture.
          type: str
    summary:
      description: What was written when it was unpacked. Empty before.
      type: dict
      contains:
        layout:
          description: The kind of archive.
          type: str
        layers:
          description: How many layers were merged.
          type: int
        entries:
          description: How many entries the tree has.
          type: int
        bytes:
          description: How many bytes of file content the tree has.
          type: int
        logical_bytes:
          description: The same, holes included.
          type: int
        inodes:
          description: How many inodes the tree takes.
          type: int
        directories:
          description: How many directories the tree has.
          type: int
        hard_links:
          description: How many names are additional hard links to a file.
          type: int
        devices:
          description: How many device nodes were made.
          type: int
        skipped_devices:
          description: How many device nodes were not made.
          type: int
        whiteouts:
          description: How many whiteouts were applied.
          type: int
        left_out:
          description: How many members were skipped because they are metadata of aufs.
          type: int
        dropped_xattrs:
          description: How many extended attributes and ACLs could not be kept.
          type: int
        clamped_times:
          description: How many timestamps are outside of the range of ext4.
          type: int
        missing_isolation:
          description: The isolation that the host could not set up for the processes that handled the image.
          type: list
          elements: str
        origin:
          description: The base that its base was made of; null when it was made fresh.
          type: str
        origin_key:
          description: The key of the image whose base that was; null when there was none.
          type: str
        reused_bytes:
          description: How many of C(bytes) were in that base already.
          type: int
        written_bytes:
          description: How many of C(bytes) were written.
          type: int
        unread_layers:
          description: How many layers were not read, since that base has what they hold.
          type: int
        fresh_because:
          description: Why its base was not made of an earlier one, as in RV(flyd.lite.flyd_unpack#module:fresh_because); null when it was.
          type: str
        free_size:
          description: The free space beside the image, in bytes, that the size of its base was computed with; null when a size was given.
          type: int
        warnings:
          description: The warnings of the run that unpacked it.
          type: list
          elements: str
        seconds:
          description: How long each phase of the unpacking took, in seconds, by name.
          type: dict
    confirmed_at:
      description: When an instance was first confirmed with this generation, in UTC. Empty when none was.
      type: str
    made_with:
      description: The options of M(flyd.lite.flyd_unpack) that the base was made with. Empty when there is none.
      type: dict
      contains:
        platform:
          description: The requested platform.
          type: str
        image_name:
          description: The requested image of the archive.
          type: str
        device_nodes:
          description: What was done with device nodes.
          type: str
        limits:
          description: The limits, in bytes, seconds or numbers.
          type: dict
        inject:
          description: The files of the host that were put into the base, as in RV(flyd.lite.flyd_unpack#module:injected).
          type: list
          elements: dict
    base_device:
      description: The device of the base. It is not mapped once it is sealed. None when there is none.
      type: str
    base_own:
      description: How many bytes of the pool the base takes that no other base has. None when there is none, or its pool cannot be read.
      type: int
    base_shared:
      description: How many bytes of the pool the base has together with other bases, such as the one that it was made of, or a hidden one.
      type: int
    base_ulid:
      description: The ULID in the name of that device.
      type: str
    snap_device:
      description: The device of the snapshot named C(default), or of the newest when there is none of that name. None when there is no snapshot.
      type: str
    created_at:
      description: When this generation was recorded, in UTC.
      type: str
    updated_at:
      description: When its record was changed last, in UTC.
      type: str
generations:
  description: Every generation of every key in short, in the order of RV(images).
  returned: when O(what) has V(generations)
  type: list
  elements: dict
  contains:
    key:
      description: The key of the object, or of the family.
      type: str
    sha256:
      description: The SHA-256 of the archive, or of the family.
      type: str
    current:
      description: Whether it is the current generation.
      type: bool
    state:
      description: How far the image has come.
      type: str
    has_base:
      description: Whether it is unpacked, so that snapshots can be made of it.
      type: bool
    confirmed_at:
      description: When an instance was first confirmed with this generation, in UTC. Empty when none was.
      type: str
snapshots:
  description: Every snapshot.
  returned: when O(what) has V(snapshots)
  type: list
  elements: dict
  contains:
    ulid:
      description: The ULID in the name of the device.
      type: str
    image_id:
      description: The generation of the image that it is of.
      type: str
    key:
      description: The key of that image.
      type: str
    name:
      description: The name of the activation.
      type: str
    device:
      description: The device.
      type: str
    read_only:
      description: Whether the device refuses writes.
      type: bool
    mapped:
      description: Whether the device exists.
      type: bool
    in_use:
      description: Whether the device is open, such as mounted, held by a process, or below another device.
      type: bool
    used_at:
      description:
        - When it was last seen in use, in UTC; the present time when it is open. A use is seen by this module, when an instance changes, and
          once a day by flyd-backup.service. None when none was seen.
      type: str
    used:
      description: How many bytes of the pool it maps. None when its pool cannot be read.
      type: int
    exclusive:
      description: How many of these bytes neither another snapshot nor a base maps, so that its removal frees them.
      type: int
    uid:
      description: The owner that was set for the node. None when none was.
      type: int
    gid:
      description: The group that was set for the node. None when none was.
      type: int
    mode:
      description: The mode that was set for the node, such as V(0660). None when none was.
      type: str
    created_at:
      description: When it was made, in UTC.
      type: str
pools:
  description: Every pool.
  returned: when O(what) has V(pools)
  type: list
  elements: dict
  contains:
    name:
      description: The name of the pool.
      type: str
    pool_id:
      description: The ULID of the pool.
      type: str
    active:
      description: Whether its device exists.
      type: bool
    device:
      description: The device of the pool.
      type: str
    data:
      description: Where the data is, and how full it is.
      type: dict
      contains:
        path:
          description: The file or device.
          type: str
        size:
          description: The size of the data, in bytes.
          type: int
        used:
          description: How much is in use, in bytes. Only for an active pool.
          type: int
        free:
          description: How much is free beyond the reserve of O(flyd.lite.flyd_pool#module:min_free_percent), in bytes. Only for an active pool.
          type: int
    metadata:
      description: Where the metadata is, and how full it is.
      type: dict
      contains:
        path:
          description: The file or device.
          type: str
        size:
          description: The size of the metadata, in bytes.
          type: int
        used:
          description: How much is in use, in bytes. Only for an active pool.
          type: int
        free:
          description: How much is free beyond the reserve of O(flyd.lite.flyd_pool#module:min_free_percent), in bytes. Only for an active pool.
          type: int
    block_size:
      description: The size of a block, in bytes.
      type: int
    low_water_mark:
      description: The number of free blocks at which the kernel raises an event.
      type: int
    error_if_no_space:
      description: Whether a write to a full pool fails at once.
      type: bool
    min_free_percent:
      description: The share that must stay free, in percent.
      type: int
    max_size:
      description: The maximum size for automatic growth, in the form of O(flyd.lite.flyd_pool#module:max_size).
      type: str
    grow_by:
      description: The step of automatic growth.
      type: str
    grow_reserve:
      description: What automatic growth leaves free on the host's file system.
      type: str
    can_grow_to:
      description: The size that its data can grow to automatically, in bytes; its present size when it cannot grow. Only for an active pool.
      type: int
    free_below:
      description:
        - Free bytes of the file system that holds the pool's sparse files, which also limit what the pool can allocate. None for devices. Only
          for an active pool.
      type: int
    transaction_id:
      description: The transaction id that the metadata must have.
      type: int
    status:
      description:
        - The mode that the kernel reports. V(rw) for a healthy pool; V(unknown) when the pool cannot be queried, for a reason in RV(drift).
        - Only for an active pool, like the keys below.
      type: str
      choices: [rw, ro, out_of_data_space, fail, error, unknown]
    needs_check:
      description: Whether the kernel has set needs_check in the metadata.
      type: bool
    held_metadata:
      description: Whether a metadata snapshot is held.
      type: bool
    hidden_bases:
      description: How many hidden bases are in the pool, of which the bases of several images are made. See O(flyd.lite.flyd_unpack#module:reuse).
      type: int
    is_low:
      description: Whether the pool has less free than it should.
      type: bool
instances:
  description: Every instance.
  returned: when O(what) has V(instances)
  type: list
  elements: dict
  contains:
    name:
      description: The name of the instance.
      type: str
    key:
      description: The image that the name points at. None when its generation is gone.
      type: str
    image_id:
      description: The generation of the image.
      type: str
    sha256:
      description: The same as C(current).
      type: str
    platform:
      description: The platform of the image. None where it names none.
      type: str
    link:
      description: The public path of the instance.
      type: str
    device:
      description: The device of the snapshot. None when the snapshot is gone.
      type: str
    ulid:
      description: The ULID in the device's name. None when the snapshot is gone.
      type: str
    drive:
      description: A drive object as Firecracker's API takes it. None when the snapshot is gone.
      type: dict
    current:
      description: The SHA-256 of the generation that the name points at.
      type: str
    previous:
      description: The SHA-256 of the generation to go back to. None when there is none.
      type: str
    confirmed:
      description: Whether the generation in C(current) is confirmed.
      type: bool
    left:
      description: The SHA-256 of the generation that the instance has gone back from, until the next one is confirmed. None when it has not.
      type: str
    settings:
      description: The recorded options of M(flyd.lite.flyd_instance), C(switch), C(health) and those around them.
      type: dict
    updated_at:
      description: When the instance was changed last, in UTC.
      type: str
    in_place:
      description: Whether its device is mapped, and its public path points at it.
      type: bool
operations:
  description: The open operations of running and interrupted runs.
  returned: when O(what) has V(operations)
  type: list
  elements: dict
  contains:
    ulid:
      description: The ULID of the operation.
      type: str
    kind:
      description: What is being done, such as V(fetch) or V(remove).
      type: str
    subject:
      description: The key of the image, the name of the pool, or that of the hidden base.
      type: str
    volume_ulid:
      description: The ULID of the volume that is made or removed. Empty when there is none.
      type: str
    boot_id:
      description: The boot of the host in which it began.
      type: str
    pid:
      description: The process that does it.
      type: int
    started:
      description: When that process started, in clock ticks since boot.
      type: int
    begun_at:
      description: When it began, in UTC.
      type: str
    abandoned:
      description: Whether that process is gone. The next run recovers such an operation.
      type: bool
    progress:
      description: How far a download has come. None for other operations.
      type: dict
      contains:
        key:
          description: The key that is downloaded.
          type: str
        run_id:
          description: The ULID of the run that downloads it.
          type: str
        received_bytes:
          description: How many bytes were received.
          type: int
        total_bytes:
          description: How many bytes there are in all.
          type: int
        bytes_per_second:
          description: How many are received per second.
          type: int
drift:
  description:
    - Each difference between the database and the host, and what the host lacks to keep udev, LVM and mdadm from reading what guests write.
  returned: when O(what) has V(drift)
  type: list
  elements: dict
  contains:
    kind:
      description:
        - Of a pool, V(pool_inactive), its device does not exist; V(pool_unreadable), it cannot be read; V(pool_cannot_grow), it is short
          of space, and its O(flyd.lite.flyd_pool#module:max_size) or its host allows no further growth; V(transaction_differs), it is not the pool
          that the database belongs to; V(thin_id_unknown), it has a volume that the database does not know.
        - Of a volume, V(volume_missing), its pool does not have it; V(volume_unfinished), it is being made or removed;
          V(snapshot_unmapped), its device does not exist.
        - Of a device, V(table_differs), its table is not the recorded one; V(device_suspended); V(device_unknown), its UUID is one of
          flyd.lite and the database does not know it.
        - Of a file, V(archive_changed), an archive whose size is not the recorded one; V(archive_touched), one whose times or inode are not;
          V(file_orphaned), one that belongs to no run.
        - V(database_copy), a pool that has no copy of the database with it.
        - Of an instance, V(instance_link), its link does not match the database; V(instance_unconfirmed), it waits to be confirmed.
        - Of the host, V(udev_rule), V(lvm_filter) and V(mdadm_setting), which are missing or out of date; V(environment), the Python
          environment does not work; V(boot_program), the program for boots supports only an older schema.
      type: str
      choices:
        - pool_inactive
        - pool_unreadable
        - pool_cannot_grow
        - transaction_differs
        - volume_missing
        - volume_unfinished
        - thin_id_unknown
        - table_differs
        - snapshot_unmapped
        - device_suspended
        - device_unknown
        - archive_changed
        - archive_touched
        - file_orphaned
        - database_copy
        - instance_link
        - instance_unconfirmed
        - udev_rule
        - lvm_filter
        - mdadm_setting
        - environment
        - boot_program
    subject:
      description: What it is about, the path of a file or device, C(pool NAME), or the program or file that is concerned.
      type: str
    text:
      description: The same as a sentence, for people, with the remedy, if there is one.
      type: str
host:
  description: Versions on the host, and its free space.
  returned: when O(what) has V(host)
  type: dict
  contains:
    boot_id:
      description: The boot ID of the host, random(4).
      type: str
    kernel:
      description: The release of the kernel.
      type: str
    platform:
      description: The host's platform, in the form that images use.
      type: str
      sample: linux/amd64
    collection_version:
      description: The version of the collection that this module is of.
      type: str
    schema:
      description: The schema of the database that this release has.
      type: int
    boot_program_schema:
      description: The newest schema that the installed program for boots supports. None when it is not installed.
      type: int
    state_dir:
      description: O(state_dir) as C(path), with C(size) and C(free) of its file system in bytes, without the reserve for the database.
      type: dict
    archives:
      description: The SHA-256 of each archive that is on the host.
      type: list
      elements: str
history:
  description: The last transitions that ended, newest first, from the log.
  returned: when O(what) has V(history)
  type: list
  elements: dict
  contains:
    time:
      description: When it ended, in UTC.
      type: str
    run_id:
      description: The ULID of its run.
      type: str
    transition:
      description: Which transition, as docs/reference.md lists them.
      type: str
    key:
      description: The image. None when there is none.
      type: str
    pool:
      description: The pool. None where it is not named.
      type: str
    instance:
      description: The instance. None when there is none.
      type: str
    outcome:
      description: V(ok) or V(failed).
      type: str
    error_kind:
      description: The category of a failure. None without one.
      type: str
    error:
      description: The failure. None without one.
      type: str
    seconds:
      description: How long it took, in seconds.
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
  description: Always empty, as this module changes nothing. Other modules list here what they recovered of interrupted runs.
  returned: always
  type: list
  elements: dict
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
attempts:
  description: The number of attempts, including the first.
  returned: always
  type: int
waited_seconds:
  description: How long the run waited between attempts, in seconds.
  returned: success
  type: float
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
"""

import ansible_collections.flyd.lite.plugins.module_utils._engine  # noqa: F401  # pylint: disable=unused-import  # first: where the others come from
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.outcome import Outcome
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.params import ModuleParams
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.report.info import (
    DEFAULT_SUBJECTS,
    Only,
    Subject,
    inform,
)
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.run import Run
from ansible_collections.flyd.lite.plugins.module_utils._module import run

SUBJECTS = [subject.value for subject in Subject]
ARGUMENTS = {
    "what": {"type": "list", "elements": "str", "choices": SUBJECTS, "default": DEFAULT_SUBJECTS},
    "pool": {"type": "str"},
    "key": {"type": "str", "no_log": False},
    "runs": {"type": "int", "default": 50},
}


def work(host: Run, given: ModuleParams) -> Outcome:
    """The options in the terms of the machine."""
    what = frozenset(Subject(word) for word in given.words("what"))
    return inform(host, what, Only.of(given))


def main() -> None:
    """Entry point."""
    run(work, ARGUMENTS, read_only=True)


if __name__ == "__main__":
    main()
