#!/usr/bin/python
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_instance: bind a name to one generation of an image, with rollback."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flyd_instance
short_description: Bind a name to a generation of an image, with rollback
version_added: 0.1.0
description:
  - Makes C(/run/flyd/instances/NAME) point at a snapshot of one generation of an image, switches the guest to it, and watches its health. When the
    guest is not healthy in time, the name and the guest are rolled back to the previous generation. All of this is one task on the host.
  - C(/run/flyd/instances/NAME) is a link to a directory with C(device), a link to the device; C(drive.json), a drive object for Firecracker;
    C(config.json), the image's configuration; and C(image.json), the key, the digest and the snapshot. One rename changes all of them together, so a
    program that resolves the link once sees one consistent generation. Every user can read the directory.
  - The link decides what the next start of the guest opens. A running guest keeps its device until O(switch) restarts it.
  - A bind that is interrupted by a signal is undone at once. After a kill or a power failure, the next run of any module undoes it, or the boot
    of the host.
  - Each generation has its own snapshot, with what its guest wrote. After a rollback, the guest finds what it wrote before the flip; what the newer
    generation wrote stays in its snapshot. Data that must outlive a generation belongs on another volume.
requirements:
  - python-ulid (only when something is created; the role C(flyd.lite.prepare) installs it)
options:
  name:
    description:
      - The name of the instance, of its link, and of its snapshot in each generation (O(flyd.lite.flyd_snapshot#module:name)).
    type: str
    required: true
  state:
    description:
      - V(present) binds the instance to the generation, switches the guest, waits for its health, and confirms.
      - V(confirmed) confirms a bind that was made with O(confirm_within).
      - V(previous) rolls back to the previous generation. An instance that was rolled back already, automatically or on request, stays as it is. The
        guest's health is checked afterwards; when it is not healthy, the task fails, and nothing else is changed.
      - V(absent) removes the name. Its snapshots stay until M(flyd.lite.flyd_snapshot) removes them.
    type: str
    choices: [present, absent, confirmed, previous]
    default: present
  sha256:
    description:
      - The SHA-256 of the generation, 64 hexadecimal digits, with or without C(sha256:) before them. It must be unpacked on this host.
      - The current generation of the image when left out. With V(previous), the generation before the bound one.
    type: str
  switch:
    description:
      - The command that makes the guest use the new device, as a list of its words; no shell is involved. It must end with 0.
      - A process that it leaves in the background, such as a VMM, keeps running, without the outputs of the command; redirect them, or use systemd.
      - Its environment has C(FLYD_INSTANCE), C(FLYD_LINK) and C(FLYD_DEVICE). It is recorded, as a rollback runs it too. After a boot of the host it
        is not run, as no guest runs then.
      - This option, O(switch_timeout), O(health), O(min_healthy), O(healthy_deadline), O(health_interval) and O(confirm_within) are recorded. When left
        out, they stay as they are.
    type: list
    elements: str
  switch_timeout:
    description:
      - After how many seconds the command is killed. 120 for a new instance.
    type: float
  health:
    description:
      - The checks of the guest's health. All that are given must pass. Without any, the flip is confirmed as soon as O(switch) has ended.
      - An empty dictionary removes the recorded checks.
    type: dict
    suboptions:
      command:
        description:
          - A command that ends with 0 when the guest is healthy, as a list of its words. The last 4 KiB of its output are kept.
        type: list
        elements: str
      port:
        description:
          - A TCP port that accepts connections.
        type: int
      host:
        description:
          - The host of that port.
        type: str
        default: 127.0.0.1
      url:
        description:
          - An http or https URL that answers a GET request with O(health.status). Redirections are not followed.
        type: str
      status:
        description:
          - The status that the URL answers with.
        type: int
        default: 200
  min_healthy:
    description:
      - For how many seconds the guest must be healthy without interruption. 10 for a new instance.
    type: float
  healthy_deadline:
    description:
      - Within how many seconds after the switch the guest must become healthy. 300 for a new instance.
    type: float
  health_interval:
    description:
      - How many seconds to wait between two checks. 2 for a new instance.
    type: float
  confirm_within:
    description:
      - When above 0, the task ends with RV(confirmed) false once the guest is healthy, and the host rolls back after so many seconds unless a task
        with O(state=confirmed) runs before. A boot of the host rolls back, too. 0 for a new instance.
      - Needs systemd and what the role C(flyd.lite.prepare) installs.
    type: int
  size:
    description:
      - The size of a new snapshot, as in M(flyd.lite.flyd_snapshot).
    type: str
  read_only:
    description:
      - Whether a new snapshot refuses writes, as in M(flyd.lite.flyd_snapshot).
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
      - The mode of the device node, as in M(flyd.lite.flyd_snapshot).
    type: raw
  assume:
    description:
      - What earlier tasks of the same play would have changed, when they ran in check mode as well, as in M(flyd.lite.flyd_snapshot).
    type: list
    elements: str
    choices: [generation, pool]
    default: []
extends_documentation_fragment:
  - flyd.lite.common
  - flyd.lite.common.image
  - flyd.lite.attributes
seealso:
  - module: flyd.lite.flyd_snapshot
  - module: flyd.lite.flyd_info
"""

EXAMPLES = r"""
- name: Run the newest generation in the guest web; roll back if it is unhealthy
  flyd.lite.flyd_instance:
    name: web
    key: images/redis_latest.tar
    switch: [systemctl, restart, microvm@web]
    health:
      port: 6379

- name: Bind a given generation, which rolls back automatically unless it is confirmed within ten minutes
  flyd.lite.flyd_instance:
    name: web
    key: images/redis_latest.tar
    sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    confirm_within: 600

- name: Confirm it
  flyd.lite.flyd_instance:
    name: web
    key: images/redis_latest.tar
    sha256: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    state: confirmed

- name: Roll back to the previous generation
  flyd.lite.flyd_instance:
    name: web
    key: images/redis_latest.tar
    state: previous
"""

RETURN = r"""
name:
  description: The name of the instance.
  returned: O(state) is not V(absent)
  type: str
key:
  description: The image that the name points at.
  returned: O(state) is not V(absent)
  type: str
link:
  description: The public path of the instance.
  returned: O(state) is not V(absent)
  type: str
  sample: /run/flyd/instances/web
current:
  description: The SHA-256 of the generation that the name points at. None when only a download shows it, in check mode.
  returned: O(state) is not V(absent)
  type: str
previous:
  description: The SHA-256 of the generation to roll back to. None when there is none.
  returned: O(state) is not V(absent)
  type: str
confirmed:
  description: Whether the generation in RV(current) is confirmed. False while it waits for O(state=confirmed), see O(confirm_within).
  returned: O(state) is not V(absent)
  type: bool
went_back:
  description:
    - Whether this run has rolled back to the previous generation, with O(state=previous).
    - A bind that fails and is rolled back reports that as C(went_back) in RV(details).
  returned: O(state) is V(present) or V(previous)
  type: bool
seconds:
  description: How long each step took, C(snapshot), C(flip), C(switch) and C(health). Empty when there was nothing to do, and in check mode.
  returned: O(state) is not V(absent)
  type: dict
health:
  description: The last answer of each check. Empty without checks, when there was nothing to do, and in check mode.
  returned: O(state) is not V(absent)
  type: list
  elements: dict
  contains:
    check:
      description: The check.
      type: str
    ok:
      description: Whether it passed.
      type: bool
    text:
      description: The answer.
      type: str
image_id:
  description: The ULID of the generation. None when only a download makes it, in check mode.
  returned: O(state) is not V(absent)
  type: str
sha256:
  description: The same as RV(current).
  returned: O(state) is not V(absent)
  type: str
trust:
  description: How the digest was confirmed when the archive was fetched, as in RV(flyd.lite.flyd_fetch#module:trust).
  returned: O(state) is not V(absent)
  type: str
vouched_by:
  description: The digest or the checksum file behind RV(trust). None for V(first_use).
  returned: O(state) is not V(absent)
  type: str
platform:
  description: The platform in the image's configuration. None when it has none.
  returned: O(state) is not V(absent)
  type: str
  sample: linux/amd64
config:
  description: The image's runtime configuration, under the names that Docker and OCI use. None before the image is unpacked.
  returned: O(state) is not V(absent)
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
device:
  description: The device of the snapshot. None in check mode for a snapshot that does not exist.
  returned: O(state) is not V(absent)
  type: str
  sample: /dev/mapper/snap-01J9Z3M4N5P6Q7R8S9T0V1W2X3
ulid:
  description: The ULID in the device's name. None in check mode for a snapshot that does not exist.
  returned: O(state) is not V(absent)
  type: str
drive:
  description: A drive object as Firecracker's API takes it. None in check mode for a snapshot that does not exist.
  returned: O(state) is not V(absent)
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
      description: Whether the device refuses writes.
      type: bool
  sample:
    drive_id: rootfs
    path_on_host: /dev/mapper/snap-01J9Z3M4N5P6Q7R8S9T0V1W2X3
    is_root_device: true
    is_read_only: false
removed:
  description: The names that were removed, or would be.
  returned: O(state=absent)
  type: list
  elements: str
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
    - What the name points at, and the options that are recorded, C(before) and C(after).
    - In check mode, C(<new ULID>) stands for a ULID that only the real run creates.
  returned: in diff mode, when something changes
  type: dict
"""

import ansible_collections.flyd.lite.plugins.module_utils._engine  # noqa: F401  # pylint: disable=unused-import  # first: where the others come from
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.instance.bind import bind
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.instance.options import Asked, InstanceOptions
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.option_states import Counts, present_only
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.outcome import Outcome
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.params import ModuleParams
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.run import Run
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.snapshot.device_node import NodeAccess
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.snapshot.options import SnapshotOptions
from ansible_collections.flyd.lite.plugins.module_utils._module import IMAGE_ARGUMENTS, run
from ansible_collections.flyd.lite.plugins.module_utils._names import ObjectKey, ShortName

HEALTH = {
    "command": {"type": "list", "elements": "str"},
    "port": {"type": "int"},
    "host": {"type": "str", "default": "127.0.0.1"},
    "url": {"type": "str"},
    "status": {"type": "int", "default": 200},
}
ARGUMENTS = {
    **IMAGE_ARGUMENTS,
    "name": {"type": "str", "required": True},
    "sha256": {"type": "str"},
    "switch": {"type": "list", "elements": "str"},
    "switch_timeout": {"type": "float"},
    "health": {"type": "dict", "options": HEALTH},
    "min_healthy": {"type": "float"},
    "healthy_deadline": {"type": "float"},
    "health_interval": {"type": "float"},
    "confirm_within": {"type": "int"},
    "size": {"type": "str"},
    "read_only": {"type": "bool"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
    "mode": {"type": "raw"},
    "assume": {"type": "list", "elements": "str", "choices": ["generation", "pool"], "default": []},
}
COUNTS = {
    **present_only(
        "switch",
        "switch_timeout",
        "health",
        "min_healthy",
        "healthy_deadline",
        "health_interval",
        "confirm_within",
        "size",
        "read_only",
        "owner",
        "group",
        "mode",
    ),
    "sha256": Counts(("present", "confirmed", "previous")),
    "assume": Counts(("present", "confirmed")),
}


def parse(given: ModuleParams) -> InstanceOptions:
    """Build InstanceOptions."""
    key, name = ObjectKey(given.text("key")), ShortName(given.text("name"))
    access = NodeAccess.parse(given.text("owner"), given.text("group"), given.raw("mode"))
    assume = frozenset(given.words("assume"))
    snapshot = SnapshotOptions(
        key, name, given.size_bytes("size"), given.optional_flag("read_only"), access, assume=assume
    )
    return InstanceOptions(name, key, given.sha256("sha256"), Asked.of(given), snapshot, assume)


def work(host: Run, given: ModuleParams) -> Outcome:
    """Handle state=present."""
    return bind(host, parse(given))


def undo(host: Run, given: ModuleParams) -> Outcome:
    """Handle state=absent."""
    from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.instance.remove import remove_instance

    return remove_instance(host, parse(given))


def confirm(host: Run, given: ModuleParams) -> Outcome:
    """Handle state=confirmed."""
    from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.instance.confirm import confirm_bind

    return confirm_bind(host, parse(given))


def go_back(host: Run, given: ModuleParams) -> Outcome:
    """Handle state=previous."""
    from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.instance.previous import go_back as back

    return back(host, parse(given))


def main() -> None:
    """Entry point."""
    run(work, ARGUMENTS, absent=undo, others={"confirmed": confirm, "previous": go_back}, counts=COUNTS)


if __name__ == "__main__":
    main()
