"""Fixtures for the tests of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit._image.unpacked import FORMS, Playground


@pytest.fixture
def playground(tmp_path: Path) -> Playground:
    """A directory to unpack into, with canaries around it."""
    return Playground(tmp_path)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    """Each form that an image may come in."""
    return str(request.param)
