#!/usr/bin/python
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_fetch: bring an image archive from S3 to the host, verified."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flyd_fetch
short_description: Fetch an image archive from S3 and verify it
version_added: 0.1.0
description:
  - Downloads the object, several ranges at a time, computing its SHA-256 while it arrives, and keeps it under that digest in
    O(state_dir). A download that was cut off is gone on with by the next run.
  - A key that ends in V(/) is a family. The objects under it, in natural order (1, 2, 10), are the layers of one image. They are
    fetched together, and each lies under its own digest, so a layer that several families have is there once.
  - The digest of a family is the SHA-256 of what C(sha256sum) prints for its objects in that order, named by their keys behind the
    family's. Where the layers lie as files, C(sha256sum $(ls -v) | sha256sum) gives it.
  - A second run asks S3 with one request (a C(HEAD), or a list of a family's objects) whether all is still the same, and not at all
    when O(checksum) pins it.
  - When what is behind the key has changed, it becomes a new generation of the image. What was made of the old one stays.
  - Proxies are taken from the environment of the module (C(HTTPS_PROXY), C(HTTP_PROXY), C(NO_PROXY)).
  - A fault that may pass (429, 500, 502, 503, 504, a connection that breaks, is silent or trickles, an object that is replaced while it is read) is
    tried again as O(retries), O(retry_delay) and O(deadline) say; C(Retry-After) is obeyed when it ends before the deadline. Any other is
    told at once.
  - While it runs, a small file C(spool/ULID.progress) below O(state_dir) tells how many bytes of how many are there, as
    M(flyd.lite.flyd_info) does, and the log has a line every ten seconds.
requirements:
  - boto3 (the role C(flyd.lite.prepare) installs it)
  - python-ulid (only when something is made)
options:
  state:
    description:
      - V(present) fetches the archive, if it is not there.
      - V(absent) forgets the key and removes its archives. It refuses while the image is unpacked. S3 is not asked.
    type: str
    choices: [present, absent]
    default: present
  force:
    description:
      - With O(state=absent), remove the bases of the image and their snapshots along with the archives.
    type: bool
    default: false
  bucket:
    description:
      - The bucket.
    type: str
    default: flyio-platform-hiring-challenge
  endpoint_url:
    description:
      - Where S3 is, when it is not AWS. Scheme, host and port, such as V(https://s3.example.org:9000). Redirects are not followed.
    type: str
  region:
    description:
      - The region of the bucket. When it is left out and S3 says that the bucket is elsewhere, that region is asked, once.
    type: str
  access_key:
    description:
      - The access key. Without one, the usual chain of AWS is followed on the host (environment, profile, instance role).
    type: str
  secret_key:
    description:
      - The secret key that belongs to O(access_key).
    type: str
  session_token:
    description:
      - The token of temporary credentials.
    type: str
  profile:
    description:
      - A profile of the AWS configuration on the host.
    type: str
  anonymous:
    description:
      - Ask without credentials, for a public bucket.
    type: bool
    default: false
  validate_certs:
    description:
      - Whether to verify the server's certificate.
    type: bool
    default: true
  ca_bundle:
    description:
      - A file on the host with the certificate authorities to trust. Without it those of the host, or of C(AWS_CA_BUNDLE), are.
    type: path
  addressing:
    description:
      - Where a request names the bucket, in the path of the URL or in the name of the host.
      - V(auto) is V(path) when O(endpoint_url) is given, and V(virtual) for AWS.
    type: str
    choices: [auto, path, virtual]
    default: auto
  connections:
    description:
      - How many ranges are asked for at a time, of all objects of a family together.
    type: int
    default: 16
  part_size:
    description:
      - The size of one range. An object that is no larger comes in one piece.
    type: str
    default: 8M
  connect_timeout:
    description:
      - How many seconds the server may take to accept a connection.
    type: float
    default: 10.0
  read_timeout:
    description:
      - How many seconds of silence break a connection off. What is missing is then asked for again.
    type: float
    default: 30.0
  stall_timeout:
    description:
      - Over how many seconds less than O(stall_rate) breaks a connection off.
    type: float
    default: 30.0
  stall_rate:
    description:
      - How many bytes a second a connection must carry at the least.
    type: int
    default: 1024
  deadline:
    description:
      - How many seconds the whole download may take. The next run goes on with what came until then.
    type: float
    default: 3600.0
  checksum:
    description:
      - The expected digest, V(sha256:HEX), or a checksum file that holds it, in the format of C(sha256sum) or C(sha512sum). That is the
        key of an object in the same bucket, an C(s3://BUCKET/KEY) URL, or an C(https://) or C(http://) URL without a password.
      - For a family, its own digest, or a file that names its objects and nothing else.
      - No checksum file is looked for unless it is named here, also not C(KEY.sha256) beside the object. What is named must be there.
      - A checksum file is read when something is to be fetched. As long as the object stays the same and was verified by a checksum
        file or a pinned digest, it is not read again.
      - A URL's redirects are followed, but not from C(https://) to anything else. O(ca_bundle), O(validate_certs), O(read_timeout) and
        the proxies of the host's environment hold for it too.
      - Bytes that are on the host already under the expected digest are not downloaded again, by whatever key they came.
    type: str
  checksum_policy:
    description:
      - What to do when neither O(checksum) nor the object itself names a SHA-256. The object's own is one of the full object, which S3
        keeps when it was uploaded in one part with C(--checksum-algorithm SHA256); the composite one of an upload in parts does not count.
      - V(first_use) records the digest of what arrived and says so (RV(trust)), V(require) refuses.
    type: str
    choices: [first_use, require]
    default: first_use
  max_size:
    description:
      - The largest archive to accept; of a family, all objects together.
    type: str
    default: 64G
extends_documentation_fragment:
  - flyd.lite.common
  - flyd.lite.common.image
  - flyd.lite.attributes
seealso:
  - module: flyd.lite.flyd_pool
  - module: flyd.lite.flyd_unpack
"""

EXAMPLES = r"""
- name: Fetch an image whose digest is known
  flyd.lite.flyd_fetch:
    key: images/redis_latest.tar
    bucket: fleet-images
    checksum: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

- name: Fetch from an S3 server of one's own
  flyd.lite.flyd_fetch:
    key: images/redis_latest.tar
    endpoint_url: https://s3.example.org
    ca_bundle: /etc/ssl/private-ca.pem

- name: Fetch what the checksum file beside it vouches for
  flyd.lite.flyd_fetch:
    key: images/redis_latest.tar
    checksum: images/redis_latest.tar.sha256

- name: Fetch the layers of an image that lie as objects of their own
  flyd.lite.flyd_fetch:
    key: images/redis/
    checksum: images/redis.sha256
    checksum_policy: require
"""

RETURN = r"""
image_id:
  description: The ULID of this generation of the image.
  returned: O(state=present)
  type: str
sha256:
  description: The SHA-256 of the archive.
  returned: O(state=present)
  type: str
size:
  description: The size of the archive, in bytes.
  returned: O(state=present)
  type: int
etag:
  description: The ETag of the object. It identifies a version of the object and is no hash of its content.
  returned: O(state=present)
  type: str
version_id:
  description: The version of the object, in a bucket that has versions.
  returned: O(state=present)
  type: str
path:
  description: The archive on the host, or none when it is not there any more.
  returned: O(state=present)
  type: str
objects:
  description:
    - The objects of a family, lowest layer first. Each has C(object_key), C(sha256), C(size_bytes), C(etag), C(version_id), C(trust)
      and C(path).
  returned: O(state=present)
  type: list
  elements: dict
trust:
  description: Who vouched for the digest. One of V(pinned), V(sidecar), V(object) and V(first_use); of a family, the least of its objects'.
  returned: O(state=present)
  type: str
bytes_received:
  description: How many bytes of the object this run has received.
  returned: O(state=present)
  type: int
seconds:
  description: How long the download took.
  returned: O(state=present)
  type: float
bytes_resumed:
  description: How many bytes of the object were here before.
  returned: O(state=present)
  type: int
attempts:
  description: 1, and how many requests for bytes were repeated. 0 when no bytes had to come.
  returned: O(state=present)
  type: int
waited_seconds:
  description: How long the run has waited between attempts.
  returned: O(state=present)
  type: float
new_generation:
  description: Whether what is behind the key has changed, so that a new generation takes it, or would.
  returned: O(state=present)
  type: bool
removed:
  description: What was removed, or would be.
  returned: O(state=absent)
  type: list
  elements: str
freed_bytes:
  description: The bytes that the archives took on the disk. Not given in check mode.
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
  description:
    - Small facts about a failure for programs. Which ones there are depends on the failure. After a fault of S3 or of the line there are
      C(attempts), how often in a row it was tried, and C(waited_seconds), how long was waited in between, if at all.
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
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.fetch import Fetch, FetchOptions
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.host import Host
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.outcome import Outcome
from ansible_collections.flyd.lite.plugins.module_utils._module import IMAGE_ARGUMENTS, Given, run
from ansible_collections.flyd.lite.plugins.module_utils._names import ObjectKey
from ansible_collections.flyd.lite.plugins.module_utils._source.options import S3Options
from ansible_collections.flyd.lite.plugins.module_utils._source.patience import DownloadOptions
from ansible_collections.flyd.lite.plugins.module_utils._source.trust import ChecksumPolicy

ARGUMENTS = {
    **IMAGE_ARGUMENTS,
    "force": {"type": "bool", "default": False},
    "bucket": {"type": "str", "default": "flyio-platform-hiring-challenge"},
    "endpoint_url": {"type": "str"},
    "region": {"type": "str"},
    "access_key": {"type": "str", "no_log": False},
    "secret_key": {"type": "str", "no_log": True},
    "session_token": {"type": "str", "no_log": True},
    "profile": {"type": "str"},
    "anonymous": {"type": "bool", "default": False},
    "validate_certs": {"type": "bool", "default": True},
    "ca_bundle": {"type": "path"},
    "addressing": {"type": "str", "choices": ["auto", "path", "virtual"], "default": "auto"},
    "connections": {"type": "int", "default": 16},
    "part_size": {"type": "str", "default": "8M"},
    "connect_timeout": {"type": "float", "default": 10.0},
    "read_timeout": {"type": "float", "default": 30.0},
    "stall_timeout": {"type": "float", "default": 30.0},
    "stall_rate": {"type": "int", "default": 1024},
    "deadline": {"type": "float", "default": 3600.0},
    "checksum": {"type": "str"},
    "checksum_policy": {"type": "str", "choices": ["first_use", "require"], "default": "first_use"},
    "max_size": {"type": "str", "default": "64G"},
}


def work(host: Host, given: Given) -> Outcome:
    """The options in the terms of the machine."""
    key = ObjectKey(given.text("key"))
    policy = ChecksumPolicy(given.text("checksum_policy"))
    options = FetchOptions(
        key, source(given), given.text("checksum"), policy, given.size_bytes("max_size"), download(given)
    )
    return advance(host, key, Fetch(options))


def source(given: Given) -> S3Options:
    """Where the bucket is, and who asks."""
    return S3Options(
        bucket=given.text("bucket"),
        endpoint_url=given.text("endpoint_url"),
        region=given.text("region"),
        access_key=given.text("access_key"),
        secret_key=given.text("secret_key"),
        session_token=given.text("session_token"),
        profile=given.text("profile"),
        anonymous=given.flag("anonymous"),
        validate_certs=given.flag("validate_certs"),
        ca_bundle=given.text("ca_bundle"),
        addressing=given.text("addressing"),
        connect_timeout_seconds=given.number("connect_timeout"),
        read_timeout_seconds=given.number("read_timeout"),
        max_connections=int(given.number("connections")),
    )


def download(given: Given) -> DownloadOptions:
    """How to download."""
    return DownloadOptions(
        streams=int(given.number("connections")),
        segment_bytes=given.size_bytes("part_size"),
        deadline_seconds=given.number("deadline"),
        stall_seconds=given.number("stall_timeout"),
        stall_bytes_per_second=int(given.number("stall_rate")),
    )


def undo(host: Host, given: Given) -> Outcome:
    """What absent means."""
    from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.remove import RemoveArchive

    key = ObjectKey(given.text("key"))
    return advance(host, key, RemoveArchive(key.value, force=given.flag("force")))


def main() -> None:
    """Entry point."""
    run(
        work,
        ARGUMENTS,
        absent=undo,
        required_together=[("access_key", "secret_key")],
        mutually_exclusive=[("anonymous", "access_key", "profile")],
    )


if __name__ == "__main__":
    main()
