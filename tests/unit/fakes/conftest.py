"""The simulated host for the tests of the simulation."""

from __future__ import annotations

from tests.unit.fakes.host import fake_host

__all__ = ["fake_host"]
