"""Tars that two readers would read differently, through the whole engine and in every packaging: refused, or as GNU tar lists them."""

from __future__ import annotations

import pytest

from module_utils._errors import Untrusted
from tests.unit._image.tar.test_members import COVERED, HONEST, REFUSED, listed_by_gnu_tar
from tests.unit._image.unpacked import Playground, needs_root
from tests.unit.builders import tar

pytestmark = needs_root

CUT_OR_LONGER = (
    "a single zero block",
    "garbage behind the end",
    "garbage far behind the end",
    "two tars one behind the other",
)


@pytest.mark.parametrize("case", REFUSED)
def test_an_image_with_such_a_layer_is_refused(playground: Playground, form: str, case: str) -> None:
    data, message = REFUSED[case]
    if form != "family" and case in CUT_OR_LONGER:
        pytest.skip("a digest covers it: see below")
    with pytest.raises(Untrusted, match=message):
        playground.unpack(form, [data])
    assert list(playground.root.iterdir()) == []


@pytest.mark.parametrize("case", [case for case in HONEST if "no end at all" not in case])
def test_an_image_with_such_a_layer_has_what_gnu_tar_lists(playground: Playground, form: str, case: str) -> None:
    listed = {"/" + name.decode().rstrip("/") for name in listed_by_gnu_tar(HONEST[case])}
    paths = set(playground.unpack(form, [HONEST[case]]).kinds())
    assert listed <= paths
    assert all(any(name.startswith(path) for name in listed) for path in paths)


@pytest.mark.parametrize("case", COVERED)
def test_what_stands_behind_the_end_counts_only_where_no_digest_covers_it(
    playground: Playground, form: str, case: str
) -> None:
    if form == "family":
        with pytest.raises(Untrusted, match=r"behind the end|lone zero block"):
            playground.unpack(form, [COVERED[case]])
    else:
        done = playground.unpack(form, [COVERED[case]])
        assert set(done.kinds()) == {"/a"}
        is_worth_a_word = case in CUT_OR_LONGER[2:] or "newline" in case
        assert len(done.summary.warnings) == is_worth_a_word


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_header_of_400_mib_is_refused_before_it_is_read(playground: Playground, form: str, kind: bytes) -> None:
    with pytest.raises(Untrusted, match="header_bytes is 1048576, and the archive needs 419430400"):
        playground.unpack(form, [tar.tar(tar.header(b"bomb", kind, 400 << 20))])
