# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine on a simulated host: every arrow as its module calls it, killed where a test wants it, and what must hold afterwards.

Invariant: each run has a host of its own (store, runner, device-mapper), as each module is a process of its own. ``save`` and
``restore`` put the host back as it was at the same paths, so that what is slow to make is made once.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from module_utils._host.processes.command import CommandLine, Runner
from module_utils._host.processes.crash import VARIABLE
from module_utils._image.limits import Limits
from module_utils._lifecycle.at_end import at_end
from module_utils._lifecycle.backup.dump_all import dump_all
from module_utils._lifecycle.fetch.fetch import Fetch
from module_utils._lifecycle.fetch.options import FetchOptions, OnChange
from module_utils._lifecycle.fetch.options import Reuse as FetchReuse
from module_utils._lifecycle.image.advance import advance
from module_utils._lifecycle.image.remove import RemoveBase, RemoveSnapshot
from module_utils._lifecycle.image.remove_image import RemoveArchive
from module_utils._lifecycle.image.seals import seal
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.pool.data_size import DataSize
from module_utils._lifecycle.pool.ensure import ensure_pool
from module_utils._lifecycle.pool.repair import repair_pool
from module_utils._lifecycle.pool.request import PoolRequest
from module_utils._lifecycle.pool.teardown import remove_pool
from module_utils._lifecycle.prune.options import PruneOptions
from module_utils._lifecycle.prune.prune import prune
from module_utils._lifecycle.run import Run
from module_utils._lifecycle.settings import Settings
from module_utils._lifecycle.snapshot.device_node import NodeAccess
from module_utils._lifecycle.snapshot.options import SnapshotOptions
from module_utils._lifecycle.snapshot.snapshot import Activate
from module_utils._lifecycle.store.base_record import BaseRecord
from module_utils._lifecycle.store.records import (
    Archive,
    Image,
    Operation,
    PoolRecord,
    RetiredImage,
    Snapshot,
    State,
    Volume,
    VolumeState,
)
from module_utils._lifecycle.store.store import open_store
from module_utils._lifecycle.unpack import choosing
from module_utils._lifecycle.unpack.inject import Injected
from module_utils._lifecycle.unpack.options import Reuse, UnpackOptions
from module_utils._lifecycle.unpack.unpack import Unpack
from module_utils._names import ObjectKey, ShortName
from module_utils._source.digests.checksum import ChecksumPolicy
from module_utils._source.download.retry_policy import DownloadOptions
from module_utils._source.place import Place
from module_utils._source.s3.bucket import S3Options
from module_utils._thin.pool.health import status
from module_utils._thin.pool.reserve import RESERVED_ID
from tests.unit._lifecycle.disk import in_process, picture
from tests.unit._lifecycle.s3_stand_in import BUCKET, S3StandIn
from tests.unit.builders import images, tar
from tests.unit.fakes.host import FakeHost

if TYPE_CHECKING:
    from tests.unit._lifecycle.instance.machine import Bound

KEY = ObjectKey("images/redis_latest.tar")
LAYERS = (
    tar.tar(tar.directory(b"etc"), tar.file(b"etc/old", b"gone"), tar.file(b"etc/kept", b"kept")),
    tar.tar(tar.file(b"etc/.wh.old"), tar.file(b"redis-server", b"#!", mode=0o755)),
)
ARCHIVE = images.docker_archive(LAYERS)
OTHER_ARCHIVE = images.docker_archive(LAYERS[:1])
NEXT_LAYERS = (LAYERS[0], tar.tar(tar.file(b"etc/.wh.old"), tar.file(b"redis-server", b"#?", mode=0o755)))
NEXT_ARCHIVE = images.docker_archive(NEXT_LAYERS)  # of the next generation
OTHER_KEY = ObjectKey("images/other.tar")
OTHER_LAYERS = (LAYERS[0], tar.tar(tar.file(b"other", b"own")))
POOL_BYTES, METADATA_BYTES, BASE_BYTES = 4 << 20, 256 << 10, 1 << 20
Work = Callable[[Run], Outcome]


class Machine:
    """A host with the state directory ``state``; the arrows take the options of their modules and default to what suits a test."""

    def __init__(self, root: Path, s3: S3StandIn) -> None:
        self.fake = FakeHost(root)
        self.root = root
        self.state = root / "state"
        self.s3 = s3
        self.lock_timeout_seconds = 30.0
        self.store_busy_seconds = 5.0
        self.starts_over = False
        self.retries = 0
        self.waits: list[float] = []  # the seconds that runs would have waited between attempts
        self.ran: list[CommandLine] = []  # the programs of the last run

    # Runs

    @contextlib.contextmanager
    def host(self, *, dry_run: bool = False, pool: str = "") -> Iterator[Run]:
        """A run of its own; without ``pool`` in the default one, which is not named then."""
        name, timeout_seconds = ShortName(pool or "pool"), self.lock_timeout_seconds
        settings = Settings(
            str(self.state), name, timeout_seconds, 20.0, self.retries, 0.01, self.starts_over, names_pool=bool(pool)
        )
        store = open_store(settings.path("flyd.db"), writable=not dry_run, busy_seconds=self.store_busy_seconds)
        try:
            runner = Runner(timeout_seconds=20.0, search=self.fake.runner.search)
            self.ran = runner.ran
            host = Run(settings, store, runner, self.fake.device_mapper(runner), dry_run=dry_run)
            host.retry.sleep = self.waits.append
            try:
                yield host
            finally:
                at_end(host)  # as modules do
        finally:
            store.close()

    def run(self, work: Work, *, dry_run: bool = False, pool: str = "") -> Outcome:
        with self.host(dry_run=dry_run, pool=pool) as host:
            return work(host)

    def killed_at(self, label: str, work: Callable[[], object]) -> None:
        """Do ``work`` in another process, which a power cut ends at the crash point ``label``."""

        def work_until_killed() -> None:
            os.environ[VARIABLE] = label
            work()

        assert in_process(work_until_killed) == signal.SIGKILL, f"{label} was not reached"

    # The arrows

    def pool(self, *, dry_run: bool = False, **given: Any) -> Outcome:
        """flyd_pool."""
        data_bytes = given.pop("data_bytes", POOL_BYTES)
        chosen = {
            "name": "pool",
            "data_size": None if data_bytes is None else DataSize(data_bytes),
            "metadata_bytes": METADATA_BYTES,
            "error_if_no_space": True,
            "min_free_percent": 0,
            **given,
        }
        request = PoolRequest(**{**chosen, "name": ShortName(chosen["name"])})
        return self.run(lambda host: ensure_pool(host, request), dry_run=dry_run, pool=chosen["name"])

    def grow(self, *, dry_run: bool = False, **given: Any) -> Outcome:
        """flyd_pool, asked for twice the size."""
        return self.pool(
            dry_run=dry_run, **{"data_bytes": 2 * POOL_BYTES, "metadata_bytes": 2 * METADATA_BYTES, **given}
        )

    def fetch(
        self,
        *,
        dry_run: bool = False,
        key: ObjectKey = KEY,
        checksum: str = "",
        policy: str = "first_use",
        max_bytes: int = 1 << 30,
        on_change: str = "follow",
        pool: str = "",
        pool_bytes: int = 0,
        place: Place | None = None,
        reuse: FetchReuse = FetchReuse.AUTO,
        max_rate: int = 0,
    ) -> Outcome:
        """flyd_fetch."""
        source = S3Options(bucket=BUCKET, endpoint_url=self.s3.url, region="us-east-1", anonymous=True)
        change = OnChange(on_change)
        given = FetchOptions(
            key, source, checksum, ChecksumPolicy(policy), max_bytes, on_change=change, pool_bytes=pool_bytes
        )
        how = DownloadOptions(max_bytes_per_second=max_rate)
        arrow = Fetch(given._replace(place=place or Place(), reuse=reuse, download=how))
        return self.run(lambda host: advance(host, key, arrow), dry_run=dry_run, pool=pool)

    def fetch_next(self) -> Outcome:
        """flyd_fetch of the next generation."""
        self.s3.put(KEY.value, NEXT_ARCHIVE)
        return self.fetch()

    def unpack(
        self,
        *,
        dry_run: bool = False,
        key: ObjectKey = KEY,
        size_bytes: int = BASE_BYTES,
        free_bytes: int = 0,
        keep_archive: bool = True,
        pool: str = "",
        assume: Collection[str] = (),
        sha256: str = "",
        inject: tuple[Injected, ...] = (),
        reuse: Reuse = Reuse.AUTO,
    ) -> Outcome:
        """flyd_unpack."""
        options = UnpackOptions(
            key, size_bytes, Limits(), keep_archive=keep_archive, free_bytes=free_bytes, assume=frozenset(assume)
        )
        arrow = Unpack(options._replace(sha256=sha256, inject=inject, reuse=reuse))
        return self.run(lambda host: advance(host, key, arrow), dry_run=dry_run, pool=pool)

    def unpack_and_drop_archive(self) -> Outcome:
        """flyd_unpack that does not keep the archive."""
        return self.unpack(keep_archive=False)

    def unpack_onto(self) -> Outcome:
        """flyd_unpack of a size that is computed, which can make the base of an earlier one."""
        return self.unpack(size_bytes=0)

    def unpack_grown(self) -> Outcome:
        """The same, with more free space than the earlier base has."""
        return self.unpack(size_bytes=0, free_bytes=2 << 30)

    def publish_other(self, *layers: bytes, key: ObjectKey = OTHER_KEY) -> None:
        """The archive of another image, of ``layers`` or with the lowest layer of the first one."""
        self.s3.put(key.value, images.docker_archive(layers or OTHER_LAYERS))
        self.fetch(key=key)

    def unpack_other(self, *, key: ObjectKey = OTHER_KEY, least_shared_bytes: int = 1, **given: Any) -> Outcome:
        """flyd_unpack of that image, for which a hidden base is made, however small its layers are."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(choosing, "LEAST_SHARED_BYTES", least_shared_bytes)
            return self.unpack(**{"size_bytes": 0, "key": key, **given})

    def remove_sharers(self) -> None:
        """Remove both images, so that nothing needs the hidden base."""
        for key in (KEY, OTHER_KEY):
            self.remove_archive(key=key, force=True)

    def snapshot(
        self,
        name: str = "default",
        *,
        dry_run: bool = False,
        key: ObjectKey = KEY,
        size_bytes: int = 0,
        read_only: bool | None = None,
        access: NodeAccess | None = None,
        pool: str = "",
        assume: Collection[str] = (),
        sha256: str = "",
        recreate: bool = False,
    ) -> Outcome:
        """flyd_snapshot."""
        options = SnapshotOptions(
            key, ShortName(name), size_bytes, read_only, access or NodeAccess(), frozenset(assume), sha256, recreate
        )
        return self.run(lambda host: advance(host, key, Activate(options)), dry_run=dry_run, pool=pool)

    # Removal

    def remove_snapshot(
        self, name: str = "default", *, dry_run: bool = False, key: ObjectKey = KEY, pool: str = "", sha256: str = ""
    ) -> Outcome:
        """flyd_snapshot, state absent."""
        arrow = RemoveSnapshot(key.value, name, sha256=sha256)
        return self.run(lambda host: advance(host, key, arrow), dry_run=dry_run, pool=pool)

    def remove_base(
        self, *, dry_run: bool = False, key: ObjectKey = KEY, force: bool = False, pool: str = "", sha256: str = ""
    ) -> Outcome:
        """flyd_unpack, state absent."""
        arrow = RemoveBase(key.value, force=force, sha256=sha256)
        return self.run(lambda host: advance(host, key, arrow), dry_run=dry_run, pool=pool)

    def remove_archive(
        self, *, dry_run: bool = False, key: ObjectKey = KEY, force: bool = False, pool: str = "", sha256: str = ""
    ) -> Outcome:
        """flyd_fetch, state absent."""
        arrow = RemoveArchive(key.value, force=force, sha256=sha256)
        return self.run(lambda host: advance(host, key, arrow), dry_run=dry_run, pool=pool)

    def remove_image(self, *, dry_run: bool = False, pool: str = "") -> Outcome:
        """flyd_fetch, state absent, with force."""
        return self.remove_archive(dry_run=dry_run, force=True, pool=pool)

    def remove_pool(self, name: str = "pool", *, dry_run: bool = False, force: bool = False) -> Outcome:
        """flyd_pool, state absent."""
        return self.run(lambda host: remove_pool(host, ShortName(name), force=force), dry_run=dry_run, pool=name)

    def remove_all(self, *, dry_run: bool = False, pool: str = "") -> Outcome:
        """flyd_unpack, state absent, with force."""
        return self.remove_base(dry_run=dry_run, force=True, pool=pool)

    def tear_down(self, *, dry_run: bool = False) -> Outcome:
        """flyd_pool, state absent, with force."""
        return self.remove_pool(dry_run=dry_run, force=True)

    def repair(self, *, dry_run: bool = False, metadata_bytes: int = 0) -> Outcome:
        """flyd_pool, state repaired."""
        return self.run(lambda host: repair_pool(host, ShortName("pool"), metadata_bytes), dry_run=dry_run)

    def dump(self) -> Outcome:
        """What flyd-backup.service does."""
        return self.run(dump_all)

    # Instances

    def bind(self) -> Outcome:
        """flyd_instance."""
        return self._bound().call("present", switch=("/bin/true",))

    def go_back(self) -> Outcome:
        """flyd_instance, state previous."""
        return self._bound().call("previous")

    def unbind(self) -> Outcome:
        """flyd_instance, state absent."""
        return self._bound().call("absent")

    # Clean-up

    def prune(self, *, dry_run: bool = False, pool: str = "", **given: Any) -> Outcome:
        """flyd_prune; without options, all that may go goes."""
        options = PruneOptions(**{"keep": 0, **given})
        return self.run(lambda host: prune(host, options), dry_run=dry_run, pool=pool)

    def _bound(self) -> Bound:
        from tests.unit._lifecycle.instance.machine import Bound  # late: it is made for this machine

        return Bound(self)

    # What there is

    def records(self, record: type[Any]) -> list[Any]:
        """The rows of a table."""
        with self.host(dry_run=True) as host:
            return host.store.all(record)

    def digest_of(self, image_id: str) -> str:
        """The digest of a generation."""
        return next((one.sha256 for one in self.generations() if one.id == image_id), "")

    def image(self, key: ObjectKey = KEY) -> Image | None:
        with self.host(dry_run=True) as host:
            return host.store.image(str(key))

    def states(self) -> list[State]:
        """Of every current image."""
        return [image.state for image in self.records(Image)]

    def generations(self) -> list[Image]:
        """The current images, and those that were retired."""
        return [*self.records(Image), *self.records(RetiredImage)]

    def log(self) -> list[dict[str, Any]]:
        """The lines of the log."""
        return [json.loads(line) for line in (self.state / "log" / "flyd.jsonl").read_text().splitlines()]

    def everything(self) -> dict[str, object]:
        """All that may change: files of the state directory, devices, loops, thin ids. Equal before and after: nothing was written."""
        pools = [name for name, device in self.fake.devices().items() if " thin-pool " in (device["table"] or "")]
        return {
            "files": picture(self.state) if self.state.exists() else {},
            "devices": self.fake.devices(),
            "loops": self.fake.loops(),
            "thin ids": {name: self.fake.thin_ids(name) for name in pools},
        }

    def left_over(self) -> list[str]:
        """Everything that contradicts the invariants of a host at rest; empty when all is well."""
        volumes, snapshots, pools = self.records(Volume), self.records(Snapshot), self.records(PoolRecord)
        bases = self.records(BaseRecord)
        uuids = {pool.uuid for pool in pools} | {
            volume.uuid for volume in volumes if volume.ulid in {snapshot.ulid for snapshot in snapshots}
        }
        checks = {
            "thin ids of the pool and of the store": (
                {pool.name: self.fake.thin_ids(pool.name) - {RESERVED_ID} for pool in pools},
                {pool.name: {one.thin_id for one in volumes if one.pool_id == pool.id} for pool in pools},
            ),
            "volumes in work": ([one for one in volumes if one.state is not VolumeState.LIVE], []),
            "pools in work": ([one for one in pools if not one.formatted], []),
            "open intents": (self.records(Operation), []),
            "mapped devices": ({device["uuid"] for device in self.fake.devices().values()}, uuids),
            "loops": (sorted(self.fake.loops().values()), sorted(path for one in pools for path in self.files_of(one))),
            "sizes": (
                [(os.stat(one.data).st_size, os.stat(one.metadata).st_size) for one in pools if one.is_loop],
                [(one.data_sectors * 512, one.metadata_bytes) for one in pools if one.is_loop],
            ),
            "archives": (self.files_in("archives"), sorted(self.archives_to_keep())),
            "spool": (self.files_in("spool"), []),
            "mnt": (self.files_in("mnt"), []),
            "manifests": (sorted({*self.files_in("manifests")} - {one.ulid for one in volumes}), []),
            "manifests that are missing": (
                sorted({one.base_ulid for one in bases if one.manifest_sha256} - {*self.files_in("manifests")}),
                [],
            ),
            "dumps": (self.wrong_dumps(pools), []),
            "pools": (self.files_in("pools"), sorted(pool.id for pool in pools if pool.is_loop)),
        }
        with self.host(dry_run=True) as host:
            checks["locks"] = (host.store.rows("SELECT name FROM _busy"), [])
            checks["integrity"] = (host.store.rows("PRAGMA integrity_check"), [("ok",)])
        return [f"{what}: {have}, not {want}" for what, (have, want) in checks.items() if have != want]

    def wrong_dumps(self, pools: list[PoolRecord]) -> list[str]:
        """What lies in the directory of dumps and is none of a pool, and pools whose metadata snapshot was not released."""
        names = {pool.name for pool in pools}
        found = [path for path in (self.state / "backup").rglob("*") if path.is_file()]
        wrong = [str(path) for path in found if path.parent.name not in names or not path.name.endswith(".xml.gz")]
        held = [pool.name for pool in pools if status(self.fake.dm, pool.name).held_metadata_root is not None]
        return sorted(wrong) + held

    def archives_to_keep(self) -> set[str]:
        """The digests of what some generation has not let go."""
        kept = [one for one in self.generations() if one.keep_archive or (one.state is State.FETCHED)]
        return {digest for image in kept for digest in image.digests}

    def files_in(self, directory: str) -> list[str]:
        return sorted(path.name for path in (self.state / directory).glob("*"))

    def files_of(self, pool: PoolRecord) -> list[str]:
        return [pool.data, pool.metadata] if pool.is_loop else []

    def tree_of(self, volume: Volume) -> dict[str, bytes]:
        """Path and content of the files on a volume of the only pool."""
        [tree] = self.root.glob(f"volumes/*/{volume.thin_id}.tree")
        return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}

    # Stages

    def save(self, name: str) -> None:
        """Keep the host as it is."""
        _copy(self.root, self.root.with_name(f"saved-{name}"))

    def restore(self, name: str) -> None:
        """Put the host back as it was when it was saved under ``name``."""
        shutil.rmtree(self.root)
        _copy(self.root.with_name(f"saved-{name}"), self.root)
        if (self.state / "flyd.db").exists():
            self._seal_archives()

    def _seal_archives(self) -> None:
        """Record how the archives look: copies have other inodes and times."""
        with self.host() as host, host.store.transaction():
            for archive in host.store.all(Archive):
                seal(host, archive.sha256)


def _copy(source: Path, target: Path) -> None:
    """Copy a tree with its holes: volumes and backing files are nearly empty."""
    shutil.copytree(source, target, symlinks=True, copy_function=_copy_file)


def _copy_file(source: str, target: str) -> None:
    with open(source, "rb", buffering=0) as old, open(target, "wb", buffering=0) as new:
        size = os.fstat(old.fileno()).st_size
        end = 0
        with contextlib.suppress(OSError):  # ENXIO: only a hole is left
            while end < size:
                first = os.lseek(old.fileno(), end, os.SEEK_DATA)
                end = os.lseek(old.fileno(), first, os.SEEK_HOLE)
                os.pwrite(new.fileno(), os.pread(old.fileno(), end - first, first), first)
        new.truncate(size)
    shutil.copystat(source, target)
