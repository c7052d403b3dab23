# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pack on_host.py with the collection's module_utils into one file that Python can run: pack.py MODULE_UTILS TARGET.

Invariant: the same sources make the same bytes, so that a host which has them is left alone.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

EPOCH = (1980, 1, 1, 0, 0, 0)
NEEDED = ("_lifecycle", "_thin", "_host")


def members(module_utils: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file of the archive."""
    yield "__main__.py", (Path(__file__).parent / "on_host.py").read_bytes()
    yield "module_utils/__init__.py", b""
    directories = [module_utils, *(module_utils / name for name in NEEDED)]
    for path in sorted(path for directory in directories for path in directory.glob("*.py")):
        yield f"module_utils/{path.relative_to(module_utils).as_posix()}", path.read_bytes()


def main() -> None:
    """Entry point."""
    module_utils, target = Path(sys.argv[1]), Path(sys.argv[2])
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members(module_utils):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main()
