# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Record what a host was like before the role prepare changes it, for the role unprepare: record.py HOME VERB

    paths       what each path was that the record does not have yet: absent, a directory, or a file with its content
    before      which packages are installed, before the role installs others
    after       which packages were installed since then

Standard input has a JSON object with ``paths``, ``state_dir`` and ``packages`` (the requested ones). Prints ``recorded`` when the record,
HOME/before.json, has changed.

Invariant: an entry is made once, before the first change of what it is about, and is never replaced; the record is whole at any time.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from typing import Any

MARK = "Installed by the role flyd.lite.prepare"
BLOCK = "# BEGIN flyd.lite\n"  # of a file that is shared
RECORD, PENDING = "before.json", "packages-before.json"


def read(path: str) -> dict[str, Any]:
    """Return the object of a file; empty when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
            return found
    except FileNotFoundError:
        return {}


def write(path: str, value: dict[str, Any]) -> None:
    """Replace a file by one rename, on disk before what it is about changes."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{path}.new", path)
    directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def entry(path: str) -> dict[str, Any]:
    """Return what there is at ``path``. What an earlier run of the role has left there was not there before it."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {"kind": "absent"}
    if stat.S_ISDIR(found.st_mode):
        return {"kind": "directory"}
    owned = {"mode": f"{stat.S_IMODE(found.st_mode):04o}", "uid": found.st_uid, "gid": found.st_gid}
    try:
        if not stat.S_ISREG(found.st_mode):
            return {"kind": "other"}
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except UnicodeDecodeError:
        return {"kind": "other"}
    if MARK in text[:200]:
        return {"kind": "absent"}
    return {"kind": "other"} if BLOCK in text else {"kind": "file", "content": text, **owned}


def with_parents(path: str) -> list[str]:
    """Return the path and each directory above it, the deepest first."""
    found = [path]
    while os.path.dirname(found[-1]) != found[-1]:
        found.append(os.path.dirname(found[-1]))
    return found[:-1]


def installed() -> list[str]:
    """Return the names of the packages that dpkg has installed; none without dpkg."""
    argv = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${binary:Package}\n"]
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        return []
    return sorted(line.split()[1] for line in done.stdout.splitlines() if line.startswith("ii"))


def add_packages(home: str, record: dict[str, Any], names: list[str]) -> None:
    """Add packages to the record, then forget which there were before."""
    record["packages"] = sorted({*record.get("packages", []), *names})
    write(os.path.join(home, RECORD), record)
    os.unlink(os.path.join(home, PENDING))


def settle(home: str, record: dict[str, Any], requested: list[str]) -> None:
    """Finish what a killed run has begun: what others have installed since then is not taken for the role's."""
    pending = read(os.path.join(home, PENDING))
    if pending:
        since = [name for name in installed() if name not in pending["installed"]]
        add_packages(home, record, [name for name in since if name.split(":")[0] in requested])


def main() -> None:
    """Entry point."""
    home, verb = sys.argv[1:]
    given = json.load(sys.stdin)
    before = read(os.path.join(home, RECORD))
    record = json.loads(json.dumps(before)) or {"format": 1, "paths": {}, "packages": []}
    if verb == "paths":
        wanted = [home, *given["paths"], *with_parents(given["state_dir"]), *with_parents(os.path.dirname(home))]
        record["paths"] = {**{path: entry(path) for path in wanted if path not in record["paths"]}, **record["paths"]}
        record["state_dir"] = given["state_dir"]
        settle(home, record, given["packages"])
        if record != before:
            write(os.path.join(home, RECORD), record)
    elif verb == "before":
        write(os.path.join(home, PENDING), {"installed": installed()})
    else:
        pending = read(os.path.join(home, PENDING))
        if pending:
            add_packages(home, record, [name for name in installed() if name not in pending["installed"]])
    sys.stdout.write("recorded" if read(os.path.join(home, RECORD)) != before else "")


if __name__ == "__main__":
    main()
