# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove packages that nothing else needs: packages.py look|remove NAME...

Prints an object of JSON: ``remove`` has the packages to purge, ``kept`` for each of the others that are installed what apt would remove
with it. ``remove`` purges them.

Invariant: apt removes none but the named packages; it is asked by a simulation before each change.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

ENVIRONMENT = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
PURGE = [
    "apt-get",
    "--yes",
    "--quiet",
    "-o",
    "APT::Get::AutomaticRemove=false",
    "-o",
    "DPkg::Lock::Timeout=300",
    "purge",
]


def installed(names: list[str]) -> list[str]:
    """Return those of the packages that dpkg has, removed ones with configuration too."""
    if not names:
        return []
    argv = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${binary:Package}\n", *names]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)  # noqa: S603
    return sorted(line.split()[1] for line in done.stdout.splitlines() if line.startswith(("ii", "rc", "iU", "iF")))


def taken(names: list[str]) -> list[str]:
    """Return what apt would remove with these packages."""
    done = subprocess.run(  # noqa: S603
        [*PURGE, "--simulate", *names],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"apt-get cannot purge {', '.join(names)}: {done.stdout.strip().splitlines()[-1]}")
    return re.findall(r"^(?:Remv|Purg) (\S+)", done.stdout, re.MULTILINE)


def removable(names: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the packages that can go without any other, and for the rest what would go with each."""
    wanted, kept = list(names), {}
    while wanted and others_of(wanted, wanted):
        needed = {name: others_of([name], wanted) for name in wanted}
        # Each alone may take nothing along that all of them do: one that is needed either this or that way.
        found = {name: others for name, others in needed.items() if others} or {wanted[0]: others_of(wanted, wanted)}
        kept.update(found)
        wanted = [name for name in wanted if name not in found]
    return wanted, kept


def others_of(names: list[str], wanted: list[str]) -> list[str]:
    """Return what apt would remove with ``names`` that is not ``wanted``."""
    plain = {name.split(":")[0] for name in wanted}
    return sorted(name for name in taken(names) if name.split(":")[0] not in plain)


def main() -> None:
    """Entry point."""
    verb, *names = sys.argv[1:]
    remove, kept = removable(installed(names))
    if verb == "remove" and remove:
        done = subprocess.run(  # noqa: S603
            [*PURGE, *remove], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT, check=False
        )
        if done.returncode != 0:
            raise SystemExit(done.stdout[-2000:])
    sys.stdout.write(json.dumps({"remove": remove, "kept": kept}))


if __name__ == "__main__":
    main()
