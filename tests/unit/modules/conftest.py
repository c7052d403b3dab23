"""The machine of tests/unit/_lifecycle, for the modules."""

from __future__ import annotations

from tests.unit._lifecycle.conftest import activated, replaced, stages, unpacked, virgin  # noqa: F401
