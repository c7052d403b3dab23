#!/usr/bin/python
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_prune: remove generations of images that are no longer needed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flyd_prune
short_description: Remove generations of images that are no longer needed
version_added: 0.1.0
description:
  - A key has one current generation and any number of retired ones, each with its base, its snapshots and its archive. This module removes those
    that are no longer needed, one after the other, as M(flyd.lite.flyd_fetch) with C(state=absent), C(sha256) and C(force) does. What guests
    wrote to their snapshots is lost.
  - Never removed are the current generation of a key; one that an instance points at, is about to point at, or would go back to
    (M(flyd.lite.flyd_instance)); and one with a device that is mounted, open, or below another device. All devices of a generation are
    checked before the first of them is removed.
  - Of the others, the newest O(keep) stay, and those that O(older_than) and O(min_free) exclude. Generations that no instance has confirmed are
    removed first, then those that were retired longest ago.
  - A hidden base (O(flyd.lite.flyd_unpack#module:reuse)) goes when no base is left in its pool whose layers begin with its own, whatever O(key) and
    the other options say. One that cannot be removed is a warning.
  - A generation with a device in use is skipped (RV(skipped)). When a removal fails, the module continues with the others, and fails
    at the end; RV(errors) has each failure.
requirements:
  - python-ulid (only when something is removed; the role C(flyd.lite.prepare) installs it)
options:
  key:
    description:
      - The key whose generations are pruned, as the bucket lists it. All keys when it is left out.
      - An unknown key causes a warning.
    type: str
  pool:
    description:
      - Prune only generations whose base or snapshots are in the pool of that name. All pools, and archives without a base, when it is left out.
      - An unknown pool causes a warning, and nothing is removed.
    type: str
  keep:
    description:
      - How many retired generations of a key stay beside those that are never removed, the newest first. The newest is the one that was retired
        last.
      - For a key that instances use, or have used, only confirmed generations count and stay, because one that was never confirmed may not
        work. For any other key, all generations count.
    type: int
    default: 2
  older_than:
    description:
      - Prune only what was retired or changed longer ago, by the clock of the host. A whole number with V(s), V(m), V(h), V(d) or V(w), such as
        V(7d); seconds when there is no letter.
    type: str
  min_free:
    description:
      - Prune only as far as needed until the pool has so much of its data free, in percent such as V(20%), or as a size such as V(50G).
        Without it, all that may be removed is removed.
      - With it, a generation that uses no space of a pool stays. If the pool has less free at the end, the module warns.
    type: str
  archives:
    description:
      - Whether to remove the archives of the pruned generations as well, and their records. An archive that another generation,
        of this or another key, needs stays.
      - When V(false), only base and snapshots are removed, and the generations can be unpacked again.
      - Archives of generations that stay are never removed here; C(keep_archive=false) of M(flyd.lite.flyd_unpack) does that.
    type: bool
    default: true
extends_documentation_fragment:
  - flyd.lite.common
  - flyd.lite.attributes
seealso:
  - module: flyd.lite.flyd_instance
  - module: flyd.lite.flyd_info
"""

EXAMPLES = r"""
- name: Keep the current generation of each image, what instances use, and two earlier ones
  flyd.lite.flyd_prune:

- name: Show what would be removed, and how much that would free
  flyd.lite.flyd_prune:
    keep: 1
  check_mode: true
  register: would

- name: Free space in one pool by removing generations that were retired more than a week ago
  flyd.lite.flyd_prune:
    pool: fleet
    keep: 0
    older_than: 7d
    min_free: 30%
"""

RETURN = r"""
removed:
  description:
    - The devices and archives that were removed, or would be.
    - After a failure, what was removed before it, and what was recorded for removal and is removed by the next run.
      C(changed) is then true.
  returned: success; on failure, as all up to RV(errors), unless it failed before anything was tried
  type: list
  elements: str
freed_bytes:
  description: The bytes that were returned to pools and the file system of O(state_dir). None in check mode.
  returned: success
  type: int
would_free_bytes:
  description:
    - In check mode, an estimate of the same - the archives' bytes, and those of the data blocks that only the pruned generations have, as read from
      the pool's metadata without a message to the pool. It does not include what guests have written in the last second.
    - None outside of check mode, and, with a warning, when the metadata changes faster than it can be read.
  returned: success
  type: int
kept:
  description: The generations that stay, of the requested keys and pool.
  returned: success
  type: list
  elements: dict
  contains:
    key:
      description: The key.
      type: str
    sha256:
      description: The SHA-256 of the generation.
      type: str
    reason:
      description:
        - V(current), the current one of its key; V(instance), an instance names it; V(newest), by O(keep); V(recent), by O(older_than);
          V(enough_free) and V(not_in_pool), by O(min_free); V(archive), by O(archives).
      type: str
      choices: [current, instance, newest, recent, enough_free, not_in_pool, archive]
    text:
      description: The same as a sentence, for people.
      type: str
skipped:
  description: The generations that cannot be removed now.
  returned: success
  type: list
  elements: dict
  contains:
    key:
      description: The key.
      type: str
    sha256:
      description: The SHA-256 of the generation.
      type: str
    reason:
      description:
        - V(in_use), one of its devices is mounted, open, or below another device; V(foreign_device), another program has mapped one of its volumes, or
          has taken the name of a device.
      type: str
      choices: [in_use, foreign_device]
    text:
      description: The same as a sentence, with the user of the device.
      type: str
errors:
  description: The generations that could not be removed. The module fails when there is one.
  returned: success
  type: list
  elements: dict
  contains:
    key:
      description: The key.
      type: str
    sha256:
      description: The SHA-256 of the generation.
      type: str
    error_kind:
      description: The category of the failure, as in RV(error_kind).
      type: str
    msg:
      description: What is wrong.
      type: str
    hint:
      description: What to do about it.
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
  description: By key, the image's state, archives, devices and pool, and the same of its retired generations, C(before) and C(after).
  returned: in diff mode, when something changes
  type: dict
"""

import ansible_collections.flyd.lite.plugins.module_utils._engine  # noqa: F401  # pylint: disable=unused-import  # first: where the others come from
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.outcome import Outcome
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.params import ModuleParams
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.prune.options import PruneOptions
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.prune.prune import prune
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.run import Run
from ansible_collections.flyd.lite.plugins.module_utils._module import run

ARGUMENTS = {
    "key": {"type": "str", "no_log": False},
    "pool": {"type": "str"},
    "keep": {"type": "int", "default": 2},
    "older_than": {"type": "str"},
    "min_free": {"type": "str"},
    "archives": {"type": "bool", "default": True},
}


def work(host: Run, given: ModuleParams) -> Outcome:
    """The options in the terms of the machine."""
    return prune(host, PruneOptions.parse(given))


def main() -> None:
    """Entry point."""
    run(work, ARGUMENTS)


if __name__ == "__main__":
    main()
