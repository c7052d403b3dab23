#!/usr/bin/python
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_unpack: write the merged tree of an image to a base volume, and seal it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flyd_unpack
short_description: Unpack a fetched image into a sealed base volume
version_added: 0.1.0
description:
  - Reads all layers' headers, merges them in memory, and writes what survives, each path once, into ext4 on a new thin volume.
  - The archive's SHA-256 and the digest of every layer are verified from the same open file that is unpacked. A tree is sealed
    only when all of them are right.
  - A volume that was not sealed is thrown away whole, also after a power cut.
requirements:
  - python-ulid (only when something is made; the role C(flyd.lite.prepare) installs it)
options:
  state:
    description:
      - V(present) unpacks the image, if that was not done.
      - V(absent) removes the base volumes of all generations of the image. It refuses while there are snapshots of them.
    type: str
    choices: [present, absent]
    default: present
  force:
    description:
      - With O(state=absent), remove the snapshots along with their base.
    type: bool
    default: false
  size:
    description:
      - The size of the volume, such as V(4G). Computed from the tree when left out, with room to live in.
    type: str
  platform:
    description:
      - Which image of a multi-platform archive to take, such as V(linux/amd64). This machine's platform when left out.
    type: str
  image_name:
    description:
      - Which image of an archive of several to take, by its tag.
    type: str
  limits:
    description:
      - Bounds on what an archive may ask of the host, by name. What is not named keeps its default.
      - An error names the limit and the value met.
      - C(entries) [1500000] counts the members of all layers, and C(layers) [512] those.
      - C(content_bytes) [64 GiB] bounds the logical size of all files, holes included, and C(file_bytes) [32 GiB] that of one.
      - C(decompressed_bytes) [64 GiB] bounds what decompression may put out, and C(ratio) [200] how many times its input.
      - C(depth) [512] counts the directories above a path, C(path_bytes) [16384] bounds a path,
        and C(implied_directories) [100000] counts those that members need and no member is.
      - C(header_bytes) [1 MiB] bounds one extended header or sparse map, C(metadata_bytes) [128 MiB] all names, links, attributes
        and sparse maps together, and C(document_bytes) [4 MiB] one JSON document.
      - C(hard_links) [65000] counts the names of one file, and C(seconds) [3600] bounds the time to read, and again to write.
    type: dict
  device_nodes:
    description:
      - What to do with device nodes in the image.
      - They are harmless while unpacking, since the volume is mounted C(nodev) there.
    type: str
    choices: [create, skip, refuse]
    default: create
  keep_archive:
    description:
      - Whether the fetched archive, or the layers of a family, stay on disk once the base is sealed.
      - When V(false), it is removed as soon as no other image needs it. Unpacking again then needs M(flyd.lite.flyd_fetch) again,
        which downloads all of it.
    type: bool
    default: true
extends_documentation_fragment:
  - flyd.lite.common
  - flyd.lite.common.image
  - flyd.lite.attributes
seealso:
  - module: flyd.lite.flyd_fetch
  - module: flyd.lite.flyd_snapshot
"""

EXAMPLES = r"""
- name: Unpack what was fetched
  flyd.lite.flyd_unpack:
    key: images/redis_latest.tar

- name: Unpack with room for the guest and a tight limit
  flyd.lite.flyd_unpack:
    key: images/redis_latest.tar
    size: 8G
    limits:
      entries: 100000
"""

RETURN = r"""
image_id:
  description: The ULID of this generation of the image.
  returned: O(state=present)
  type: str
device:
  description: The base volume's device. It is not mapped once it is sealed.
  returned: O(state=present)
  type: str
  sample: /dev/mapper/base-01J9Z3M4N5P6Q7R8S9T0V1W2X3
base:
  description: The name of that device.
  returned: O(state=present), except in check mode
  type: str
size:
  description: The size of the volume, in bytes.
  returned: O(state=present), except in check mode
  type: int
entries:
  description: How many entries the tree has.
  returned: O(state=present), except in check mode
  type: int
bytes:
  description: How many bytes of file content the tree has.
  returned: O(state=present), except in check mode
  type: int
layers:
  description: How many layers were merged.
  returned: O(state=present), except in check mode
  type: int
whiteouts:
  description: How many whiteouts were applied.
  returned: O(state=present), except in check mode
  type: int
config:
  description: What the image says about running it, under the names that Docker and OCI give it, such as C(Env), C(Cmd), C(Entrypoint), C(User), C(WorkingDir).
  returned: O(state=present), except in check mode
  type: dict
removed:
  description: What was removed, or would be; with O(state=present) the archives that O(keep_archive) lets go.
  returned: success
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

from ansible_collections.flyd.lite.plugins.module_utils._image.limits import Limits
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.advance import advance
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.host import Host
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.outcome import Outcome
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.unpack import Unpack, UnpackOptions
from ansible_collections.flyd.lite.plugins.module_utils._module import IMAGE_ARGUMENTS, Given, run
from ansible_collections.flyd.lite.plugins.module_utils._names import ObjectKey

ARGUMENTS = {
    **IMAGE_ARGUMENTS,
    "force": {"type": "bool", "default": False},
    "size": {"type": "str"},
    "platform": {"type": "str"},
    "image_name": {"type": "str"},
    "limits": {"type": "dict"},
    "device_nodes": {"type": "str", "choices": ["create", "skip", "refuse"], "default": "create"},
    "keep_archive": {"type": "bool", "default": True},
}


def work(host: Host, given: Given) -> Outcome:
    """The options in the terms of the machine."""
    key = ObjectKey(given.text("key"))
    options = UnpackOptions(
        key,
        given.size_bytes("size"),
        limits=Limits.of(given.mapping("limits")),
        image_name=given.text("image_name"),
        platform=given.text("platform"),
        device_nodes=given.text("device_nodes"),
        keep_archive=given.flag("keep_archive"),
    )
    return advance(host, key, Unpack(options))


def undo(host: Host, given: Given) -> Outcome:
    """What absent means."""
    from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.remove import RemoveBase

    key = ObjectKey(given.text("key"))
    return advance(host, key, RemoveBase(key.value, force=given.flag("force")))


def main() -> None:
    """Entry point."""
    run(work, ARGUMENTS, absent=undo)


if __name__ == "__main__":
    main()
