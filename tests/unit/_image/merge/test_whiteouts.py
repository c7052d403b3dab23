"""Whiteouts: what they take away, what they must not, and those that no one honest writes."""

from __future__ import annotations

import pytest

from module_utils._errors import Untrusted
from tests.unit._image.unpacked import Playground, needs_root
from tests.unit.builders import tar

pytestmark = needs_root

LOWER = tar.tar(
    tar.directory(b"etc"), tar.file(b"etc/a"), tar.file(b"etc/b"), tar.symlink(b"localetc", b"/etc"), tar.file(b"f")
)


def after(playground: Playground, form: str, *upper: bytes) -> set[str]:
    """The paths that are there when ``upper`` lies on top of ``LOWER``."""
    return set(playground.unpack(form, [LOWER, tar.tar(*upper)]).kinds())


def test_a_whiteout_removes_a_file_a_link_and_a_whole_directory(playground: Playground, form: str) -> None:
    assert after(playground, form, tar.file(b".wh.f"), tar.file(b".wh.localetc"), tar.file(b".wh.etc")) == set()


def test_a_whiteout_of_a_link_keeps_its_target(playground: Playground, form: str) -> None:
    assert after(playground, form, tar.file(b".wh.localetc")) == {"/etc", "/etc/a", "/etc/b", "/f"}


def test_a_whiteout_through_a_link_removes_inside_of_the_image(playground: Playground, form: str) -> None:
    assert after(playground, form, tar.file(b"localetc/.wh.a")) == {"/etc", "/etc/b", "/localetc", "/f"}


def test_whiteouts_of_one_layer_do_not_depend_on_their_order(playground: Playground, form: str) -> None:
    both = [tar.file(b".wh.localetc"), tar.file(b"localetc/.wh.a")]
    assert after(playground, form, *both) == {"/etc", "/etc/b", "/f"}
    for path in sorted(playground.root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert after(playground, form, *reversed(both)) == {"/etc", "/etc/b", "/f"}


@pytest.mark.parametrize("name", [b".wh.missing", b"missing/.wh.x", b"f/.wh.x", b"missing/.wh..wh..opq"])
def test_removing_what_is_not_there_is_no_error(playground: Playground, form: str, name: bytes) -> None:
    assert after(playground, form, tar.file(name)) == {"/etc", "/etc/a", "/etc/b", "/localetc", "/f"}


@pytest.mark.parametrize("name", [b".wh.", b"some/path/.wh.", b".wh..", b".wh...", b"etc/.wh..", b"etc/.wh..."])
def test_a_whiteout_of_nothing_or_of_the_directory_itself_is_refused(
    playground: Playground, form: str, name: bytes
) -> None:
    with pytest.raises(Untrusted, match="whiteout of nothing"):
        after(playground, form, tar.file(name))


@pytest.mark.parametrize(
    "member",
    [
        tar.directory(b".wh.etc"),
        tar.file(b".wh.f", b"data"),
        tar.symlink(b".wh.f", b"x"),
        tar.directory(b"etc/.wh..wh..opq"),
        tar.file(b"etc/.wh..wh..opq", b"data"),
    ],
)
def test_a_whiteout_that_is_no_empty_file_is_refused(playground: Playground, form: str, member: bytes) -> None:
    with pytest.raises(Untrusted, match="no empty file"):
        after(playground, form, member)


def test_a_member_below_a_whiteout_is_refused(playground: Playground, form: str) -> None:
    with pytest.raises(Untrusted, match="below a whiteout"):
        after(playground, form, tar.file(b".wh.etc/somefile"))


def test_a_whiteout_may_be_a_hard_link_as_aufs_made_them(playground: Playground, form: str) -> None:
    upper = [tar.file(b".wh.f"), tar.hard_link(b".wh.localetc", b".wh.f")]
    assert after(playground, form, *upper) == {"/etc", "/etc/a", "/etc/b"}


@pytest.mark.parametrize("at_end", [False, True])
def test_an_opaque_directory_hides_lower_children_only_wherever_the_marker_stands(
    playground: Playground, form: str, at_end: bool
) -> None:
    members = [tar.file(b"etc/.wh..wh..opq"), tar.file(b"etc/new")]
    assert after(playground, form, *sorted(members, reverse=at_end)) == {"/etc", "/etc/new", "/localetc", "/f"}


def test_an_opaque_root_clears_lower_layers_only(playground: Playground, form: str) -> None:
    assert after(playground, form, tar.file(b"new"), tar.file(b".wh..wh..opq")) == {"/new"}


@pytest.mark.parametrize("at_end", [False, True])
def test_a_whiteout_does_not_reach_its_own_layer(playground: Playground, form: str, at_end: bool) -> None:
    members = [tar.file(b".wh.f"), tar.file(b"f", b"new")]
    done = playground.unpack(form, [LOWER, tar.tar(*sorted(members, reverse=at_end))])
    assert done.content("/f") == b"new"


def test_a_whiteout_in_the_lowest_layer_has_nothing_to_hide(playground: Playground, form: str) -> None:
    assert playground.unpack(form, [tar.tar(tar.file(b"x"), tar.file(b".wh.x"))]).kinds() == {"/x": "f"}


def test_a_whiteout_reaches_all_lower_layers_and_none_above(playground: Playground, form: str) -> None:
    layers = [LOWER, tar.tar(tar.file(b"etc/c")), tar.tar(tar.file(b".wh.etc")), tar.tar(tar.file(b"etc/d"))]
    assert set(playground.unpack(form, layers).kinds()) == {"/etc", "/etc/d", "/localetc", "/f"}


@pytest.mark.parametrize("name", [b".wh..wh.aufs", b".wh..wh.plnk/12.34", b".wh..wh.orph", b"etc/.wh..wh.x"])
def test_the_bookkeeping_of_aufs_is_left_out_and_counted(playground: Playground, form: str, name: bytes) -> None:
    done = playground.unpack(form, [LOWER, tar.tar(tar.file(name, b"data"))])
    assert not [path for path in done.rows if ".wh." in path]
    assert done.summary.left_out == 1


def test_a_name_with_the_marker_in_its_middle_is_a_name(playground: Playground, form: str) -> None:
    assert playground.unpack(form, [tar.tar(tar.file(b"not.wh.one"))]).kinds() == {"/not.wh.one": "f"}


def test_whiteouts_are_counted(playground: Playground, form: str) -> None:
    upper = tar.tar(tar.file(b".wh.f"), tar.file(b"etc/.wh..wh..opq"))
    assert playground.unpack(form, [LOWER, upper]).summary.whiteouts == 2
