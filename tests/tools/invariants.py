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

machine_state.py reads the machine; residue.py and sealed_bases.py have the longer checks. None of them shares code with what is checked or
leaves anything changed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from machine_state import Host, copied_metadata, is_alive, live_volumes, mapped, run
from residue import expected
from sealed_bases import sealed, tree_digests


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


def differences(trees: dict[str, str], wanted: list[str]) -> Iterator[str]:
    """The trees that are not what ``wanted`` says: KEY=DIGEST for the current generation, KEY@*=DIGEST for each earlier one."""
    for name, digest in (pair.rsplit("=", 1) for pair in wanted):
        for key, found in trees.items():
            is_meant = key.startswith(name[:-1]) if name.endswith("@*") else key == name
            if is_meant and found != digest:
                yield f"the tree of {key} is {found}, not {digest}"


def report(given: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for."""
    host = Host(Path(os.path.normpath(given.state_dir)))
    violations: list[str] = []
    for check in (thin_ids, expected, instances, copies, locks):
        violations += [f"{check.__name__}: {line}" for line in check(host)]
    with mapped(host, live_volumes(host)) as devices:
        violations += [f"sound: {line}" for line in sound(host, devices)]
        trees = tree_digests(host, devices) if given.trees or given.tree else {}
        violations += [f"trees: {line}" for line in differences(trees, given.tree)]
        if given.bases:
            violations += [f"sealed: {line}" for line in sealed(host, devices, given.bases)]
    return {"violations": violations, "trees": trees}


def main() -> int:
    """Print the report; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("state_dir")
    parser.add_argument("--bases", type=Path, metavar="FILE", help="remembers the digests of sealed bases")
    parser.add_argument(
        "--tree",
        action="append",
        default=[],
        metavar="KEY=DIGEST",
        help="what a base's tree must be; KEY@* for each earlier generation",
    )
    parser.add_argument("--trees", action="store_true", help="report the digests of the trees")
    found = report(parser.parse_args())
    print(json.dumps(found))
    return 1 if found["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
