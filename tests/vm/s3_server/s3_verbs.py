"""The verbs of lab.py about the S3 server."""

from __future__ import annotations

import argparse
from pathlib import Path

from disks.cache import Cache
from s3_server.s3 import S3
from s3_server.s3_put import DEFAULT_BUCKET, put


def s3_up(cache: Cache, _: argparse.Namespace) -> None:
    print(S3(cache).up())


def s3_down(cache: Cache, _: argparse.Namespace) -> None:
    S3(cache).down()


def s3_url(cache: Cache, _: argparse.Namespace) -> None:
    print(S3(cache).url())


def s3_env(cache: Cache, _: argparse.Namespace) -> None:
    for name, value in S3(cache).environment().items():
        print(f"{name}={value}")


def s3_put(cache: Cache, options: argparse.Namespace) -> None:
    done = put(S3(cache), options.file, options.key, options.bucket)
    print(f"{done.target} {'uploaded' if done.sent else 'unchanged'} {done.size_bytes} sha256:{done.sha256}")


def add_s3(parser: argparse.ArgumentParser) -> None:
    """Add them to the verb ``s3`` of the command line."""
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    verbs.add_parser("up", help="start it and print its URL").set_defaults(act=s3_up)
    verbs.add_parser("down", help="end it; the objects stay").set_defaults(act=s3_down)
    verbs.add_parser("url", help="print its URL").set_defaults(act=s3_url)
    verbs.add_parser("env", help="print its URL and credentials as variables").set_defaults(act=s3_env)
    putting = verbs.add_parser("put", help="upload a file, unless it is there already")
    putting.add_argument("file", type=Path)
    putting.add_argument("key")
    putting.add_argument("--bucket", default=DEFAULT_BUCKET)
    putting.set_defaults(act=s3_put)
