"""Whether what a contender has made is the image.

Invariant: the judge is GNU tar with whiteouts applied by hand, the one that the end-to-end tests have; every attribute of every path
is compared, unless a contender is known not to do that much.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

from bench.harness.measuring import BenchError
from tests.e2e.oracle import tree_by_gnu_tar
from tests.tools.tree import Rows, differences, rows_of_directory, rows_of_file

_SHOWN = 5


class Standard(enum.Enum):
    """What a contender is held to: the flat extractors know no whiteouts, and containerd gives directories the time of day."""

    TREE = "every path and attribute"
    TREE_BUT_TIMES_OF_DIRECTORIES = "every path and attribute but directories' times"
    FILES = "all files of the image, perhaps others"


@dataclass(frozen=True)
class Reference:
    """The rows of tests/tools/tree.py for the merged image."""

    rows: Rows

    @classmethod
    def of(cls, archive: Path, work: Path) -> Reference:
        """What GNU tar makes of the layers of a docker archive, below ``work``."""
        described = work / "reference.tsv"
        described.write_text(tree_by_gnu_tar(str(archive), work))
        return cls(rows_of_file(described))

    def check(self, name: str, tree: Path, standard: Standard) -> None:
        """Raise ``BenchError`` unless ``tree`` is the image by that standard."""
        found, expected = rows_of_directory(tree, exact=True), self.rows
        if standard is Standard.TREE_BUT_TIMES_OF_DIRECTORIES:
            found, expected = _timeless(found), _timeless(expected)
        elif standard is Standard.FILES:
            found, expected = _files(found), _files(expected)
            found = {path: row for path, row in found.items() if path in expected}
        wrong = differences(found, expected)
        if wrong:
            raise BenchError(f"{name} made another tree, {len(wrong)} rows: {'; '.join(wrong[:_SHOWN])}")


def _timeless(rows: Rows) -> Rows:
    return {path: (*row[:7], "-", *row[8:]) if row[1] == "d" else row for path, row in rows.items()}


def _files(rows: Rows) -> Rows:
    """Without directories, and without the links between paths, some of which whiteouts take away."""
    return {path: (*row[:8], "-", row[9]) for path, row in rows.items() if row[1] != "d"}
