#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch an object, or the objects of a family, with the collection's own engine, without Ansible and without a database.

    fetch.py --bucket images --endpoint-url http://127.0.0.1:8333 --anonymous images/redis_latest.tar /tmp/redis.tar
    fetch.py --bucket images --endpoint-url http://127.0.0.1:8333 --anonymous images/redis/ /tmp/redis

prints one JSON object. It exits with 0 when the file is there and is the one asked for, with 1 and the error in the object when not,
and with 2 when it was called wrongly. A run that was interrupted is resumed. Credentials come from the environment
(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN), a profile or the instance's role, never from the command line, which
every user of the host can read. The objects of a family (a key that ends in /) become files of the destination, a directory that is
made when missing, named by their position: 0001, 0002.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))

from module_utils._errors import FlydError, error_to_json
from module_utils._host.retry import Retry
from module_utils._lifecycle.fetch.copies import LocalCopies
from module_utils._names import ObjectKey, parse_bytes
from module_utils._source.digests.checksum import ChecksumPolicy
from module_utils._source.download.download import DownloadOptions, publish
from module_utils._source.download.fetch import Arrived, Fetched, Wanted, fetch
from module_utils._source.s3.bucket import Bucket, S3Options

PART_SUFFIX = ".part"


def parse(argv: list[str]) -> argparse.Namespace:
    """The command line; argparse ends the process with 2 when it is wrong."""
    download, retry = DownloadOptions(), Retry()
    parser = argparse.ArgumentParser(description="fetch one object of S3, verified and resumable")
    parser.add_argument("key")
    parser.add_argument("destination", help="the file to make, or the directory of a family; its directory must exist")
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--endpoint-url", default="")
    parser.add_argument("--region", default="")
    parser.add_argument("--profile", default="")
    parser.add_argument("--anonymous", action="store_true")
    parser.add_argument("--addressing", default="auto", choices=("auto", "path", "virtual"))
    parser.add_argument("--ca-bundle", default="")
    parser.add_argument("--no-validate-certs", dest="validate_certs", action="store_false")
    parser.add_argument("--read-timeout", type=float, default=30, metavar="SECONDS")
    parser.add_argument("--checksum", default="", help="sha256:HEX, or the key or URL of a checksum file")
    parser.add_argument("--checksum-policy", default="first_use", choices=[one.value for one in ChecksumPolicy])
    parser.add_argument("--max-size", default="1T")
    parser.add_argument("--streams", type=int, default=download.streams)
    parser.add_argument("--segment-size", default=str(download.segment_bytes))
    parser.add_argument("--max-rate", default="0", metavar="BYTES", help="a second, such as 20M; 0 is no limit")
    parser.add_argument("--deadline", type=float, default=download.deadline_seconds, metavar="SECONDS")
    parser.add_argument("--reuse-from", nargs="+", default=[], metavar="ARCHIVE", help="earlier generations of the key")
    parser.add_argument("--attempts", type=int, default=retry.attempts)
    parser.add_argument("--backoff", type=float, default=retry.base_seconds, metavar="SECONDS")
    return parser.parse_args(argv)


def bucket_of(options: argparse.Namespace) -> Bucket:
    """The bucket that the command line names."""
    return Bucket(
        S3Options(
            bucket=options.bucket,
            endpoint_url=options.endpoint_url,
            region=options.region,
            profile=options.profile,
            anonymous=options.anonymous,
            validate_certs=options.validate_certs,
            ca_bundle=options.ca_bundle,
            addressing=options.addressing,
            read_timeout_seconds=options.read_timeout,
            max_connections=options.streams,
        )
    )


def run(options: argparse.Namespace) -> dict[str, object]:
    """Fetch, publish under the destination's name, and describe what came."""
    bucket = bucket_of(options)
    wanted = Wanted(
        ObjectKey(options.key),
        options.checksum,
        ChecksumPolicy(options.checksum_policy),
        parse_bytes(options.max_size, what="--max-size"),
    )
    how = DownloadOptions(
        streams=options.streams,
        segment_bytes=parse_bytes(options.segment_size, what="--segment-size"),
        deadline_seconds=options.deadline,
        max_bytes_per_second=0 if options.max_rate == "0" else parse_bytes(options.max_rate, what="--max-rate"),
    )
    retry = Retry(attempts=options.attempts, base_seconds=options.backoff)
    if wanted.key.is_family:
        os.makedirs(options.destination, mode=0o700, exist_ok=True)

    def path(number: int) -> str:
        return os.path.join(options.destination, f"{number + 1:04}") if wanted.key.is_family else options.destination

    with bucket:
        arrived = fetch(
            bucket,
            wanted,
            lambda number: path(number) + PART_SUFFIX,
            retry=retry,
            options=how,
            copies=LocalCopies(options.reuse_from, "") if options.reuse_from else None,
        )
    for number, one in enumerate(arrived.objects):
        publish(one.part_path, path(number))
    return described(arrived, retry, options.destination)


def described(arrived: Arrived, retry: Retry, path: str) -> dict[str, object]:
    """The result as JSON; times in seconds, sizes in bytes."""
    return {
        "path": os.path.abspath(path),
        "key": arrived.found.key.value,
        "etag": arrived.found.etag,
        "version_id": arrived.found.version_id,
        "sha256": arrived.sha256,
        "size_bytes": sum(one.info.size_bytes for one in arrived.objects),
        "trust": arrived.trust.value,
        "seconds": round(arrived.seconds, 3),
        "attempts": arrived.attempts,
        "waited_seconds": round(retry.waited_seconds, 3),
        "resumed_bytes": arrived.resumed_bytes,
        "bytes_reused": arrived.bytes_reused,
        **({"objects": [_object(one) for one in arrived.objects]} if arrived.found.key.is_family else {}),
    }


def _object(one: Fetched) -> dict[str, object]:
    return {"key": one.info.key, "sha256": one.downloaded.sha256, "size_bytes": one.info.size_bytes}


def main(argv: list[str]) -> int:
    """0 and the result, or 1 and the error, as one line of JSON on the standard output."""
    options = parse(argv)
    try:
        print(json.dumps({"ok": True, **run(options)}))
        return 0
    except FlydError as error:
        print(json.dumps({"ok": False, "error_kind": error.kind.value, **error_to_json(error)}))
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
