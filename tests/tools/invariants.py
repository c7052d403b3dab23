#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check on a machine, as root, that nothing is left of a fault once a run has succeeded after it.

    invariants.py STATE_DIR [--bases FILE] [--tree KEY=DIGEST ...] [--trees]

Prints one JSON object: ``violations``, a list of sentences (empty when all is well), and ``trees``, the digest of each base's tree by
object key (``--trees``). Exit code 1 when there is a violation.

    thin_ids     the thin ids in the pool's metadata are those in the store, and the transaction ids are equal
    expected     devices, loops, mounts and files are the expected list
    instances    the name of each confirmed instance points at its device
    copies       the copy of the database with each pool is whole
    locks        no lock and no intent is held by a process that is gone
    sound        the database, the pool's metadata and the file systems of bases and snapshots check clean
    trees        a base's tree has the digest that ``--tree`` gives
    sealed       the bytes of a base are those that an earlier run with the same ``--bases`` FILE found

machine_state.py reads the machine for it; neither shares code with what is checked, and neither leaves anything changed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from machine_state import (
    Host,
    backing_files,
    copied_metadata,
    files_below,
    is_alive,
    live_volumes,
    mapped,
    pool_uuid,
    repair_copies,
    run,
    volume_uuid,
)
from tree import rows_of_directory

_ZEROS = bytes(1 << 16)
# A run that is killed while it saves the counters leaves a .new, which the next one replaces.
_FILES = {"flyd.db", "log/flyd.jsonl", "log/counters.json", "log/counters.json.new"}
_ROTATED = re.compile(r"log/flyd-\d{6}\.jsonl")
_DUMP = re.compile(r"metadata-\d{6}\.xml\.gz")


def thin_ids(host: Host) -> Iterator[str]:
    """Store and metadata of each pool agree; the metadata passes thin_check."""
    for pool in host.active_pools():
        with copied_metadata(pool) as copy:
            checked = run("thin_check", copy, check=False)
            if checked.returncode:
                yield f"thin_check of the pool {pool['name']}: {checked.stderr or checked.stdout}"
            text = run("thin_dump", copy).stdout
        found = {int(number) for number in re.findall(r'<device dev_id="(\d+)"', text)}
        known = {row["thin_id"] for row in host.rows("SELECT thin_id FROM volumes WHERE pool_id=?", pool["id"])}
        found.discard(2**24 - 1)  # the start of a device, which no guest gets
        if found != known:
            yield f"the pool {pool['name']} has the thin ids {sorted(found)}, the store {sorted(known)}"
        transaction = re.search(r'<superblock [^>]*transaction="(\d+)"', text)
        if transaction is None or int(transaction[1]) != pool["transaction_id"]:
            number = transaction and transaction[1]
            yield f"the pool {pool['name']} is at transaction {number}, the store at {pool['transaction_id']}"


def expected(host: Host) -> Iterator[str]:
    """Devices, loops, mounts and files are those that the store explains."""
    yield from differing("devices", {device.uuid for device in host.devices()}, expected_devices(host))
    ours = [path for path in backing_files() if path.startswith(f"{host.state_dir}/")]
    loops = set(ours)
    for path in sorted(loops):
        if ours.count(path) > 1:
            yield f"{ours.count(path)} loop devices over {path}"
    pools = [pool for pool in host.active_pools() if pool["is_loop"]]
    wanted = {pool[part] for pool in pools for part in ("data", "metadata")}
    yield from differing("loop devices", loops, {path for path in wanted if path.startswith(f"{host.state_dir}/")})
    mounts = {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    # The state directory may be a file system of its own.
    yield from differing("mounts", {path for path in mounts if path.startswith(f"{host.state_dir}/")}, set())
    yield from differing("files", files_below(host.state_dir), expected_files(host))


def instances(host: Host) -> Iterator[str]:
    """The name of each instance that is confirmed points at its device; an open bind belongs to a run that is alive."""
    for row in host.rows("SELECT * FROM instances"):
        if row["target_id"]:
            continue  # see locks
        device = f"/dev/mapper/snap-{row['current_ulid']}"
        link = Path("/run/flyd/instances") / row["name"] / "device"
        found = os.readlink(link) if link.is_symlink() else "nothing"
        if found != device and os.path.exists(device):
            yield f"the instance {row['name']} points at {found}, not at {device}"


def copies(host: Host) -> Iterator[str]:
    """The copy of the database that lies with each pool is whole, and not of a later time than the pool."""
    for pool in host.rows("SELECT * FROM pools WHERE formatted"):
        path = host.state_dir / "pools" / pool["id"] / "flyd.db"
        if not path.exists():
            continue
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            said = connection.execute("PRAGMA integrity_check").fetchone()[0]
            found = connection.execute("SELECT transaction_id FROM pools WHERE id=?", (pool["id"],)).fetchone()
        if said != "ok":
            yield f"the copy of the database {path}: {said}"
        if found is not None and found[0] > pool["transaction_id"]:
            yield f"the copy of the database {path} is at transaction {found[0]}, the store at {pool['transaction_id']}"


def expected_devices(host: Host) -> set[str]:
    """The active pools, and the volumes of their snapshots."""
    volumes = host.rows("SELECT * FROM volumes WHERE ulid IN (SELECT ulid FROM snapshots)")
    pools = host.active_pools()
    active = {pool["id"] for pool in pools}
    return {pool_uuid(pool) for pool in pools} | {volume_uuid(one) for one in volumes if one["pool_id"] in active}


def expected_files(host: Host) -> set[str]:
    """The store, the log, the archives and families that a row names, the pools, and parts that an open download owns."""
    rows = host.rows("SELECT sha256, base_ulid FROM images UNION SELECT sha256, base_ulid FROM retired_images")
    there = files_below(host.state_dir)
    names = {row["sha256"] for row in rows}
    wanted = {name for name in there if name in _FILES or _ROTATED.fullmatch(name)}
    # An archive may be gone once its base is sealed, and a family lies in several files: what is there must be named.
    wanted |= {path for path in there if path.startswith("archives/") and explains(host, names, path)}
    for pool in host.rows("SELECT * FROM pools"):
        dumps = f"backup/{pool['name']}/"
        wanted |= {path for path in there if path.startswith(dumps) and _DUMP.fullmatch(path[len(dumps) :])}
        paths = repair_copies(host, pool) | ({pool["data"], pool["metadata"]} if pool["is_loop"] else set())
        wanted |= {os.path.relpath(path, host.state_dir) for path in paths}
        # The copy of the database, and what a run has left of one that was killed while it wrote it: the next copy replaces it.
        copies = {f"pools/{pool['id']}/flyd.db", f"pools/{pool['id']}/flyd.db.part"}
        wanted |= copies & there
    downloads = {row["ulid"] for row in host.rows("SELECT ulid FROM operations WHERE kind='fetch'")}
    wanted |= {path for path in there if path.startswith("spool/") and Path(path).name.split(".")[0] in downloads}
    return {path for path in wanted if not path.startswith("..")}


def explains(host: Host, names: set[str], path: str) -> bool:
    """Whether a row names the archive at ``path``: itself, or the family's list that lies beside it."""
    name = Path(path).name
    if name.split(".")[0] in names:
        return True
    lists = [host.state_dir / "archives" / f"{one}.family" for one in names]
    return any(name in file.read_text() for file in lists if file.exists())


def differing(what: str, found: set[str], wanted: set[str]) -> Iterator[str]:
    """A sentence for what is there and should not be, and one for what is missing."""
    if found - wanted:
        yield f"{what} that nothing explains: {', '.join(sorted(found - wanted))}"
    if wanted - found:
        yield f"{what} that are missing: {', '.join(sorted(wanted - found))}"


def locks(host: Host) -> Iterator[str]:
    """The one that holds a lock or an intent is alive; an interrupted download may wait for its next run."""
    waiting = {f"bind of {row['name']}" for row in host.rows("SELECT name FROM instances WHERE deadline_seconds > 0")}
    for table, what in (("_busy", "name"), ("operations", "kind || ' of ' || subject")):
        for row in host.rows(f"SELECT {what} AS what, boot_id, pid, started FROM {table}"):  # noqa: S608 - our own names
            if row["what"] in waiting or row["what"].startswith("fetch of"):
                continue
            if not is_alive(row["boot_id"], row["pid"], row["started"]):
                yield f"{table} has {row['what']}, whose process {row['pid']} is gone"


def sound(host: Host, devices: dict[str, str]) -> Iterator[str]:
    """SQLite and e2fsck have nothing to say."""
    said = [row["integrity_check"] for row in host.rows("PRAGMA integrity_check")]
    if said != ["ok"]:
        yield f"the database: {'; '.join(said)}"
    for volume in live_volumes(host):
        checked = run("e2fsck", "-f", "-n", devices[volume["ulid"]], check=False)
        if checked.returncode:
            yield f"e2fsck of {volume['kind']}-{volume['ulid']}: {checked.stdout}{checked.stderr}"


def bases(host: Host) -> Iterator[tuple[str, dict[str, Any]]]:
    """Object key and volume of each sealed base; of an earlier generation, the key with the generation's id behind it."""
    sql = "SELECT object_key, id, base_ulid, {0} AS old FROM {1}"
    images = [*host.rows(sql.format(0, "images")), *host.rows(sql.format(1, "retired_images"))]
    for image in images:
        for volume in live_volumes(host):
            if volume["ulid"] == image["base_ulid"]:
                yield image["object_key"] + (f"@{image['id']}" if image["old"] else ""), volume


def tree_digests(host: Host, devices: dict[str, str]) -> dict[str, str]:
    """The digest of each base's tree, by object key."""
    digests = {}
    for key, volume in bases(host):
        with tempfile.TemporaryDirectory() as directory:
            run("mount", "-o", "ro,noload,nodev,nosuid,noexec", devices[volume["ulid"]], directory)
            try:
                rows = rows_of_directory(Path(directory), exact=True)
            finally:
                run("umount", directory)
        digests[key] = hashlib.sha256("\n".join("\t".join(row) for row in rows.values()).encode()).hexdigest()
    return digests


def sealed(host: Host, devices: dict[str, str], remembered: Path) -> Iterator[str]:
    """The bytes of each base are what they were; new ones are remembered."""
    before: dict[str, str] = json.loads(remembered.read_text()) if remembered.exists() else {}
    for _key, volume in bases(host):
        digest = digest_of(devices[volume["ulid"]])
        if before.setdefault(volume["ulid"], digest) != digest:
            yield f"the sealed base {volume['ulid']} has changed"
    remember(before, remembered)


def digest_of(device: str) -> str:
    """Of where on the device there is something else than zeros, and what: most of a new volume is zeros, which take long to hash."""
    digest, at = hashlib.sha256(), 0
    with open(device, "rb", buffering=0) as file:
        while chunk := file.read(len(_ZEROS)):
            if chunk != _ZEROS:
                digest.update(b"%d:" % at)
                digest.update(chunk)
            at += len(chunk)
    return digest.hexdigest()


def remember(digests: dict[str, str], path: Path) -> None:
    """Bring them to disk, whole or not at all: the machine's power may be cut next."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w") as file:
        json.dump(digests, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(part, path)
    directory = os.open(path.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def report(given: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for."""
    host = Host(Path(os.path.normpath(given.state_dir)))
    violations: list[str] = []
    for check in (thin_ids, expected, instances, copies, locks):
        violations += [f"{check.__name__}: {line}" for line in check(host)]
    with mapped(host, live_volumes(host)) as devices:
        violations += [f"sound: {line}" for line in sound(host, devices)]
        trees = tree_digests(host, devices) if given.trees or given.tree else {}
        for key, wanted in (pair.rsplit("=", 1) for pair in given.tree):
            if trees.get(key) not in (wanted, None):
                violations.append(f"trees: the tree of {key} is {trees[key]}, not {wanted}")
        if given.bases:
            violations += [f"sealed: {line}" for line in sealed(host, devices, given.bases)]
    return {"violations": violations, "trees": trees}


def main() -> int:
    """Print the report; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("state_dir")
    parser.add_argument("--bases", type=Path, metavar="FILE", help="remembers the digests of sealed bases")
    parser.add_argument("--tree", action="append", default=[], metavar="KEY=DIGEST", help="what a base's tree must be")
    parser.add_argument("--trees", action="store_true", help="report the digests of the trees")
    found = report(parser.parse_args())
    print(json.dumps(found))
    return 1 if found["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
