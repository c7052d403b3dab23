"""Hard links and type changes that try to reach the host, or an inode that is not theirs."""

from __future__ import annotations

import os
import stat

import pytest

from module_utils._errors import Untrusted
from tests.unit._image.unpacked import Playground, needs_root
from tests.unit.builders import tar

pytestmark = needs_root


def refusal(playground: Playground, form: str, *members: bytes) -> str:
    """The message with which an image of one layer is refused."""
    with pytest.raises(Untrusted) as caught:
        playground.unpack(form, [tar.tar(*members)])
    return caught.value.msg


@pytest.mark.parametrize("target", [b"../victim/hello", b"/../victim/hello", b"../../../tmp/x", b"../root-evil/secret"])
def test_a_hard_link_that_climbs_out_is_refused(playground: Playground, form: str, target: bytes) -> None:
    assert "`..`" in refusal(playground, form, tar.hard_link(b"link", target))


def test_a_hard_link_to_a_sibling_with_our_prefix_is_refused(playground: Playground, form: str) -> None:
    sibling = playground.root.parent / "root-evil"
    sibling.mkdir()
    (sibling / "secret").write_text("secret")
    assert "`..`" in refusal(playground, form, tar.hard_link(b"link", b"../root-evil/secret"))


def test_an_absolute_hard_link_target_starts_at_the_images_root(playground: Playground, form: str) -> None:
    layer = tar.tar(tar.file(b"usr/bin/perlbug", b"x"), tar.hard_link(b"usr/bin/perlthanks", b"/usr/bin/perlbug"))
    done = playground.unpack(form, [layer])
    assert done["/usr/bin/perlthanks"][8] == "/usr/bin/perlbug"
    assert done.summary.hard_links == 1


def test_a_hard_link_through_a_symbolic_link_stays_inside(playground: Playground, form: str) -> None:
    layer = tar.tar(
        tar.file(b"etc/passwd", b"root of the image"),
        tar.symlink(b"localetc", b"../../../etc"),
        tar.hard_link(b"stolen", b"localetc/passwd"),
    )
    assert playground.unpack(form, [layer]).content("/stolen") == b"root of the image"


def test_a_hard_link_to_a_symbolic_link_links_the_link_and_changes_no_mode(playground: Playground, form: str) -> None:
    victim = playground.victim / "hello"
    os.chmod(victim, 0o400)
    layer = tar.tar(
        tar.symlink(b"ep", str(victim).encode()), tar.hard_link(b"sketchy", b"ep", mode=0o777, mtime=1, uid=7)
    )
    done = playground.unpack(form, [layer])
    assert done["/sketchy"][1] == "l"
    assert done["/sketchy"][8] == "/ep"
    assert stat.S_IMODE(os.stat(victim).st_mode) == 0o400


def test_a_hard_link_is_not_looked_up_in_our_working_directory(
    playground: Playground, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (playground.victim / "victim.secret").write_text("secret")
    monkeypatch.chdir(playground.victim)
    assert "not there" in refusal(playground, form, tar.hard_link(b"link", b"victim.secret"))


def test_a_hard_link_to_nothing_to_a_directory_or_to_itself_is_refused(playground: Playground, form: str) -> None:
    assert "not there" in refusal(playground, form, tar.hard_link(b"link", b"missing"))
    assert "directory" in refusal(playground, form, tar.directory(b"d"), tar.hard_link(b"link", b"d"))
    assert "itself" in refusal(playground, form, tar.file(b"f"), tar.hard_link(b"f", b"f"))
    assert "not there" in refusal(playground, form, tar.hard_link(b"f", b"f"))
    assert "not there" in refusal(playground, form, tar.file(b"f"), tar.hard_link(b"link", b"/"))


def test_a_hard_link_before_its_file_waits_for_it(playground: Playground, form: str) -> None:
    layer = tar.tar(tar.hard_link(b"second", b"first"), tar.hard_link(b"third", b"second"), tar.file(b"first", b"x"))
    done = playground.unpack(form, [layer])
    assert [done[path][8] for path in ("/first", "/second", "/third")] == ["-", "/first", "/first"]


def test_a_name_that_comes_again_no_longer_waits(playground: Playground, form: str) -> None:
    layer = tar.tar(tar.hard_link(b"name", b"late"), tar.file(b"name", b"own"), tar.file(b"late", b"late"))
    assert playground.unpack(form, [layer]).content("/name") == b"own"


def test_hard_links_in_a_circle_are_refused(playground: Playground, form: str) -> None:
    assert "not there" in refusal(playground, form, tar.hard_link(b"a", b"b"), tar.hard_link(b"b", b"a"))


def test_a_hard_link_to_a_file_of_a_lower_layer_is_the_same_inode(playground: Playground, form: str) -> None:
    done = playground.unpack(form, [tar.tar(tar.file(b"low", b"x")), tar.tar(tar.hard_link(b"up", b"low"))])
    assert done["/up"][8] == "/low"


def test_a_link_over_a_directory_of_the_host_gets_no_mode(playground: Playground, form: str) -> None:
    lower = tar.tar(tar.symlink(b"foo", str(playground.victim).encode()))
    done = playground.unpack(form, [lower, tar.tar(tar.directory(b"foo", mode=0o777))])
    assert done["/foo"][1:3] == ("d", "0777")
    assert stat.S_IMODE(os.stat(playground.victim).st_mode) == 0o700


@pytest.mark.parametrize(
    ("lower", "upper", "kinds"),
    [
        ([tar.directory(b"x"), tar.file(b"x/y")], [tar.file(b"x")], {"/x": "f"}),
        ([tar.file(b"x")], [tar.directory(b"x"), tar.file(b"x/y")], {"/x": "d", "/x/y": "f"}),
        ([tar.directory(b"x"), tar.file(b"x/y")], [tar.symlink(b"x", b"t")], {"/x": "l"}),
        ([tar.symlink(b"x", b"t")], [tar.directory(b"x")], {"/x": "d"}),
        ([tar.file(b"x")], [tar.file(b"x/y/z")], {"/x": "d", "/x/y": "d", "/x/y/z": "f"}),
        ([tar.file(b"f"), tar.symlink(b"x", b"f")], [tar.file(b"x/y")], {"/f": "d", "/f/y": "f", "/x": "l"}),
        ([tar.fifo(b"x")], [tar.file(b"x")], {"/x": "f"}),
        ([tar.directory(b"x"), tar.file(b"x/y")], [tar.fifo(b"x")], {"/x": "p"}),
    ],
)
def test_what_an_upper_layer_makes_of_a_name_replaces_what_it_was(
    playground: Playground, form: str, lower: list[bytes], upper: list[bytes], kinds: dict[str, str]
) -> None:
    assert playground.unpack(form, [tar.tar(*lower), tar.tar(*upper)]).kinds() == kinds


def test_a_file_over_one_of_two_names_leaves_the_other_alone(playground: Playground, form: str) -> None:
    lower = tar.tar(tar.file(b"one", b"lower", mode=0o640), tar.hard_link(b"two", b"one"))
    done = playground.unpack(form, [lower, tar.tar(tar.file(b"one", b"upper", mode=0o600))])
    assert (done.content("/one"), done.content("/two")) == (b"upper", b"lower")
    assert (done["/one"][2], done["/two"][2]) == ("0600", "0640")
    assert done["/two"][8] == "-"


def test_one_of_two_names_may_be_whited_out(playground: Playground, form: str) -> None:
    lower = tar.tar(tar.file(b"one", b"x"), tar.hard_link(b"two", b"one"), tar.hard_link(b"three", b"one"))
    done = playground.unpack(form, [lower, tar.tar(tar.file(b".wh.one"))])
    assert done.kinds() == {"/two": "f", "/three": "f"}
    assert done["/two"][8] == "/three"


def test_a_directory_over_a_directory_keeps_its_children_and_takes_new_attributes(
    playground: Playground, form: str
) -> None:
    lower = tar.tar(tar.directory(b"d", mode=0o700, uid=1), tar.file(b"d/old"))
    done = playground.unpack(form, [lower, tar.tar(tar.directory(b"d", mode=0o1777, uid=2), tar.file(b"d/new"))])
    assert done.kinds() == {"/d": "d", "/d/old": "f", "/d/new": "f"}
    assert done["/d"][2:4] == ("1777", "2")


def test_the_last_of_several_members_of_one_name_wins(playground: Playground, form: str) -> None:
    layer = tar.tar(tar.file(b"x", b"1"), tar.directory(b"x"), tar.file(b"x/in"), tar.file(b"x", b"3"))
    done = playground.unpack(form, [layer])
    assert done.kinds() == {"/x": "f"}
    assert done.content("/x") == b"3"
