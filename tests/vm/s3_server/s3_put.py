"""Uploading one file to the lab's S3 server.

Invariant: the server only accepts the bytes whose SHA-256 was computed here (ChecksumSHA256), and an
object that already has this size and hash is left alone, so a second run costs one HEAD request.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from programs import LabError
from s3_server.s3 import S3

DEFAULT_BUCKET = "flyio-platform-hiring-challenge"
_SHA256_METADATA = "sha256"
_REGION = "us-east-1"


@dataclass(frozen=True)
class Upload:
    """What became of a put: the object's URL form, its size and hash, and whether bytes were sent."""

    target: str
    size_bytes: int
    sha256: str
    sent: bool


def put(server: S3, file: Path, key: str, bucket: str = DEFAULT_BUCKET) -> Upload:
    """Have the bytes of ``file`` at ``key`` in ``bucket``, which is created when missing."""
    boto3 = _module("boto3")
    exceptions = _module("botocore.exceptions")
    digest = _sha256(file)
    url = server.url()
    credentials = server.credentials
    client = boto3.client(
        "s3",
        endpoint_url=url,
        region_name=_REGION,
        aws_access_key_id=credentials.access_key_id,
        aws_secret_access_key=credentials.secret_access_key,
    )
    try:
        sent = _send(client, exceptions.ClientError, file, digest, {"Bucket": bucket, "Key": key})
    except (exceptions.ClientError, exceptions.BotoCoreError) as error:
        raise LabError(f"{file} cannot be put to s3://{bucket}/{key}: {error}") from None
    return Upload(f"s3://{bucket}/{key}", file.stat().st_size, digest.hex(), sent)


def _send(client: Any, client_error: type[Exception], file: Path, digest: bytes, where: dict[str, str]) -> bool:
    try:
        head = client.head_object(**where)
    except client_error:
        head = {}
    if head.get("ContentLength") == file.stat().st_size and head["Metadata"].get(_SHA256_METADATA) == digest.hex():
        return False
    if where["Bucket"] not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
        client.create_bucket(Bucket=where["Bucket"])
    with file.open("rb") as body:
        checksum = base64.b64encode(digest).decode()
        client.put_object(**where, Body=body, ChecksumSHA256=checksum, Metadata={_SHA256_METADATA: digest.hex()})
    return True


def _sha256(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _module(name: str) -> Any:
    # Imported late: everything else in the lab runs on the standard library alone.
    try:
        return importlib.import_module(name)
    except ImportError:
        raise LabError("boto3 is missing: python -m pip install boto3") from None
