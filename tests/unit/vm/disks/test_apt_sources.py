"""Only Debian's own repositories of the host's release are built from."""

from __future__ import annotations

from pathlib import Path

import pytest
from disks.apt_sources import KEYRING, Source, debian_lines, machine_suite, mirror_lines, parse_deb822, parse_one_line
from programs import LabError

_DEBIAN = f"""\
# The mirror next door
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: {KEYRING}

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By: {KEYRING}
"""


def test_deb822_stanzas_give_one_source_for_each_suite() -> None:
    found = [(source.uri, source.suite) for source in parse_deb822(_DEBIAN)]
    assert found == [
        ("http://mirror.example/debian", "bookworm"),
        ("http://mirror.example/debian", "bookworm-updates"),
        ("http://mirror.example/debian-security", "bookworm-security"),
    ]


@pytest.mark.parametrize("line", ["Enabled: no", "Enabled: No"])
def test_a_disabled_stanza_is_left_out(line: str) -> None:
    assert not list(parse_deb822(f"Types: deb\nURIs: http://a\nSuites: bookworm\nComponents: main\n{line}\n"))


def test_a_field_may_go_on_in_further_lines() -> None:
    text = "Types: deb\nURIs:\n http://a\n http://b\nSuites: bookworm\nComponents: main\n"
    assert [source.uri for source in parse_deb822(text)] == ["http://a", "http://b"]


def test_one_line_entries_are_read_with_and_without_options() -> None:
    text = (
        "deb http://a bookworm main contrib # ours\n"
        "#deb http://b bookworm main\n"
        "deb-src http://c bookworm main\n"
        "deb [arch=amd64 signed-by=/k.gpg] http://d bookworm main\n"
    )
    assert list(parse_one_line(text)) == [
        Source("http://a", "bookworm", ("main", "contrib")),
        Source("http://d", "bookworm", ("main",), "/k.gpg"),
    ]


@pytest.mark.parametrize(
    "foreign",
    [
        Source("http://third.example", "bookworm", ("main",), "/usr/share/keyrings/third.gpg"),
        Source("http://third.example", "bookworm", ("stable",)),
        Source("http://third.example", "nodistro", ("main",)),
        Source("http://third.example", "bookworm-backports", ("main",)),
    ],
)
def test_a_third_party_does_not_get_through(foreign: Source) -> None:
    assert not debian_lines([foreign], "bookworm")


def test_a_newer_host_lends_its_mirror_to_the_release_of_the_lab() -> None:
    newer = [Source("http://a", "trixie", ("main",)), Source("http://a", "trixie-security", ("main",))]
    assert debian_lines(newer, "trixie") == [
        f"deb [signed-by={KEYRING}] http://a bookworm main",
        f"deb [signed-by={KEYRING}] http://a bookworm-security main",
    ]


def test_the_hosts_files_are_read(tmp_path: Path) -> None:
    _host(tmp_path, {"debian.sources": _DEBIAN, "other.list": "deb http://other nodistro main\n"})
    lines = mirror_lines({}, etc=tmp_path)
    assert [line.split()[2:4] for line in lines] == [
        ["http://mirror.example/debian", "bookworm"],
        ["http://mirror.example/debian", "bookworm-updates"],
        ["http://mirror.example/debian-security", "bookworm-security"],
    ]


def test_a_mirror_in_the_environment_overrules_the_host(tmp_path: Path) -> None:
    assert mirror_lines({"FLYD_LAB_MIRROR": "http://mine"}, etc=tmp_path) == [
        f"deb [signed-by={KEYRING}] http://mine bookworm main"
    ]


def test_without_a_debian_mirror_the_error_names_what_to_set(tmp_path: Path) -> None:
    _host(tmp_path, {})
    with pytest.raises(LabError, match="FLYD_LAB_MIRROR"):
        mirror_lines({}, etc=tmp_path)


def _host(etc: Path, sources: dict[str, str]) -> None:
    parts = etc / "apt" / "sources.list.d"
    parts.mkdir(parents=True)
    (etc / "os-release").write_text('NAME="Debian"\nVERSION_CODENAME=bookworm\n')
    for name, text in sources.items():
        (parts / name).write_text(text)


def test_the_lines_of_another_release_are_made_of_the_hosts() -> None:
    source = Source("http://deb.debian.org/debian", "bookworm-updates", ("main",))
    [line] = debian_lines([source], "bookworm", "trixie")
    assert line.endswith("http://deb.debian.org/debian trixie-updates main")


def test_a_machine_has_a_release_that_the_lab_knows() -> None:
    assert machine_suite({}) == "bookworm"
    assert machine_suite({"FLYD_LAB_SUITE": "bullseye"}) == "bullseye"
    with pytest.raises(LabError, match="FLYD_LAB_SUITE is sid: give one of bullseye, bookworm, trixie"):
        machine_suite({"FLYD_LAB_SUITE": "sid"})
