#!/usr/bin/python
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_snapshot: a writable snapshot of an image's base, mapped for use."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flyd_snapshot
short_description: Make a writable snapshot of an unpacked image
version_added: 0.1.0
description:
  - Creates a thin snapshot of the image's base and maps it, so that a microVM or a container can use it as a block device.
  - Each generation of an image has one snapshot of each name. After a reboot the same snapshot is mapped again, with the data that was written to it.
requirements:
  - python-ulid (only when something is created; the role C(flyd.lite.prepare) installs it)
options:
  name:
    description:
      - The name of the activation. One image can have any number of them.
    type: str
    default: default
  state:
    description:
      - V(present) creates the snapshot, or maps an existing one.
      - V(absent) removes the snapshots of that name, of all generations of the image or of the one in O(sha256), and what was written to them.
        Every device is checked before the first is removed, in check mode too, so nothing is removed while one of them is in use.
      - With V(absent), only O(key), O(pool), O(sha256) and O(name) have an effect. A warning names any other option that is given.
    type: str
    choices: [present, absent]
    default: present
  sha256:
    description:
      - Which generation of the image is meant, current or retired, by its SHA-256 as RV(flyd.lite.flyd_info#module:images) has it. 64 hex
        digits or V(sha256:HEX). The current one when it is left out; with O(state=absent), all of them.
      - A generation that is not unpacked, or not on the host, is refused with V(out_of_order) in RV(error_kind).
      - With O(state=absent), a generation that is not there is a warning.
    type: str
  size:
    description:
      - The size of the snapshot, at least that of the base, which is the default. The file system is grown to it.
      - An existing snapshot grows to it, also while a guest uses the device; a smaller size is refused. The guest must then grow the file system
        (C(resize2fs)), as the host does not touch what a guest may have written. The module warns of this.
    type: str
  read_only:
    description:
      - Map the snapshot read-only.
      - When left out, a new snapshot is writable, and an existing one stays as it is.
      - To change it, the module maps the device again, so the device must not be in use.
    type: bool
  owner:
    description:
      - The owner of the device node, a name or a number.
    type: str
  group:
    description:
      - The group of the device node, a name or a number.
    type: str
  mode:
    description:
      - The mode of the device node, as M(ansible.builtin.file) takes it. An octal number in quotes such as V("0660") or with a leading zero,
        or a symbolic mode such as V("u=rw,g=r,o="), which counts from the mode that the node has.
      - A number without quotes and leading zero, such as V(660), is read as decimal, which is hardly intended.
      - The owner, group and mode of the node are recorded, and set again at boot.
    type: raw
  recreate:
    description:
      - Replace an existing snapshot by a new one of the same name, with the content of the base. What was written to the old one is lost.
      - The new snapshot keeps the size, access mode and ownership of the old one if O(size), O(read_only), O(owner), O(group) and O(mode) are left
        out. Its device has another name; RV(path) stays the same.
      - It is refused while the device is in use, and while an instance points at it. When the new snapshot cannot be made, the old one stays.
      - Every run with V(true) makes a change.
    type: bool
    default: false
  assume:
    description:
      - What earlier tasks of the same play would have changed, when they ran in check mode as well. It applies in check mode only.
      - V(generation) says that M(flyd.lite.flyd_fetch) would have fetched a new generation of the image
        (its RV(flyd.lite.flyd_fetch#module:new_generation)). The result is then predicted for that generation. With O(sha256), that it would
        have fetched or revived this one.
      - V(pool) says that M(flyd.lite.flyd_pool) would have changed the pool. Whether it has enough space is then not predicted.
    type: list
    elements: str
    choices: [generation, pool]
    default: []
extends_documentation_fragment:
  - flyd.lite.common
  - flyd.lite.common.image
  - flyd.lite.attributes
seealso:
  - module: flyd.lite.flyd_unpack
"""

EXAMPLES = r"""
- name: Create the default snapshot
  flyd.lite.flyd_snapshot:
    key: images/redis_latest.tar

- name: Create another snapshot, for a VMM that runs as another user
  flyd.lite.flyd_snapshot:
    key: images/redis_latest.tar
    name: guest-7
    size: 16G
    owner: firecracker
    mode: "0600"

- name: Give the guest a clean disk for its next start
  flyd.lite.flyd_snapshot:
    key: images/redis_latest.tar
    name: guest-7
    recreate: true

- name: Remove that snapshot
  flyd.lite.flyd_snapshot:
    key: images/redis_latest.tar
    name: guest-7
    state: absent

- name: Create a snapshot of an earlier generation, which stays retired
  flyd.lite.flyd_snapshot:
    key: images/redis_latest.tar
    sha256: "{{ earlier_sha256 }}"
    name: guest-8
"""

RETURN = r"""
image_id:
  description: The ULID of this generation of the image.
  returned: O(state=present)
  type: str
sha256:
  description: The SHA-256 of the archive, or of a family. None when only the download shows it, in check mode.
  returned: O(state=present)
  type: str
trust:
  description: How the digest was confirmed when the archive was fetched, as in RV(flyd.lite.flyd_fetch#module:trust).
  returned: O(state=present)
  type: str
vouched_by:
  description: The digest or the checksum file behind RV(trust). None for V(first_use).
  returned: O(state=present)
  type: str
platform:
  description: The platform in the image's configuration. None before the image is unpacked, or when its configuration has none.
  returned: O(state=present)
  type: str
  sample: linux/amd64
config:
  description: The image's runtime configuration, under the names that Docker and OCI use. None before the image is unpacked.
  returned: O(state=present)
  type: dict
  contains:
    Env:
      description: The environment, each variable as C(NAME=VALUE).
      type: list
      elements: str
    Cmd:
      description: The command, or the default arguments of RV(config.Entrypoint).
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
pool:
  description: The name of the pool that holds the image, or would.
  returned: O(state=present)
  type: str
base_device:
  description: The device of the base that the snapshot is of. It is not mapped. None when the base does not exist.
  returned: O(state=present)
  type: str
msg:
  description: A message with the path of the device.
  returned: O(state=present)
  type: str
  sample: "SUCCESS: Image activated at device /dev/mapper/snap-01J9Z3M4N5P6Q7R8S9T0V1W2X3"
snap_device:
  description: The same as RV(device), under the name of the database column.
  returned: O(state=present)
  type: str
name:
  description: The name of the activation.
  returned: O(state=present)
  type: str
device:
  description: The device to use. None in check mode for a snapshot that does not exist.
  returned: O(state=present)
  type: str
  sample: /dev/mapper/snap-01J9Z3M4N5P6Q7R8S9T0V1W2X3
path:
  description:
    - A readable path of the device. In it, each C(/) of the key becomes C(-), each C(-) becomes C(--), and other special characters become C(%) and
      two hexadecimal digits. If several generations have a snapshot of that name, it is the current one's, else the newest.
  returned: O(state=present)
  type: str
  sample: /dev/flyd/images-redis_latest.tar/default
ulid:
  description: The ULID in the device's name. None in check mode for a snapshot that does not exist.
  returned: O(state=present)
  type: str
size:
  description: The size of the device, in bytes. None in check mode for a snapshot that does not exist.
  returned: O(state=present)
  type: int
read_only:
  description: Whether the device refuses writes.
  returned: O(state=present)
  type: bool
drive:
  description: A drive object as Firecracker's API takes it. None in check mode for a snapshot that does not exist.
  returned: O(state=present)
  type: dict
  contains:
    drive_id:
      description: The name of the drive, C(rootfs).
      type: str
    path_on_host:
      description: The same as RV(device).
      type: str
    is_root_device:
      description: Whether the guest has its root file system on it.
      type: bool
    is_read_only:
      description: The same as RV(read_only).
      type: bool
  sample:
    drive_id: rootfs
    path_on_host: /dev/mapper/snap-01J9Z3M4N5P6Q7R8S9T0V1W2X3
    is_root_device: true
    is_read_only: false
removed:
  description:
    - What was removed, or would be.
    - After a failure, what was removed before it, and what was recorded for removal and is removed by the next run.
      C(changed) is then true.
  returned: O(state=absent); with O(recreate), when there was one; on failure, when something was removed
  type: list
  elements: str
freed_bytes:
  description: The bytes that were returned to the pool. None in check mode.
  returned: O(state=absent)
  type: int
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
    - How the pool has grown automatically (O(flyd.lite.flyd_pool#module:max_size)) in this run, or would in check mode. This counts as a change.
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
    - The image's state, archives, devices and pool, C(before) and C(after).
    - In check mode, C(<new ULID>) stands for a ULID that only the real run creates.
  returned: in diff mode, when something changes
  type: dict
"""

import ansible_collections.flyd.lite.plugins.module_utils._engine  # noqa: F401  # pylint: disable=unused-import  # first: where the others come from
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.image.advance import advance
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.option_states import present_only
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.outcome import Outcome
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.params import ModuleParams
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.run import Run
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.snapshot.device_node import NodeAccess
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.snapshot.options import SnapshotOptions
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.snapshot.snapshot import Activate
from ansible_collections.flyd.lite.plugins.module_utils._module import IMAGE_ARGUMENTS, run
from ansible_collections.flyd.lite.plugins.module_utils._names import ObjectKey, ShortName

ARGUMENTS = {
    **IMAGE_ARGUMENTS,
    "name": {"type": "str", "default": "default"},
    "sha256": {"type": "str"},
    "size": {"type": "str"},
    "read_only": {"type": "bool"},
    "recreate": {"type": "bool", "default": False},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "raw"},
    "assume": {"type": "list", "elements": "str", "choices": ["generation", "pool"], "default": []},
}


COUNTS = present_only("size", "read_only", "recreate", "owner", "group", "mode", "assume")


def work(host: Run, given: ModuleParams) -> Outcome:
    """The options in the terms of the machine."""
    key = ObjectKey(given.text("key"))
    access = NodeAccess.parse(given.text("owner"), given.text("group"), given.raw("mode"))
    options = SnapshotOptions(
        key,
        ShortName(given.text("name")),
        given.size_bytes("size"),
        given.optional_flag("read_only"),
        access,
        assume=frozenset(given.words("assume")),
        sha256=given.sha256("sha256"),
        recreate=given.flag("recreate"),
    )
    return advance(host, key, Activate(options))


def undo(host: Run, given: ModuleParams) -> Outcome:
    """Handle state=absent."""
    from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.image.remove import RemoveSnapshot

    key = ObjectKey(given.text("key"))
    name, sha256 = ShortName(given.text("name")).value, given.sha256("sha256")
    return advance(host, key, RemoveSnapshot(key.value, name, sha256=sha256))


def main() -> None:
    """Entry point."""
    run(work, ARGUMENTS, absent=undo, counts=COUNTS)


if __name__ == "__main__":
    main()
