#!/usr/bin/env python3
"""Archives of a few KB in the lab's S3, for tests that are about modules and playbooks, not about images: small_images.py DIRECTORY

Invariant: the bytes are the same on every run, so an object that is in S3 already is not sent again. Prints what there is as
variables for Ansible, in JSON: ``flyd_s3`` are options of flyd_fetch, ``flyd_images`` has key, bucket, sha256 and size of each archive.
``next_first`` is another object for the key of ``first``.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.unit.builders import images, tar

LAB = (sys.executable, str(Path(__file__).parents[1] / "vm/lab.py"))
BUCKET = "flyd-test"
NEXT_BUCKET = "flyd-test-next"  # what replaces an object lies in another bucket, under the same key


def _layers(word: bytes) -> list[bytes]:
    """Two layers: the second adds a file, replaces one and removes one."""
    lower = tar.tar(
        tar.directory(b"etc/"),
        tar.file(b"etc/motd", b"lower\n"),
        tar.file(b"etc/removed", b"of the lower layer alone\n"),
        tar.symlink(b"etc/link", b"motd"),
    )
    upper = tar.tar(tar.file(b"etc/motd", word + b"\n"), tar.file(b"etc/.wh.removed"), tar.file(b"data", word * 4096))
    return [lower, upper]


def _lying() -> bytes:
    """An archive whose second layer is not the one that its configuration promises."""
    honest = images.docker_members(_layers(b"lying"))
    return images.archive({**honest, b"layer1/layer.tar": tar.tar(tar.file(b"etc/motd", b"another\n"))})


ARCHIVES = {
    "first": images.docker_archive(_layers(b"first")),
    "second": images.oci_archive(_layers(b"second")),
    "lying": _lying(),
    "no_archive": b"This is a text, whatever its name says.\n" * 100,
}


def _lab(*arguments: str) -> str:
    return subprocess.run([*LAB, *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


def _put(directory: Path, name: str, data: bytes, bucket: str = BUCKET) -> dict[str, str | int]:
    file = directory / f"{bucket}-{name}.tar"
    file.write_bytes(data)
    key = f"integration/{name}.tar"
    _lab("s3", "put", str(file), key, "--bucket", bucket)
    return {"key": key, "bucket": bucket, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    _lab("s3", "up")
    environment = dict(line.split("=", 1) for line in _lab("s3", "env").splitlines())
    source = {
        "bucket": BUCKET,
        "endpoint_url": environment["FLYD_S3_ENDPOINT_FROM_VM"],
        "access_key": environment["AWS_ACCESS_KEY_ID"],
        "secret_key": environment["AWS_SECRET_ACCESS_KEY"],
    }
    found = {name: _put(directory, name, data) for name, data in ARCHIVES.items()}
    found["next_first"] = _put(directory, "first", images.docker_archive(_layers(b"next")), NEXT_BUCKET)
    print(json.dumps({"flyd_s3": source, "flyd_images": found}, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
