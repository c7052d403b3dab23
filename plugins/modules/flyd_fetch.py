#!/usr/bin/python
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_fetch: fetch an image archive from S3 and verify it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flyd_fetch
short_description: Fetch an image archive from S3 and verify it
version_added: 0.1.0
description:
  - Downloads the object, several ranges at a time, computing its SHA-256 while it arrives, and keeps it under that digest in
    O(state_dir). A download that was interrupted is resumed by the next run.
  - A key that ends in V(/) is a family. The objects under it, in natural order (1, 2, 10), are the layers of one image. They are
    fetched together, and each is stored under its own digest, so a layer that several families share is stored once.
  - The digest of a family is the SHA-256 of what C(sha256sum) prints for its objects in that order, named by their keys relative to the
    family's. In a directory with the layers as files, V(sha256sum $(ls -v\) | sha256sum) prints it.
  - A second run asks S3 with one request (a C(HEAD), or a list of a family's objects) whether anything has changed, and makes no request
    when O(checksum) pins the digest. A checksum file that O(checksum) names takes one more request. When S3 has a SHA-256 of the object, it
    is compared too; the list of a family has none.
  - A second run also looks at the archive on the host. When its size, times or inode are not those of the file that was verified, it is
    hashed, and fetched again when it is damaged.
  - When the object of the key has changed, it becomes a new generation of the image. The base and the snapshots of the old one stay.
  - When O(checksum) is the digest of an earlier generation whose base or archive is still on the host, that one becomes the current
    generation again, with its base and its snapshots. S3 is not asked. See RV(revived).
  - Proxies are taken from the environment of the module (C(HTTPS_PROXY), C(HTTP_PROXY), C(NO_PROXY)).
  - Transient errors (429, 500, 502, 503, 504, a connection that drops or stalls, an object that is replaced while it is read) are
    retried as O(retries), O(retry_delay) and O(deadline) define; C(Retry-After) is obeyed when it ends before the deadline. Any other error
    is reported at once.
  - When no bytes arrive for O(read_timeout) seconds, the module logs a line and warns. A play that is interrupted (Ctrl-C, a lost connection)
    does not end the module on the host - the download continues, and another run for the same key waits for it.
  - During a download, the file C(spool/ULID.progress) below O(state_dir) has the received and the total bytes. M(flyd.lite.flyd_info) reports
    them, and the log has a line every ten seconds.
requirements:
  - boto3 (the role C(flyd.lite.prepare) installs it)
  - python-ulid (only when something is created)
options:
  state:
    description:
      - V(present) fetches the archive, if the host does not have it.
      - V(absent) forgets the key and removes its archives. It refuses while the image is unpacked. S3 is not asked.
        With O(sha256), only the generation with that digest.
      - Options that define what is fetched, or how it is verified, have no effect with V(absent), and a warning names them. Options that
        define how S3 is reached are accepted without one, so that one task can have either state.
    type: str
    choices: [present, absent]
    default: present
  force:
    description:
      - With O(state=absent), remove the bases of the image and their snapshots along with the archives.
      - Refused with O(state=present) - an archive is fetched again when it is damaged or missing, or after O(state=absent).
    type: bool
    default: false
  sha256:
    description:
      - With O(state=absent), which generation of the image is removed, current or retired, by its SHA-256 as
        RV(flyd.lite.flyd_info#module:images) has it. 64 hex digits or V(sha256:HEX). All of them when it is left out.
      - When it is the current one, no other takes its place. The retired ones keep what they have, can be used and removed by their digests, and
        one of them becomes current again with O(checksum).
      - A generation that is not there is a warning.
      - Refused with O(state=present), where O(checksum) says what the digest must be.
    type: str
  src:
    description:
      - Where the archive is, when it is not an object of S3. O(key) is then only the name of the image in the store, which
        the other modules and the roles use. O(bucket) and the other options of S3 are used only for a checksum file in S3.
      - An C(https://) URL is read by the managed host. It may be a presigned URL of S3. The server's certificate is verified as
        O(validate_certs) and O(ca_bundle) define, redirects are followed but not away from TLS, and an interrupted download is resumed if the
        server supports ranges. An C(http://) URL is read, too, with a warning unless O(checksum) is a digest.
      - A path is that of a file of the controller, searched as by M(ansible.builtin.copy) (in C(files/) of the role or the play), which
        is sent to the host only when the host does not have its content. With O(remote_src=true), and as C(file:///PATH), it is that of a file
        of the managed host.
      - The bytes are verified, limited and stored like those of an object of S3. A second run with the same bytes changes nothing. Other
        bytes become a new generation, subject to O(on_change).
      - It cannot be used for a family, a O(key) that ends in V(/).
    type: str
  remote_src:
    description:
      - The path in O(src) is one of the managed host, not of the controller. The file stays where it is.
      - When its times or its inode differ from those of the last run, it is hashed to find out whether it has changed.
    type: bool
    default: false
  headers:
    description:
      - Headers for requests of O(src), such as a token. Values of eight characters or more are not shown, and none is sent to
        another server that a redirect leads to.
    type: dict
  url_username:
    description:
      - The user of HTTP basic authentication for O(src).
    type: str
  url_password:
    description:
      - The password that belongs to O(url_username).
    type: str
  controller_file:
    description:
      - Facts about a file of the controller. The action plugin of this module sets it; do not use it in playbooks.
    type: dict
    suboptions:
      sha256:
        description: The SHA-256 of the file, in hex.
        type: str
        required: true
      size:
        description: The size of the file, in bytes.
        type: int
        required: true
      path:
        description: The path on the host that it was copied to, once it was.
        type: str
  bucket:
    description:
      - The bucket. On Ceph that of another tenant is V(TENANT:BUCKET). On AWS it may be the ARN or the alias of an access point, also of
        Outposts, of Object Lambda and (with the Python package awscrt on the host) of several regions.
      - When left out, a key that was fetched before keeps its bucket, and any other is fetched from
        V(flyio-platform-hiring-challenge). Another bucket means another object, which is subject to O(on_change).
      - With O(state=absent), an image from another bucket is refused.
    type: str
  version_id:
    description:
      - The version of the object, in a bucket that has versions. Without it the newest is fetched.
      - A family has no version, so it cannot be used for a O(key) that ends in V(/).
    type: str
    aliases: [version]
  request_payer:
    description:
      - V(requester) accepts that this account pays for the requests and the transfer, as a requester pays bucket requires.
    type: str
    choices: [requester]
  sse_customer_key:
    description:
      - The key with which the object was encrypted when it was uploaded (SSE-C). 32 bytes in base64, or 32 characters. It is sent over
        TLS only.
      - A checksum file in S3 may be encrypted with the same key, or not at all.
      - An object that is encrypted with a key of KMS or of S3 needs no option.
    type: str
  endpoint_url:
    description:
      - Where S3 is, when it is not AWS. Scheme, host and port, and a path where the server has one, such as
        V(https://s3.example.org:9000) or V(https://example.org/storage/v1/s3). Redirects are not followed.
    type: str
    aliases: [aws_endpoint_url, s3_url]
  region:
    description:
      - The region of the bucket. When it is left out and S3 names another region, the request is repeated there, once.
    type: str
    aliases: [aws_region]
  dualstack:
    description:
      - Use the dual-stack endpoints of AWS, which have IPv6 addresses too.
    type: bool
    default: false
  access_key:
    description:
      - The access key. Without one, the AWS credential chain of the host is used (environment, profile, instance role).
    type: str
    aliases: [aws_access_key_id, aws_access_key]
  secret_key:
    description:
      - The secret key that belongs to O(access_key).
    type: str
    aliases: [aws_secret_access_key, aws_secret_key]
  session_token:
    description:
      - The token of temporary credentials.
    type: str
    aliases: [aws_session_token, aws_security_token, security_token]
  profile:
    description:
      - A profile of the AWS configuration on the host.
    type: str
    aliases: [aws_profile]
  assume_role_arn:
    description:
      - A role to assume for requests to S3, with the credentials of the other options or of the host. A profile that names a
        role does not need this option.
    type: str
    aliases: [role_arn, iam_role_arn]
  external_id:
    description:
      - The external ID that the trust policy of O(assume_role_arn) requires.
    type: str
  sts_endpoint_url:
    description:
      - The endpoint of the security token service for O(assume_role_arn), when it is not that of AWS. On Ceph and MinIO it is the
        O(endpoint_url).
    type: str
  anonymous:
    description:
      - Send requests without credentials, for a public bucket.
    type: bool
    default: false
    aliases: [no_sign_request]
  aws_config:
    description:
      - >-
        Other parameters of C(botocore.config.Config), such as C(use_fips_endpoint), C(proxies), or C(use_accelerate_endpoint) below C(s3).
      - Time-outs, retries, connections and checksums have options of this module instead, and are refused here.
    type: dict
  validate_certs:
    description:
      - Whether to verify the server's certificate.
    type: bool
    default: true
  ca_bundle:
    description:
      - A file on the host with the certificate authorities to trust. Without it those of the host, or of C(AWS_CA_BUNDLE), are.
    type: path
    aliases: [aws_ca_bundle]
  addressing:
    description:
      - Where a request names the bucket, in the path of the URL or in the name of the host.
      - V(auto) is V(path) when O(endpoint_url) is given, and V(virtual) for AWS.
    type: str
    choices: [auto, path, virtual]
    default: auto
    aliases: [addressing_style]
  connections:
    description:
      - The number of ranges that are requested at a time, of all objects of a family together.
    type: int
    default: 16
  part_size:
    description:
      - The size of one range. An object that is no larger is fetched in one request.
    type: str
    default: 8M
  connect_timeout:
    description:
      - How many seconds the server may take to accept a connection.
    type: float
    default: 10.0
  read_timeout:
    description:
      - After how many seconds without data a connection is closed. The missing bytes are then requested again.
    type: float
    default: 30.0
  stall_timeout:
    description:
      - After how many seconds at less than O(stall_rate) a connection is closed.
    type: float
    default: 30.0
  stall_rate:
    description:
      - The least number of bytes per second that a connection must carry.
    type: int
    default: 1024
  deadline:
    description:
      - How many seconds the whole download may take. The next run resumes it.
    type: float
    default: 3600.0
  max_rate:
    description:
      - The most bytes per second that the download may take of the network, such as V(20M), of all O(connections) and all objects of a family
        together. The search for layers that the host has (O(reuse)) and requests that are repeated count. It is the average; for a quarter
        of a second, and in the first moment of each connection, more may arrive.
      - V(0), as without the option, is no limit.
      - It applies to each run, not to all hosts of a play together, and to the bytes of the archive, not to a checksum file. A file
        of the host or of the controller is not slowed.
      - Downloads of larger archives need a longer O(deadline). Waiting for the rate does not count for O(stall_timeout).
    type: str
  checksum:
    description:
      - The expected digest, V(sha256:HEX), or a checksum file that holds it, in the format of C(sha256sum) or C(sha512sum). That is the
        key of an object in the same bucket, an C(s3://BUCKET/KEY) URL, an C(https://) or C(http://) URL without a password, or
        C(file:///PATH) of the managed host. With O(src) it is named by a URL.
      - For a family, its own digest, or a file that names its objects and nothing else.
      - A checksum file is used only when it is named here; C(KEY.sha256) next to the object is not searched for. A named file must exist.
      - A digest whose bytes are on the host, of the current generation or of an earlier one, needs no source. O(src), O(bucket) and
        O(version_id) are then ignored.
      - A checksum file is read in every run, with one request, and compared with what is on the host. When they differ, the module
        fails with V(untrusted) in RV(error_kind); when the file is gone, with V(bad_input); when it cannot be
        reached, with V(transient). A digest, or O(on_change=ignore), needs no request.
      - The user, the password and the query of a URL are not shown in results, errors and logs.
      - A URL's redirects are followed, but not from C(https://) to anything else. O(ca_bundle), O(validate_certs), O(read_timeout) and
        the proxies of the host's environment apply to it too.
      - Bytes that are on the host already under the expected digest are not downloaded again, whatever key they were fetched with.
    type: str
  checksum_policy:
    description:
      - What to do when neither O(checksum) nor the object itself names a SHA-256. The object's own is one of the full object, which S3
        keeps when it was uploaded in one part with C(--checksum-algorithm SHA256); the composite one of an upload in parts does not count.
      - V(first_use) records the digest of the download (RV(trust)), V(require) fails.
      - With V(require), an archive from an earlier run is accepted when a digest, a checksum file or S3 confirmed it then, and
        the object has not changed since; not when it was accepted at first use.
    type: str
    choices: [first_use, require]
    default: first_use
  on_change:
    description:
      - What to do when the object of O(key) is not the one that was fetched, that is, when its version, ETag, size or SHA-256 in
        S3 has changed and its content is not known to be the same. With a digest in O(checksum), which alone selects the content, this
        option has no effect.
      - V(follow) fetches it as a new generation, as O(checksum) and O(checksum_policy) allow, and reports it in RV(replaced). When no checksum
        confirms it, the module warns.
      - V(refuse) fails with V(untrusted) in RV(error_kind), also when a checksum file or S3 confirms the new object, and downloads
        nothing. The hint says how to accept it.
      - V(ignore) does not ask S3 as long as the host has what was fetched from the same O(bucket). A missing or damaged archive is
        fetched as with V(follow). A checksum file is read unless it is the one that confirmed the archive before. With
        O(checksum_policy=require), S3 is asked about an object that was accepted at first use.
      - Check mode predicts the same result, without the digest of an object that no checksum confirms.
    type: str
    choices: [follow, refuse, ignore]
    default: follow
  reuse:
    description:
      - Whether the layers of an archive that archives on the host have already are copied from them instead of downloaded.
      - V(auto) reads the headers of the object with a few requests of ranges. A layer is taken when the object claims a digest for it and its bytes,
        read back after they were copied, have that digest. The digest of the whole archive is computed as always. When it is not the
        expected one, the object is downloaded again without any of that. See RV(bytes_reused).
      - Without an expected digest (O(checksum), or one that S3 states) layers come from earlier generations of the same O(key) only. With one
        they may come from any archive on the host.
      - Layers are taken only for objects of 32 MiB or more, and only when they are at the top level of the archive, which is not the case in one that is
        compressed as a whole. When anything is in doubt, the object is downloaded whole, and C(not_reused_because) in the log says why.
      - V(never) downloads the whole object.
      - It has no effect for a family, whose layers are objects, and for a file of the host or of the controller. Archives that
        O(flyd.lite.flyd_unpack#module:keep_archive=false) has removed cannot be used.
    type: str
    choices: [auto, never]
    default: auto
  max_size:
    description:
      - The largest archive to accept; of a family, all objects together.
      - It applies to downloads. A larger archive that is on the host already stays, with a warning.
    type: str
    default: 64G
  pool:
    description:
      - The name of the thin pool that the image is intended for. When it is given, an image that cannot fit the pool is refused with
        V(no_space) in RV(error_kind) before it is downloaded, in check mode too. The hint names the O(flyd.lite.flyd_pool#module:data_size)
        with which it fits.
      - The size of the layers, of the smallest image in the archive, is compared with the free space of the pool beyond its reserve. For
        compressed layers it is a lower bound. The headers of the archive are requested only when the object itself is larger than the
        free space, and nothing is requested when there is nothing to download.
      - When the pool has earlier bases that the new one can be made of (O(flyd.lite.flyd_unpack#module:reuse)), what the largest of them holds is
        subtracted from the size of the layers. M(flyd.lite.flyd_unpack) then asks for what the difference takes.
      - Layers that replace each other's files may take less than their sizes. Leave the option out to download such an image anyway;
        M(flyd.lite.flyd_unpack) then decides by the tree.
      - An image that is in another pool is refused. A removal without this option removes the image from the pool that holds it.
    type: str
  assume_pool_size:
    description:
      - The size of the pool's data that an earlier task of the same play would have made, when it ran in check mode as well
        (RV(flyd.lite.flyd_pool#module:data_size)). It applies in check mode only, and only with O(pool).
    type: str
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

- name: Make an earlier generation that is still on the host the current one again
  flyd.lite.flyd_fetch:
    key: images/redis_latest.tar
    checksum: "sha256:{{ earlier_sha256 }}"

- name: Remove one generation with its base and its snapshots, and leave the others
  flyd.lite.flyd_fetch:
    key: images/redis_latest.tar
    sha256: "{{ earlier_sha256 }}"
    state: absent
    force: true

- name: Fetch from a private S3 server
  flyd.lite.flyd_fetch:
    key: images/redis_latest.tar
    endpoint_url: https://s3.example.org
    ca_bundle: /etc/ssl/private-ca.pem

- name: Fetch an object and verify it with the checksum file next to it
  flyd.lite.flyd_fetch:
    key: images/redis_latest.tar
    checksum: images/redis_latest.tar.sha256

- name: Refuse a replaced object unless its digest is given
  flyd.lite.flyd_fetch:
    key: images/redis_latest.tar
    on_change: refuse

- name: Fetch once, and make no further requests to S3
  flyd.lite.flyd_fetch:
    key: images/redis_latest.tar
    on_change: ignore

- name: Fetch an image whose layers are separate objects
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
  description: The SHA-256 of the archive, or of a family. None when only the download shows it, in check mode.
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
  description: The path of the archive on the host. None when it is no longer there.
  returned: O(state=present)
  type: str
objects:
  description:
    - The objects of a family, lowest layer first. Empty for an archive.
  returned: O(state=present)
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
      description: The version of the object, in a bucket that has versions.
      type: str
    trust:
      description: How the digest of the object was confirmed, as in RV(trust).
      type: str
    path:
      description: The object on the host.
      type: str
trust:
  description:
    - How the digest is confirmed in this run. One of V(pinned), V(sidecar), V(object) and V(first_use); of a family, the weakest of its
      objects'. When neither O(checksum) nor S3 names a digest, how it was confirmed when the same object was fetched.
  returned: O(state=present)
  type: str
vouched_by:
  description: The digest or the checksum file (without user and query) behind RV(trust). None for V(first_use).
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
archive:
  description:
    - The condition of the archives on the host before this run, of a family the worst. V(unchanged), as they were verified;
      V(verified), touched, hashed again and intact; V(missing); V(damaged), not the bytes that were verified.
    - A damaged archive is fetched again, which is a change. None when the key was not fetched before.
  returned: O(state=present)
  type: str
replaced:
  description:
    - The content that another object, or an earlier generation, has replaced. None when the content is the same.
  returned: O(state=present)
  type: dict
  contains:
    old_sha256:
      description: The SHA-256 of what was fetched before.
      type: str
    new_sha256:
      description: The SHA-256 of the new object. None in check mode when only the bytes show it.
      type: str
    old_etag:
      description: The ETag of what was fetched before.
      type: str
    new_etag:
      description: The ETag of the new object.
      type: str
received_bytes:
  description: How many bytes of the object this run has received.
  returned: O(state=present)
  type: int
seconds:
  description: How long the download took, in seconds.
  returned: O(state=present)
  type: float
resumed_bytes:
  description: How many bytes of the object an earlier run had received.
  returned: O(state=present)
  type: int
bytes_reused:
  description: How many bytes of the object were copied from archives on the host. They are in neither RV(received_bytes) nor RV(resumed_bytes).
  returned: O(state=present)
  type: int
walk_requests:
  description: How many requests of ranges it took to find out which parts of the object the host has.
  returned: O(state=present)
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
new_generation:
  description: Whether the object of the key has changed and becomes a new generation, or would. An earlier one is not new; see RV(revived).
  returned: O(state=present)
  type: bool
revived:
  description:
    - Whether an earlier generation, with its base and its snapshots, becomes the current one again, or would. The generation that was
      current is retired.
    - When S3 has no digest of the object, only the download shows that it is that of an earlier generation. Check mode
      then predicts a new one.
  returned: O(state=present)
  type: bool
removed:
  description:
    - What was removed, or would be.
    - After a failure, what was removed before it, and what was recorded for removal and is removed by the next run.
      C(changed) is then true.
  returned: O(state=absent); on failure, when something was removed
  type: list
  elements: str
freed_bytes:
  description: The bytes that the archives took on the disk. None in check mode.
  returned: O(state=absent)
  type: int
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
  description:
    - Facts about a failure for programs. Which keys there are depends on the failure. After an error of S3 or of the connection there are
      C(attempts), the attempts in a row, and C(waited_seconds), the time waited between them, if any.
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
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.fetch.fetch import Fetch
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.fetch.options import FetchOptions, OnChange, Reuse
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.image.advance import advance
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.option_states import Counts, present_only
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.outcome import Outcome
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.params import SHORTEST_SECONDS, ModuleParams
from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.run import Run
from ansible_collections.flyd.lite.plugins.module_utils._module import IMAGE_ARGUMENTS, run
from ansible_collections.flyd.lite.plugins.module_utils._names import ObjectKey
from ansible_collections.flyd.lite.plugins.module_utils._source.digests.trust import ChecksumPolicy
from ansible_collections.flyd.lite.plugins.module_utils._source.download.retry_policy import DownloadOptions
from ansible_collections.flyd.lite.plugins.module_utils._source.options import S3Options, parse_sse_key
from ansible_collections.flyd.lite.plugins.module_utils._source.place import Place, bucket_of, place_of

ARGUMENTS = {
    **IMAGE_ARGUMENTS,
    "force": {"type": "bool", "default": False},
    "sha256": {"type": "str"},
    "bucket": {"type": "str"},
    "src": {"type": "str"},
    "remote_src": {"type": "bool", "default": False},
    "headers": {"type": "dict"},
    "url_username": {"type": "str"},
    "url_password": {"type": "str", "no_log": True},
    "controller_file": {
        "type": "dict",
        "options": {
            "sha256": {"type": "str", "required": True},
            "size": {"type": "int", "required": True},
            "path": {"type": "str"},
        },
    },
    "version_id": {"type": "str", "aliases": ["version"]},
    "request_payer": {"type": "str", "choices": ["requester"]},
    "sse_customer_key": {"type": "str", "no_log": True},
    "endpoint_url": {"type": "str", "aliases": ["aws_endpoint_url", "s3_url"]},
    "region": {"type": "str", "aliases": ["aws_region"]},
    "dualstack": {"type": "bool", "default": False},
    "access_key": {"type": "str", "no_log": False, "aliases": ["aws_access_key_id", "aws_access_key"]},
    "secret_key": {"type": "str", "no_log": True, "aliases": ["aws_secret_access_key", "aws_secret_key"]},
    "session_token": {
        "type": "str",
        "no_log": True,
        "aliases": ["aws_session_token", "aws_security_token", "security_token"],
    },
    "profile": {"type": "str", "aliases": ["aws_profile"]},
    "assume_role_arn": {"type": "str", "aliases": ["role_arn", "iam_role_arn"]},
    "external_id": {"type": "str", "no_log": True},
    "sts_endpoint_url": {"type": "str"},
    "anonymous": {"type": "bool", "default": False, "aliases": ["no_sign_request"]},
    "aws_config": {"type": "dict"},
    "validate_certs": {"type": "bool", "default": True},
    "ca_bundle": {"type": "path", "aliases": ["aws_ca_bundle"]},
    "addressing": {
        "type": "str",
        "choices": ["auto", "path", "virtual"],
        "default": "auto",
        "aliases": ["addressing_style"],
    },
    "connections": {"type": "int", "default": 16},
    "part_size": {"type": "str", "default": "8M"},
    "connect_timeout": {"type": "float", "default": 10.0},
    "read_timeout": {"type": "float", "default": 30.0},
    "stall_timeout": {"type": "float", "default": 30.0},
    "stall_rate": {"type": "int", "default": 1024},
    "deadline": {"type": "float", "default": 3600.0},
    "max_rate": {"type": "str"},
    "checksum": {"type": "str"},
    "checksum_policy": {"type": "str", "choices": ["first_use", "require"], "default": "first_use"},
    "on_change": {"type": "str", "choices": ["follow", "refuse", "ignore"], "default": "follow"},
    "reuse": {"type": "str", "choices": ["auto", "never"], "default": "auto"},
    "max_size": {"type": "str", "default": "64G"},
    "assume_pool_size": {"type": "str"},
}


COUNTS = {
    **present_only("src", "remote_src", "headers", "url_username", "url_password"),
    **present_only("version_id", "checksum", "checksum_policy", "on_change", "reuse", "max_size", "assume_pool_size"),
    "force": Counts(("absent",), is_refused=True),
    "sha256": Counts(("absent",), is_refused=True, instead="checksum"),
}
DEFAULT_BUCKET = "flyio-platform-hiring-challenge"


def work(host: Run, given: ModuleParams) -> Outcome:
    """The options in the terms of the machine."""
    key = ObjectKey(given.text("key"))
    recorded, where = host.store.image_or_new(str(key)).bucket, place(given)
    bucket = bucket_of(where, given.text("bucket"), recorded) or DEFAULT_BUCKET
    policy = ChecksumPolicy(given.text("checksum_policy"))
    options = FetchOptions(
        key,
        source(given, bucket),
        given.text("checksum"),
        policy,
        given.size_bytes("max_size"),
        download(given),
        OnChange(given.text("on_change")),
        given.size_bytes("assume_pool_size"),
        where,
        Reuse(given.text("reuse")),
    )
    return advance(host, key, Fetch(options))


def place(given: ModuleParams) -> Place:
    """Where the archive is when it is not in the bucket."""
    return place_of(
        given.text("src"),
        remote_src=given.flag("remote_src"),
        sent=given.mapping("controller_file"),
        headers=given.mapping("headers"),
        user=given.text("url_username"),
        password=given.text("url_password"),
    )


def source(given: ModuleParams, bucket: str) -> S3Options:
    """Where the bucket is, and who asks."""
    return S3Options(
        bucket=bucket,
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
        connect_timeout_seconds=given.number("connect_timeout", least=SHORTEST_SECONDS),
        read_timeout_seconds=given.number("read_timeout", least=SHORTEST_SECONDS),
        max_connections=int(given.number("connections")),
        version_id=given.text("version_id"),
        requester_pays=bool(given.text("request_payer")),
        sse_key=parse_sse_key(given.text("sse_customer_key")),
        role_arn=given.text("assume_role_arn"),
        external_id=given.text("external_id"),
        sts_endpoint_url=given.text("sts_endpoint_url"),
        dualstack=given.flag("dualstack"),
        config=given.mapping("aws_config"),
    )


def download(given: ModuleParams) -> DownloadOptions:
    """How to download."""
    return DownloadOptions(
        streams=int(given.number("connections")),
        segment_bytes=given.size_bytes("part_size"),
        deadline_seconds=given.number("deadline"),
        stall_seconds=given.number("stall_timeout"),
        stall_bytes_per_second=int(given.number("stall_rate")),
        max_bytes_per_second=given.limit_bytes("max_rate"),
    )


def undo(host: Run, given: ModuleParams) -> Outcome:
    """Handle state=absent."""
    from ansible_collections.flyd.lite.plugins.module_utils._lifecycle.image.remove_image import RemoveArchive

    key = ObjectKey(given.text("key"))
    gone = given.sha256("sha256")
    arrow = RemoveArchive(key.value, force=given.flag("force"), bucket=given.text("bucket"), sha256=gone)
    return advance(host, key, arrow)


def main() -> None:
    """Entry point."""
    run(
        work,
        ARGUMENTS,
        absent=undo,
        counts=COUNTS,
        required_together=[("access_key", "secret_key")],
        mutually_exclusive=[("anonymous", "access_key", "profile"), ("src", "version_id")],
    )


if __name__ == "__main__":
    main()
