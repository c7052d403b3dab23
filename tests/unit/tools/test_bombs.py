"""Bombs given to the tool: each is refused by a limit, soon, and with little memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.bombs import BOMBS, MAX_PEAK_MIB, Bomb, explode


@pytest.mark.slow
@pytest.mark.parametrize("bomb", [bomb for bomb in BOMBS if not bomb.is_slow], ids=lambda bomb: bomb.name)
def test_a_bomb_is_refused_within_seconds_and_with_little_memory(tmp_path: Path, bomb: Bomb) -> None:
    blast = explode(bomb, tmp_path)
    (tmp_path / "bomb").unlink()  # it may be a gibibyte
    assert (blast.code, blast.answer["error_kind"]) == (1, "untrusted")
    assert blast.limit in bomb.limits
    assert blast.peak_mib <= MAX_PEAK_MIB
    assert blast.seconds < 60  # seconds, on a machine with nothing else to do
    assert list((tmp_path / "target").iterdir()) == []
