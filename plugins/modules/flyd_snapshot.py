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
  - Makes a thin snapshot of the image's base and maps it, so that a microVM or a container can use it as a block device.
  - Each name of an image has one snapshot. After a reboot the same snapshot is mapped again with what was written to it.
requirements:
  - python-ulid (only when something is made; the role C(flyd.lite.prepare) installs it)
options:
  name:
    description:
      - The name of the activation. One image can have any number of them.
    type: str
    default: default
  state:
    description:
      - V(present) makes the snapshot, or maps it again.
      - V(absent) removes the snapshots of that name, of all generations of the image, and what was written to them.
    type: str
    choices: [present, absent]
    default: present
  size:
    description:
      - The size of the snapshot, at least that of the base. The file system is grown to it.
    type: str
  read_only:
    description:
      - Map the snapshot read-only.
    type: bool
    default: false
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
      - The mode of the device node, in octal, such as V("0660").
    type: str
extends_documentation_fragment:
  - flyd.lite.common
  - flyd.lite.common.image
  - flyd.lite.attributes
seealso:
  - module: flyd.lite.flyd_unpack
"""

EXAMPLES = r"""
- name: The default snapshot
  flyd.lite.flyd_snapshot:
    key: images/redis_latest.tar

- name: One more, for a guest that runs as another user
  flyd.lite.flyd_snapshot:
    key: images/redis_latest.tar
    name: guest-7
    size: 16G
    owner: firecracker
    mode: "0600"

- name: Remove that one
  flyd.lite.flyd_snapshot:
    key: images/redis_latest.tar
    name: guest-7
    state: absent
"""

RETURN = r"""
image_id:
  description: The ULID of this generation of the image.
  returned: O(state=present)
  type: str
name:
  description: The name of the activation.
  returned: O(state=present), except in check mode
  type: str
device:
  description: The device to use.
  returned: O(state=present); none in check mode for a snapshot that does not exist
  type: str
  sample: /dev/mapper/snap-01J9Z3M4N5P6Q7R8S9T0V1W2X3
ulid:
  description: The ULID in the device's name.
  returned: O(state=present); none in check mode for a snapshot that does not exist
  type: str
size:
  description: The size of the device, in bytes.
  returned: O(state=present), except in check mode
  type: int
read_only:
  description: Whether the device refuses writes.
  returned: O(state=present), except in check mode
  type: bool
drive:
  description: A drive object as Firecracker's API takes it.
  returned: O(state=present), except in check mode
  type: dict
  sample:
    drive_id: rootfs
    path_on_host: /dev/mapper/snap-01J9Z3M4N5P6Q7R8S9T0V1W2X3
    is_root_device: true
    is_read_only: false
removed:
  description: What was removed, or would be.
  returned: O(state=absent)
  type: list
  elements: str
freed_bytes:
  description: The bytes that the pool has back. Not given in check mode.
  returned: O(state=absent)
  type: int
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
    - The image's state, archives, devices and pool, C(before) and C(after).
    - In check mode, a ULID that only the real run makes stands as C(<new ULID>).
  returned: in diff mode, when something changes
  type: dict
"""

from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.advance import advance
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.host import Host
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.node import NodeAccess
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.outcome import Outcome
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.snapshot import Activate, SnapshotOptions
from ansible_collections.flyd.lite.plugins.module_utils._module import IMAGE_ARGUMENTS, Given, run
from ansible_collections.flyd.lite.plugins.module_utils._names import ObjectKey, ShortName

ARGUMENTS = {
    **IMAGE_ARGUMENTS,
    "name": {"type": "str", "default": "default"},
    "size": {"type": "str"},
    "read_only": {"type": "bool", "default": False},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "str"},
}


def work(host: Host, given: Given) -> Outcome:
    """The options in the terms of the machine."""
    key = ObjectKey(given.text("key"))
    access = NodeAccess.parse(given.text("owner"), given.text("group"), given.text("mode"))
    options = SnapshotOptions(
        key, ShortName(given.text("name")), given.size_bytes("size"), given.flag("read_only"), access
    )
    return advance(host, key, Activate(options))


def undo(host: Host, given: Given) -> Outcome:
    """What absent means."""
    from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.remove import RemoveSnapshot

    key = ObjectKey(given.text("key"))
    return advance(host, key, RemoveSnapshot(key.value, ShortName(given.text("name")).value))


def main() -> None:
    """Entry point."""
    run(work, ARGUMENTS, absent=undo)


if __name__ == "__main__":
    main()
