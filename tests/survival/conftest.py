"""A machine with a real device mapper that runs the modules without a controller, and small images within its reach."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.campaigns.crashes import Crashes
from tests.campaigns.flushes import take_out
from tests.e2e.machine import lab
from tests.survival.beside import Beside

pytest.register_assert_rewrite("tests.survival.trouble")  # its assertions tell what they saw

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
        made.campaign.close()


BESIDE = pytest.StashKey[Beside]()


def pytest_configure(config: pytest.Config) -> None:
    """The marker by which a test asks for a campaign."""
    config.addinivalue_line(
        "markers", "beside(run): a campaign that runs from the start of the session, beside other tests"
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin the campaigns of the tests that will run."""
    items = [] if session.config.option.collectonly else session.items
    session.config.stash[BESIDE] = Beside([mark.args[0] for item in items for mark in item.iter_markers("beside")])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what still runs, when the session was interrupted."""
    if BESIDE in session.config.stash:
        for name in session.config.stash[BESIDE].end():
            lab("down", name)


@pytest.fixture
def beside(request: pytest.FixtureRequest) -> Beside:
    """The campaigns that were begun."""
    return request.config.stash[BESIDE]
