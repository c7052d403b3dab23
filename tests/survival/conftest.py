"""A machine with a real device mapper that runs the modules without a controller, and small images within its reach."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.campaigns.crashes import Crashes
from tests.campaigns.flushes import take_out
from tests.e2e.machine import lab

PREFIX = os.environ.get("FLYD_SURVIVAL_VM", "survival")


@pytest.fixture(scope="session")
def crashes() -> Iterator[Crashes]:
    """The machine; it is removed at the end."""
    name = f"{PREFIX}1"
    made = Crashes(name)
    try:
        made.prepare()
        take_out(made.target, os.environ.get("FLYD_WITHOUT", ""))  # to see that the tests notice
        yield made
    finally:
        made.session.close()
        lab("down", name)
