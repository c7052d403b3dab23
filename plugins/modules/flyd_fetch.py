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
  - Downloads the object, computing its SHA-256 while it arrives, and keeps it under that digest in O(state_dir).
  - A second run asks S3 with one C(HEAD) whether the object is still the same, and not at all when O(checksum) pins it.
  - When the object behind the key has changed, it becomes a new generation of the image. What was made of the old one stays.
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
  bucket:
    description:
      - The bucket.
    type: str
    default: flyio-platform-hiring-challenge
  endpoint_url:
    description:
      - Where S3 is, when it is not AWS.
    type: str
  region:
    description:
      - The region of the bucket.
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
      - A file on the host with the certificate authorities to trust.
    type: path
  checksum:
    description:
      - The expected digest, V(sha256:HEX), or the key or URL of a file in the format of C(sha256sum) that holds it.
    type: str
  checksum_policy:
    description:
      - What to do when neither O(checksum) nor the object itself names a SHA-256.
      - V(first_use) records the digest of what arrived and says so (RV(trust)), V(require) refuses.
    type: str
    choices: [first_use, require]
    default: first_use
  max_size:
    description:
      - The largest archive to accept.
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
path:
  description: The archive on the host, or none when it is not there any more.
  returned: O(state=present)
  type: str
trust:
  description: Who vouched for the digest. One of V(pinned), V(sidecar), V(object) and V(first_use).
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
attempts:
  description: How many requests for the body it took.
  returned: O(state=present)
  type: int
removed:
  description: What was removed, or would be.
  returned: O(state=absent)
  type: list
  elements: str
settled:
  description: What was finished or undone of earlier runs that were cut off, one sentence each.
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
"""

from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.advance import advance
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.fetch import Fetch, FetchOptions
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.host import Host
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.outcome import Outcome
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.remove import RemoveArchive
from ansible_collections.flyd.lite.plugins.module_utils._module import IMAGE_ARGUMENTS, Given, run
from ansible_collections.flyd.lite.plugins.module_utils._names import ObjectKey
from ansible_collections.flyd.lite.plugins.module_utils._source.checksum import ChecksumPolicy
from ansible_collections.flyd.lite.plugins.module_utils._source.s3 import S3Options

ARGUMENTS = {
    **IMAGE_ARGUMENTS,
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
    "checksum": {"type": "str"},
    "checksum_policy": {"type": "str", "choices": ["first_use", "require"], "default": "first_use"},
    "max_size": {"type": "str", "default": "64G"},
}


def work(host: Host, given: Given) -> Outcome:
    """The options in the terms of the machine."""
    key = ObjectKey(given.text("key"))
    source = S3Options(
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
    )
    policy = ChecksumPolicy(given.text("checksum_policy"))
    return advance(
        host, key, Fetch(FetchOptions(key, source, given.text("checksum"), policy, given.size_bytes("max_size")))
    )


def undo(host: Host, given: Given) -> Outcome:
    """What absent means."""
    key = ObjectKey(given.text("key"))
    return advance(host, key, RemoveArchive(key.value))


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
