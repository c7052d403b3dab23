"""A short look at what `make fuzz` looks at for minutes, and what it found."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from module_utils._image.merge import tree
from tests.fuzz.oracle import judge
from tests.fuzz.recipes import cook
from tests.unit._image.unpacked import needs_root

pytestmark = [pytest.mark.slow, needs_root]


@settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)
@given(st.binary(min_size=1, max_size=120))
def test_any_archive_is_unpacked_or_refused_and_nothing_else_changes(recipe: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tree, "MAX_ALL_STEPS", 1_000_000)
        judge(recipe)


def test_a_recipe_always_gives_the_same_archive() -> None:
    for recipe in (b"", b"abc", bytes(range(200))):
        assert cook(recipe) == cook(recipe)
