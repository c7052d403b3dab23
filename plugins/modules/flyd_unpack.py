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
  - Reads the headers of all layers, merges them in memory, and writes the resulting tree, each path once, into ext4 on a new thin volume.
  - The archive's SHA-256 and the digest of every layer are verified from the same open file that is unpacked. A tree is sealed
    only when all of them are right. A layer that an earlier base was made with is not read again, where O(reuse) lets the new base be made of
    that one and nothing else of the layer is needed; of such an archive, the digests of what is read are verified.
  - A volume that was not sealed is discarded as a whole, also after a power cut.
requirements:
  - python-ulid (only when something is created; the role C(flyd.lite.prepare) installs it)
options:
  state:
    description:
      - V(present) unpacks the image, if it is not unpacked.
      - V(absent) removes the base volumes of all generations of the image or of the one in O(sha256). It refuses while there are snapshots of them.
        Every device is checked before the first is removed, in check mode too, so nothing is removed while one of them is in use.
      - With V(absent), only O(key), O(pool), O(sha256) and O(force) have an effect. A warning names any other option that is given.
    type: str
    choices: [present, absent]
    default: present
  force:
    description:
      - With O(state=absent), remove the snapshots along with their base.
      - Refused with O(state=present) - to rebuild a base, remove it with O(state=absent) first.
    type: bool
    default: false
  sha256:
    description:
      - Which generation of the image is meant, current or retired, by its SHA-256 as RV(flyd.lite.flyd_info#module:images) has it. 64 hex
        digits or V(sha256:HEX). The current one when it is left out; with O(state=absent), all of them.
      - A retired generation is unpacked from its archive, which must still be on the host, and stays retired. When the archive is gone, or
        there is no such generation, the module fails with V(out_of_order) in RV(error_kind).
      - With O(state=absent), a generation that is not there is a warning.
    type: str
  size:
    description:
      - The size of the volume, such as V(4G). When left out, it is computed from the tree so that O(free_size) stays free.
      - It applies to a new base. An existing base keeps its size; another size causes a warning.
    type: str
  free_size:
    description:
      - How much space is free for a guest beside the image, such as V(4G), when O(size) is left out.
      - The default is a quarter of the image, and at least V(1G). The volume is thin, so free space uses nothing of the pool until
        it is written.
      - It applies to a new base. An existing base keeps its size; another value causes a warning.
    type: str
  platform:
    description:
      - Which image of an archive to take, such as V(linux/amd64) or V(linux/arm/v7). The platform of the host when left out.
      - An image for another platform is refused, whatever the kind of archive. Other names of an architecture, such as C(x86_64),
        C(aarch64) or C(armhf), are understood.
      - It applies to a new base. When an existing base holds the image for another platform, the module warns.
    type: str
  image_name:
    description:
      - Which image of an archive of several to take, by its tag, by its position counted from 0, or by the digest of its manifest.
      - It applies to a new base. When an existing base was made from another image of the archive, the module warns.
    type: str
  limits:
    description:
      - Bounds on the resources that an archive may use. A limit that is left out has the value that its description names.
      - They apply to a new base. For an existing base, a limit lower than the one that it was made with causes a warning. A higher
        one has no effect, as the image was within the lower one.
      - A size is a number of bytes, or a number with K, M, G or T. The others are whole numbers.
      - An error names the limit and a value that suffices, or says that the archive needs at least so much.
      - The kernel limits the process that reads the archive to the memory that an image within C(entries),
        C(metadata_bytes) and C(document_bytes) needs (2 GiB with the defaults), and to C(seconds) of processor time on each
        processor. The process is killed after 1.05 times C(seconds). The error then names C(memory_bytes) or C(seconds).
    type: dict
    suboptions:
      entries:
        description:
          - How many members all layers may have together.
          - V(1500000) when left out.
        type: int
      content_bytes:
        description:
          - The logical size of all files together, holes included.
          - V(64G) when left out.
        type: str
      file_bytes:
        description:
          - The logical size of one file, holes included.
          - V(32G) when left out.
        type: str
      decompressed_bytes:
        description:
          - The decompressed size of all layers together.
          - V(64G) when left out.
        type: str
      ratio:
        description:
          - The ratio of decompressed to compressed size of all layers together, checked once 1 GiB is decompressed.
          - Sparse files and zeros below that size are never refused for it.
          - V(200) when left out.
        type: int
      depth:
        description:
          - The number of directories above a path.
          - V(512) when left out.
        type: int
      implied_directories:
        description:
          - The number of parent directories that are not members themselves.
          - V(100000) when left out.
        type: int
      path_bytes:
        description:
          - The length of a path.
          - V(16K) when left out.
        type: str
      header_bytes:
        description:
          - The size of one extended header or sparse map.
          - V(1M) when left out.
        type: str
      metadata_bytes:
        description:
          - The size of all names, links, attributes and sparse maps together.
          - V(128M) when left out.
        type: str
      document_bytes:
        description:
          - The size of one JSON document.
          - V(4M) when left out.
        type: str
      hard_links:
        description:
          - How many names one file may have. ext4 allows no more than the default.
          - V(65000) when left out.
        type: int
      layers:
        description:
          - How many layers an image may have.
          - V(512) when left out.
        type: int
      seconds:
        description:
          - The time limit for reading the archive, and again for writing its tree. Together they may take twice as long.
          - V(3600) when left out.
        type: int
      decoder_memory_bytes:
        description:
          - The memory of all processes that decompress layers, together. A low limit makes fewer of them run in parallel.
          - A layer that alone needs more, as with a large dictionary of xz or a large window of zstd, is refused.
          - V(256M) when left out.
        type: str
  device_nodes:
    description:
      - What to do with device nodes in the image.
      - They are harmless while unpacking, since the volume is mounted C(nodev).
      - V(create) when left out. It applies to a new base. When an existing base was made with another choice, the module warns.
    type: str
    choices: [create, skip, refuse]
  inject:
    description:
      - Files of the host that are put into the base, such as an init for a microVM or a public key. They replace files of the image. Missing
        parent directories are created.
      - They are read when the base is made, and recorded with their digests. When left out later, the base stays as it is. When others are given, or
        one of the files has changed since, the module warns; to rebuild the base, remove it first.
    type: list
    elements: dict
    suboptions:
      src:
        description:
          - The absolute path of a regular file on the host.
        type: path
        required: true
      dest:
        description:
          - The absolute path of the file in the image.
        type: str
        required: true
      mode:
        description:
          - The permissions, an octal number in quotes. Those of O(inject[].src) when left out.
        type: raw
      owner:
        description:
          - The numeric user ID of the owner, as in the image.
        type: int
        default: 0
      group:
        description:
          - The numeric group ID.
        type: int
        default: 0
  reuse:
    description:
      - Of what a new base may be made. The base of an earlier generation of the same key in the same pool shares all files that are the same, so
        the new one takes room in the pool, and time, for what has changed. The tree is the same as that of a base that is made fresh.
      - V(key) makes it of the newest base of an earlier generation of the same key, where that saves something. Where it
        does not, or anything is in doubt, the base is made fresh, and RV(fresh_because) says why.
      - V(auto) does so, too, or makes it of the base of another key, where that has more of the image's layers. Each layer that the other base, or a base
        that it was made of, has ever held must be a layer of this image, which is proven by their digests, and no file may have been added to it
        (O(inject)). So its free blocks hold nothing that this image has not.
      - Where bases of other keys share the lowest layers with the image, at least 32 MiB of them and a third of the image, and have held others as
        well, V(auto) unpacks these lowest layers once as a hidden base, and makes the base of it. So the first such image takes the room of both, and
        each later one that of its own layers. A hidden base belongs to no image and is never mapped. M(flyd.lite.flyd_prune) removes it.
      - V(never) makes it fresh. What an earlier generation held and this one does not may otherwise stay readable in free blocks of the raw
        device, in pieces smaller than a block of the pool.
      - V(auto) when left out. It counts when a base is made. For a base that was made of an earlier one, V(never) is a warning, and so
        is V(key) for one that was made of another key's.
    type: str
    choices: [auto, key, never]
  keep_archive:
    description:
      - Whether the fetched archive, or the layers of a family, stay on disk once the base is sealed.
      - When V(false), it is removed as soon as no other image needs it. To unpack the image again, run M(flyd.lite.flyd_fetch) first,
        which downloads all of it.
      - When left out, the archive of a new base stays, and one that was removed is not fetched again. V(true) does not restore a removed
        archive, and warns.
    type: bool
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
  - module: flyd.lite.flyd_fetch
  - module: flyd.lite.flyd_snapshot
"""

EXAMPLES = r"""
- name: Unpack the fetched image
  flyd.lite.flyd_unpack:
    key: images/redis_latest.tar

- name: Unpack an earlier generation again, whose base was removed
  flyd.lite.flyd_unpack:
    key: images/redis_latest.tar
    sha256: "{{ earlier_sha256 }}"

- name: Remove the base of an earlier generation, with its snapshots
  flyd.lite.flyd_unpack:
    key: images/redis_latest.tar
    sha256: "{{ earlier_sha256 }}"
    state: absent
    force: true

- name: Unpack with free space for the guest and a low limit
  flyd.lite.flyd_unpack:
    key: images/redis_latest.tar
    size: 8G
    limits:
      entries: 100000
      file_bytes: 2G
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
device:
  description: The base volume's device. It is not mapped once it is sealed. None in check mode for a base that does not exist, like all
    results that depend on the tree.
  returned: O(state=present)
  type: str
  sample: /dev/mapper/base-01J9Z3M4N5P6Q7R8S9T0V1W2X3
base:
  description: The name of that device.
  returned: O(state=present)
  type: str
size:
  description: The size of the volume, in bytes.
  returned: O(state=present)
  type: int
free_size:
  description: The free space beside the image, in bytes, that the size was computed with; null when O(size) was given.
  returned: O(state=present)
  type: int
origin:
  description: The base that this one was made of, which may be gone since. None for a base that was made fresh, or does not exist.
  returned: O(state=present)
  type: str
  sample: base-01J9Z3M4N5P6Q7R8S9T0V1W2X3
origin_key:
  description: The object key of the image whose base RV(origin) was. None when RV(origin) is, and for a hidden base.
  returned: O(state=present)
  type: str
  sample: images/redis_latest.tar
reused_bytes:
  description: How many of RV(bytes) were in that base already. None before the image is unpacked.
  returned: O(state=present)
  type: int
written_bytes:
  description: How many of RV(bytes) were written. None before the image is unpacked.
  returned: O(state=present)
  type: int
unread_layers:
  description:
    - How many layers were not read, since the base that this one was made of has what they hold. None before the image is unpacked.
  returned: O(state=present)
  type: int
fresh_because:
  description:
    - Why the base was not made of an earlier one. None for one that was, and before the image is unpacked.
    - V(no_earlier_base) - there was none in the pool, of the key or of another one that shares a layer. V(reuse_never) - O(reuse) said so.
      V(no_manifest) - what the earlier one holds is not recorded, or the record is damaged. V(other_filesystem) - its file system is of another
      kind. V(too_many_before_it) - it is the last of a chain of 64. V(other_layers) - bases of other keys share layers with the image, and hold, or
      may hold in free blocks, what it has not. V(unknown_layers) - it is not recorded what such a base may hold. V(in_use) - another program has
      mapped the base of the other key. V(too_different) - less than a third of the content is the same. V(too_few_inodes), V(smaller_size),
      V(no_room) - its file system, its size or the room in it do not suffice. V(failed) - its tree could not be changed; the log says why.
  returned: O(state=present)
  type: str
  choices:
    - reuse_never
    - no_earlier_base
    - no_manifest
    - other_filesystem
    - too_many_before_it
    - other_layers
    - unknown_layers
    - in_use
    - too_different
    - too_few_inodes
    - smaller_size
    - no_room
    - failed
entries:
  description: How many entries the tree has.
  returned: O(state=present)
  type: int
bytes:
  description: How many bytes of file content the tree has.
  returned: O(state=present)
  type: int
logical_bytes:
  description: How many bytes of file content the tree has, holes included.
  returned: O(state=present)
  type: int
inodes:
  description: How many inodes the tree takes.
  returned: O(state=present)
  type: int
directories:
  description: How many directories the tree has.
  returned: O(state=present)
  type: int
hard_links:
  description: How many names are additional hard links to a file.
  returned: O(state=present)
  type: int
layers:
  description: How many layers were merged.
  returned: O(state=present)
  type: int
whiteouts:
  description: How many whiteouts were applied.
  returned: O(state=present)
  type: int
injected:
  description: The files of the host that were put into the base. None in check mode for a base that does not exist.
  returned: O(state=present)
  type: list
  elements: dict
  contains:
    dest:
      description: Where the file is in the image.
      type: str
    sha256:
      description: The SHA-256 of its content.
      type: str
    mode:
      description: Its permissions.
      type: str
      sample: "0755"
    owner:
      description: Its owner.
      type: int
    group:
      description: Its group.
      type: int
missing_isolation:
  description:
    - The isolation that this host could not set up for the processes that handled the image when it was unpacked. Empty when it was complete.
    - Names of namespaces (V(pid), V(net), V(ipc), V(uts), V(cgroup)), V(root) for the changed root and the capabilities, and
      V(system_calls) for the list of allowed calls, which needs a processor of x86_64 or aarch64. A warning says the same.
  returned: O(state=present)
  type: list
  elements: str
layout:
  description: The kind of archive, one of C(oci), C(docker), C(docker-legacy), C(rootfs) and C(family).
  returned: O(state=present)
  type: str
dropped_xattrs:
  description: How many extended attributes and ACLs could not be kept. A warning names them.
  returned: O(state=present)
  type: int
clamped_times:
  description: How many timestamps are outside of the range of ext4, and were set to its nearest limit.
  returned: O(state=present)
  type: int
left_out:
  description: How many members were skipped because they are metadata of aufs.
  returned: O(state=present)
  type: int
devices:
  description: How many device nodes were made.
  returned: O(state=present)
  type: int
skipped_devices:
  description: How many device nodes were not made, because of O(device_nodes=skip).
  returned: O(state=present)
  type: int
removed:
  description:
    - What was removed, or would be; with O(state=present), the archives that are removed because of O(keep_archive).
    - After a failure, what was removed before it, and what was recorded for removal and is removed by the next run.
      C(changed) is then true.
  returned: success; on failure, when something was removed
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
from ansible_collections.flyd.lite.plugins.module_utils._image.limits import Limits
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.image.advance import advance
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.option_states import Counts, present_only
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.outcome import Outcome
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.params import ModuleParams
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.run import Run
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.unpack.inject import Injected
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.unpack.options import Reuse, UnpackOptions
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.unpack.unpack import Unpack
from ansible_collections.flyd.lite.plugins.module_utils._module import IMAGE_ARGUMENTS, run
from ansible_collections.flyd.lite.plugins.module_utils._names import ObjectKey

LIMITS = {
    "entries": {"type": "int"},
    "content_bytes": {"type": "str"},
    "file_bytes": {"type": "str"},
    "decompressed_bytes": {"type": "str"},
    "ratio": {"type": "int"},
    "depth": {"type": "int"},
    "implied_directories": {"type": "int"},
    "path_bytes": {"type": "str"},
    "header_bytes": {"type": "str"},
    "metadata_bytes": {"type": "str"},
    "document_bytes": {"type": "str"},
    "hard_links": {"type": "int"},
    "layers": {"type": "int"},
    "seconds": {"type": "int"},
    "decoder_memory_bytes": {"type": "str"},
}
INJECT = {
    "src": {"type": "path", "required": True},
    "dest": {"type": "str", "required": True},
    "mode": {"type": "raw"},
    "owner": {"type": "int", "default": 0},
    "group": {"type": "int", "default": 0},
}
ARGUMENTS = {
    **IMAGE_ARGUMENTS,
    "force": {"type": "bool", "default": False},
    "sha256": {"type": "str"},
    "size": {"type": "str"},
    "free_size": {"type": "str"},
    "platform": {"type": "str"},
    "image_name": {"type": "str"},
    "limits": {"type": "dict", "options": LIMITS},
    "device_nodes": {"type": "str", "choices": ["create", "skip", "refuse"]},
    "inject": {"type": "list", "elements": "dict", "options": INJECT},
    "reuse": {"type": "str", "choices": ["auto", "key", "never"]},
    "keep_archive": {"type": "bool"},
    "assume": {"type": "list", "elements": "str", "choices": ["generation", "pool"], "default": []},
}


COUNTS = {
    **present_only(
        "size",
        "free_size",
        "platform",
        "image_name",
        "limits",
        "device_nodes",
        "inject",
        "reuse",
        "keep_archive",
        "assume",
    ),
    "force": Counts(("absent",), is_refused=True),
}


def work(host: Run, given: ModuleParams) -> Outcome:
    """The options in the terms of the machine."""
    key = ObjectKey(given.text("key"))
    limits = given.mapping("limits")
    options = UnpackOptions(
        key,
        given.size_bytes("size"),
        limits=Limits.of(limits),
        limits_given=tuple(name for name, value in limits.items() if value is not None),
        image_name=given.text("image_name"),
        platform=given.text("platform"),
        device_nodes=given.text("device_nodes"),
        inject=tuple(map(Injected.parse, given.mappings("inject"))),
        keep_archive=given.optional_flag("keep_archive"),
        free_bytes=given.size_bytes("free_size"),
        assume=frozenset(given.words("assume")),
        sha256=given.sha256("sha256"),
        reuse=Reuse(given.text("reuse") or Reuse.AUTO),
    )
    return advance(host, key, Unpack(options))


def undo(host: Run, given: ModuleParams) -> Outcome:
    """Handle state=absent."""
    from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.image.remove import RemoveBase

    key = ObjectKey(given.text("key"))
    return advance(host, key, RemoveBase(key.value, force=given.flag("force"), sha256=given.sha256("sha256")))


def main() -> None:
    """Entry point."""
    run(work, ARGUMENTS, absent=undo, counts=COUNTS, mutually_exclusive=[("size", "free_size")])


if __name__ == "__main__":
    main()
