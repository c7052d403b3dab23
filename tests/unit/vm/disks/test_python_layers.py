"""An update needs sources of updates."""

from __future__ import annotations

from pathlib import Path

import pytest
from disks.cache import Cache
from disks.python_layers import python_layers
from programs import LabError


def test_without_a_source_of_updates_nothing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYD_LAB_MIRROR", "http://mirror.invalid/debian")
    with pytest.raises(LabError, match="bookworm-security"):
        python_layers(Cache(tmp_path))
    assert not (tmp_path / "images" / "python-layers").exists()
