"""Names that try to leave the image's root. Whatever they look like, they end below it or the image is refused."""

from __future__ import annotations

import os

import pytest

from module_utils._errors import Untrusted
from tests.unit._image.unpacked import Playground, needs_root
from tests.unit.builders import tar

pytestmark = needs_root


def refusal(playground: Playground, form: str, *members: bytes) -> Untrusted:
    """The error with which an image of one layer is refused."""
    with pytest.raises(Untrusted) as caught:
        playground.unpack(form, [tar.tar(*members)])
    return caught.value


@pytest.mark.parametrize(
    "name", [b"../victim/dotdot", b"/../victim/x", b"..", b"../../pwned", b"a/../../x", b"some/../x"]
)
def test_a_name_with_dot_dot_is_refused(playground: Playground, form: str, name: bytes) -> None:
    error = refusal(playground, form, tar.file(name, b"x"))
    assert "`..`" in error.msg
    assert error.details["member"] == name.decode()


def test_a_whiteout_behind_dot_dot_is_refused(playground: Playground, form: str) -> None:
    assert "`..`" in refusal(playground, form, tar.file(b"dne/../.wh.etc")).msg


@pytest.mark.parametrize("name", [b"/etc/x", b"//etc/x", b"///./etc/x", b"./etc/x", b"etc/./x", b"etc//x"])
def test_an_absolute_name_lands_inside(playground: Playground, form: str, name: bytes) -> None:
    done = playground.unpack(form, [tar.tar(tar.file(name, b"inside"))])
    assert done.kinds() == {"/etc": "d", "/etc/x": "f"}


def test_a_file_through_a_link_to_the_hosts_directory_lands_inside(playground: Playground, form: str) -> None:
    target = str(playground.victim).encode()
    done = playground.unpack(form, [tar.tar(tar.symlink(b"out", target), tar.file(b"out/unbroken", b"x"))])
    assert done[f"{playground.victim}/unbroken"][1] == "f"
    assert done["/out"][1] == "l"


def test_a_link_and_a_file_through_it_in_different_layers_land_inside(playground: Playground, form: str) -> None:
    lower = tar.tar(tar.directory(b"etc"), tar.symlink(b"localetc", b"/etc"))
    done = playground.unpack(form, [lower, tar.tar(tar.file(b"localetc/unbroken", b"x"))])
    assert done.kinds() == {"/etc": "d", "/etc/unbroken": "f", "/localetc": "l"}


def test_var_run_works_though_its_target_is_missing(playground: Playground, form: str) -> None:
    lower = tar.tar(tar.directory(b"var"), tar.symlink(b"var/run", b"/run"))
    done = playground.unpack(form, [lower, tar.tar(tar.file(b"var/run/x/y", b"pid"))])
    assert done.kinds() == {"/var": "d", "/var/run": "l", "/run": "d", "/run/x": "d", "/run/x/y": "f"}
    assert done["/run/x"][2:5] == ("0755", "0", "0")


def test_climbing_stops_at_the_root(playground: Playground, form: str) -> None:
    layer = tar.tar(
        tar.symlink(b"escape", b".."), tar.symlink(b"absolute", b"/target"), tar.file(b"escape/absolute/file", b"x")
    )
    assert playground.unpack(form, [layer]).kinds() == {
        "/escape": "l",
        "/absolute": "l",
        "/target": "d",
        "/target/file": "f",
    }


def test_two_hops_upwards_stay_inside(playground: Playground, form: str) -> None:
    layer = tar.tar(
        tar.directory(b"inner"),
        tar.symlink(b"inner/go_up", b".."),
        tar.symlink(b"inner/go_up/escape", b"../victim"),
        tar.file(b"inner/go_up/escape/newfile", b"x"),
    )
    done = playground.unpack(form, [layer])
    assert done["/escape"][6] == "../victim"
    assert done.kinds()["/victim/newfile"] == "f"


def test_a_trampoline_of_long_directories_stays_inside(playground: Playground, form: str) -> None:
    long_way = b"/".join([b"d" * 247] * 16)
    layer = tar.tar(
        tar.symlink(b"trampoline", b"."),
        tar.long_name(b"trampoline/" * 13 + b"../" * 11 + b"tmp", b"K"),
        tar.symlink(b"escape", b""),
        tar.long_name(long_way + b"/file"),
        tar.file(b"file", b"deep"),
        tar.file(b"escape/file", b"x"),
    )
    done = playground.unpack(form, [layer])
    assert done.kinds()["/tmp/file"] == "f"
    assert done.kinds()[f"/{long_way.decode()}/file"] == "f"


@pytest.mark.parametrize("targets", [(b"loop", b"loop"), (b"two", b"one"), (b"/one/x", b"/two/x")])
def test_links_in_a_circle_are_refused(playground: Playground, form: str, targets: tuple[bytes, bytes]) -> None:
    links = [tar.symlink(b"one", targets[0]), tar.symlink(b"two", targets[1])]
    error = refusal(playground, form, *links, tar.symlink(b"loop", b"loop"), tar.file(b"one/x", b"x"))
    assert "symbolic links" in error.msg


def test_a_link_without_a_name_is_refused(playground: Playground, form: str) -> None:
    assert "without a name" in refusal(playground, form, tar.symlink(b"", b"/etc/")).msg


@pytest.mark.parametrize("name", [b".", b"/", b"./", b"./."])
@pytest.mark.parametrize(
    "member", [tar.symlink, tar.hard_link, lambda name, _: tar.file(name.strip(b"/") or b"/.", b"x")]
)
def test_the_root_as_anything_but_a_directory_is_refused(
    playground: Playground, form: str, name: bytes, member: object
) -> None:
    assert callable(member)
    assert "root" in refusal(playground, form, tar.file(b"x", b"x"), member(name, b"x")).msg


def test_a_link_named_with_a_slash_at_its_end_leads_inside(playground: Playground, form: str) -> None:
    layer = tar.tar(tar.symlink(b"linktoroot/", b"/"), tar.file(b"linktoroot/root/.bashrc", b"x"))
    assert playground.unpack(form, [layer]).kinds() == {"/linktoroot": "l", "/root": "d", "/root/.bashrc": "f"}


def test_a_file_over_a_link_replaces_the_link(playground: Playground, form: str) -> None:
    lower = tar.tar(tar.symlink(b"linktoescape", b"../victim/hello"))
    done = playground.unpack(form, [lower, tar.tar(tar.file(b"linktoescape", b"overwritten"))])
    assert done.kinds() == {"/linktoescape": "f"}
    assert done.content("/linktoescape") == b"overwritten"


def test_a_directory_that_becomes_a_link_and_again_a_directory_holds_its_own_files(
    playground: Playground, form: str
) -> None:
    layer = tar.tar(
        tar.directory(b"foo"),
        tar.file(b"foo/one", b"1"),
        tar.symlink(b"foo", b"/"),
        tar.file(b"foo/two", b"2"),
        tar.directory(b"foo"),
        tar.file(b"foo/three", b"3"),
    )
    assert playground.unpack(form, [layer]).kinds() == {"/two": "f", "/foo": "d", "/foo/three": "f"}


def test_a_link_that_replaces_itself_on_the_way_is_seen(playground: Playground, form: str) -> None:
    layer = tar.tar(tar.directory(b"a"), tar.symlink(b"a/s", b"/a"), tar.file(b"a/s/s", b"x"), tar.file(b"a/s/f", b"x"))
    assert playground.unpack(form, [layer]).kinds() == {"/a": "d", "/a/s": "d", "/a/s/f": "f"}


def test_a_name_of_255_bytes_is_kept_and_one_of_256_is_refused(playground: Playground, form: str) -> None:
    done = playground.unpack(form, [tar.tar(tar.long_name(b"n" * 255), tar.file(b"n", b"x"))])
    assert list(done.kinds()) == ["/" + "n" * 255]
    assert "255" in refusal(playground, form, tar.long_name(b"n" * 256), tar.file(b"n", b"x")).msg


def test_a_path_longer_than_the_hosts_limit_can_be_written(playground: Playground, form: str) -> None:
    path = b"/".join([b"d" * 200] * 30)
    done = playground.unpack(form, [tar.tar(tar.long_name(path), tar.file(b"d", b"x"))], processes=1)
    assert done.summary.directories == 30
    assert not done.rows.keys() - {"/" + "/".join(["d" * 200] * depth) for depth in range(31)}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"new\nline", "/new\\x0aline"),
        (b"\x1b[31mred", "/\\x1b[31mred"),
        (b"\xff\xfe", "/\\xff\\xfe"),
        (b"back\\slash", "/back\\slash"),
        ("ümläut".encode(), "/\\xc3\\xbcml\\xc3\\xa4ut"),
    ],
)
def test_odd_names_are_kept_byte_for_byte(playground: Playground, form: str, name: bytes, shown: str) -> None:
    layer = tar.tar(tar.file(name, b"x"), tar.symlink(b"link", name), tar.hard_link(b"second", name))
    done = playground.unpack(form, [layer])
    assert done.kinds() == {"/link": "l", "/second": "f", shown: "f"}
    assert os.readlink(os.fsencode(done.root) + b"/link") == name


def test_names_that_differ_in_case_are_two_files(playground: Playground, form: str) -> None:
    assert playground.unpack(form, [tar.tar(tar.file(b"A"), tar.file(b"a"))]).kinds() == {"/A": "f", "/a": "f"}


@pytest.mark.parametrize("key", [b"path", b"linkpath"])
def test_a_nul_in_a_name_is_refused(playground: Playground, form: str, key: bytes) -> None:
    error = refusal(playground, form, tar.pax((key, b"safe\0/../../evil")), tar.symlink(b"name", b"target"))
    assert "NUL" in error.msg
    assert "\0" not in error.msg


def test_an_escaped_name_is_shown_in_errors(playground: Playground, form: str) -> None:
    error = refusal(playground, form, tar.file(b"evil\x1b[2J\n/../x"))
    assert error.msg.isprintable()
    assert str(error.details["member"]).startswith("evil\\x1b")


def test_a_link_target_that_linux_cannot_store_is_refused(playground: Playground, form: str) -> None:
    assert "4095" in refusal(playground, form, tar.long_name(b"t" * 4096, b"K"), tar.symlink(b"l", b"")).msg
    assert "without a target" in refusal(playground, form, tar.symlink(b"l", b"")).msg
