"""What may fail on a host, as rows of a table: what is wrong, what is run, and what an operator must then read.

Invariant: each row makes one thing wrong and undoes it again, so that the run after it finds the host as it was.
"""

from __future__ import annotations

import functools
import gzip
import uuid
from dataclasses import dataclass, field
from typing import Any

from tests.campaigns.harness.target import Step
from tests.unit.builders import images, tar

STATE_DIR = "/var/lib/flyd-failures"
KEYS = (
    f"failures/{uuid.uuid4().hex}/"  # the server keeps what earlier runs have put, and one object must not be there yet
)
POOL, TINY_POOL = "failures", "failures-tiny"
DATABASE = f"{STATE_DIR}/flyd.db"
VENV = "/opt/flyd/venv"
SMALL = images.docker_archive([tar.tar(tar.file(b"hello", b"from a small image\n"))])
LARGE = images.docker_archive(
    [tar.tar(tar.file(b"large", b"0123456789abcdef" * (1 << 20)))], functools.partial(gzip.compress, mtime=0)
)
BAD_KEYS = ("", "images/new\nline.tar", "k" * 2000)


@dataclass(frozen=True)
class Failure:
    """One row. ``says`` stands in the message and ``advice`` in the hint; ``wrong`` and ``repair`` are shell commands in the machine.

    ``right`` are the runs that must succeed afterwards, without ``wrong``. ``by_ansible``: run by Ansible itself, which a user that is
    not root and an interpreter without packages need; the others run on the machine, in a fraction of the time.
    """

    name: str
    module: str
    options: dict[str, Any]
    kind: str
    says: str
    advice: str
    retryable: bool = False
    wrong: str = ""
    mend: str = ""
    become_user: str = "root"
    right: tuple[Step, ...] = ()
    objects: dict[str, bytes] = field(default_factory=dict)  # uploaded after the failure, before the right run
    by_ansible: bool = False


def user_version(number: int) -> str:
    return f'python3 -c \'import sqlite3; sqlite3.connect("{DATABASE}").execute("PRAGMA user_version={number}")\''


def failures(s3: dict[str, Any], version: int) -> list[Failure]:
    """The table; ``s3`` are the options that reach the server, ``version`` is that of the store's schema."""

    def fetch(key: str, **options: Any) -> Step:
        return Step("flyd_fetch", {**s3, "state_dir": STATE_DIR, "key": key, **options})

    def local(module: str, key: str, **options: Any) -> Step:
        return Step(module, {"state_dir": STATE_DIR, "pool": POOL, "key": key, **options})

    def failing(step: Step) -> dict[str, Any]:
        return {"module": step.module, "options": step.options}

    pool = Step("flyd_pool", {"state_dir": STATE_DIR, "name": POOL, "data_size": "64M"})
    sound, sums = f"{KEYS}sound.tar", "sha256:" + "0" * 64
    return [
        Failure(
            "a missing object", **failing(fetch(f"{KEYS}late.tar")), kind="bad_input",
            says=f"{KEYS}late.tar", advice="key", objects={f"{KEYS}late.tar": SMALL}, right=(fetch(f"{KEYS}late.tar"),), by_ansible=True,
        ),
        Failure(
            "a missing bucket", **failing(fetch(sound, bucket="no-such-bucket")), kind="bad_input",
            says="no-such-bucket", advice="bucket", right=(fetch(sound),),
        ),
        Failure(
            "wrong credentials", **failing(fetch(sound, access_key="NOBODY", secret_key="wrong")), kind="bad_input",
            says="credentials are not accepted", advice="access_key", right=(fetch(sound),),
        ),
        Failure(
            "an endpoint that nobody answers at", **failing(fetch(sound, endpoint_url="http://127.0.0.1:9", retries=1, retry_delay=0.1)),
            kind="transient", retryable=True, says="127.0.0.1:9", advice="endpoint", right=(fetch(sound),),
        ),
        Failure(
            "a checksum that does not match", **failing(fetch(f"{KEYS}summed.tar", checksum=sums)), kind="untrusted",
            says="0" * 64, advice="checksum", right=(fetch(f"{KEYS}summed.tar"),),
        ),
        Failure(
            "an object larger than max_size", **failing(fetch(f"{KEYS}summed.tar", max_size="1K")), kind="bad_input",
            says="max_size", advice="max_size", right=(fetch(f"{KEYS}summed.tar"),),
        ),
        Failure(
            "a disk too small", **failing(fetch(sound, state_dir="/mnt/small/flyd")), kind="no_space",
            says="/mnt/small/flyd", advice="room",
            wrong="mkdir -p /mnt/small && mount -t tmpfs -o size=8m small /mnt/small", mend="umount /mnt/small && rmdir /mnt/small",
            right=(fetch(sound),),
        ),
        Failure(
            "a file that is no archive", **failing(local("flyd_unpack", f"{KEYS}text.tar")), kind="untrusted",
            says="archive", advice="upload the image", objects={f"{KEYS}text.tar": SMALL},
            right=(fetch(f"{KEYS}text.tar"), local("flyd_unpack", f"{KEYS}text.tar")),
        ),
        *(
            Failure(f"a key that cannot be one ({key[:20]!r})", **failing(fetch(key)), kind="bad_input",
                    says="object key", advice="images/redis_latest.tar", right=(fetch(sound),), by_ansible="\n" in key)
            for key in BAD_KEYS
        ),
        Failure(
            "a pool without room", **failing(local("flyd_unpack", f"{KEYS}large.tar", pool=TINY_POOL)), kind="no_space",
            says=TINY_POOL, advice="data_size", right=(local("flyd_unpack", f"{KEYS}large.tar"),),
        ),
        Failure(
            "unpacking before fetching", **failing(local("flyd_unpack", f"{KEYS}unfetched.tar")), kind="out_of_order",
            says="not yet fetched", advice="flyd_fetch", objects={f"{KEYS}unfetched.tar": SMALL},
            right=(fetch(f"{KEYS}unfetched.tar"), local("flyd_unpack", f"{KEYS}unfetched.tar")),
        ),
        Failure(
            "a snapshot before unpacking", **failing(local("flyd_snapshot", f"{KEYS}packed.tar")), kind="out_of_order",
            says="not yet unpacked", advice="flyd_unpack",
            right=(local("flyd_unpack", f"{KEYS}packed.tar"), local("flyd_snapshot", f"{KEYS}packed.tar")),
        ),
        Failure(
            "dmsetup not installed", **failing(pool), kind="unsupported", says="dmsetup", advice="flyd.lite.prepare",
            wrong="mv /usr/sbin/dmsetup /usr/sbin/dmsetup.away", mend="mv /usr/sbin/dmsetup.away /usr/sbin/dmsetup", right=(pool,),
        ),
        Failure(
            "no boto3, no python-ulid", **failing(fetch(f"{KEYS}other.tar")), kind="unsupported", says="is not installed", advice="flyd.lite.prepare",
            wrong=f"mv {VENV} {VENV}.away", mend=f"mv {VENV}.away {VENV}", right=(fetch(f"{KEYS}other.tar"),),
            by_ansible=True,
        ),
        Failure(
            "not root", **failing(pool), kind="unsupported", says="not as root", advice="become", become_user="nobody", right=(pool,),
            by_ansible=True,
        ),
        Failure(
            "a database of a later version", **failing(pool), kind="unsupported", says="schema version 99", advice="later flyd.lite",
            wrong=user_version(99), mend=user_version(version), right=(pool,),
        ),
        Failure(
            "a state directory that anybody may write to", **failing(pool), kind="bad_input", says="mode 0777", advice="chmod 0700",
            wrong=f"chmod 0777 {STATE_DIR}", mend=f"chmod 0700 {STATE_DIR}", right=(pool,),
        ),
    ]  # fmt: skip
