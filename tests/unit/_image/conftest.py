"""Fixtures for the tests of images."""

from __future__ import annotations

import zlib
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


@pytest.fixture
def some_form(request: pytest.FixtureRequest) -> str:
    """One of the forms, by the test's own name: many cases use all forms between them without trying each three times."""
    return FORMS[zlib.crc32(request.node.name.encode()) % len(FORMS)]
