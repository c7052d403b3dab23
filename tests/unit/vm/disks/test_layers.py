"""A difference laid over the older tree gives the newer one."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from disks.layers import write_base, write_difference, write_whiteouts


def _file(name: str, content: bytes = b"", **more: object) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for attribute, value in more.items():
        setattr(member, attribute, value)
    return member, content


def _directory(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return _file(name, type=tarfile.DIRTYPE)


def _tar(path: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in entries:
            tar.addfile(member, io.BytesIO(content))
    return path


def _difference(tmp_path: Path, older: Path, newer: Path) -> dict[str, bytes]:
    write_difference(older, newer, tmp_path / "layer.tar")
    with tarfile.open(tmp_path / "layer.tar") as tar:
        streams = {member.name: tar.extractfile(member) if member.isreg() else None for member in tar}
        return {name: stream.read() if stream else b"" for name, stream in streams.items()}


def test_only_what_is_new_or_changed_is_in_the_layer(tmp_path: Path) -> None:
    older = _tar(tmp_path / "a", _file("./same", b"1"), _file("./content", b"1"), _file("./mode", b"1"))
    newer = _tar(
        tmp_path / "b",
        _file("./same", b"1"),
        _file("./content", b"2"),
        _file("./mode", b"1", mode=0o600),
        _file("./new"),
    )
    assert _difference(tmp_path, older, newer) == {"./content": b"2", "./mode": b"1", "./new": b""}


def test_a_change_of_time_or_capability_is_a_change(tmp_path: Path) -> None:
    capability = {"SCHILY.xattr.security.capability": "x"}
    older = _tar(tmp_path / "a", _file("./time", pax_headers={"mtime": "1.1"}), _file("./xattr"))
    newer = _tar(
        tmp_path / "b", _file("./time", pax_headers={"mtime": "1.2"}), _file("./xattr", pax_headers=capability)
    )
    assert set(_difference(tmp_path, older, newer)) == {"./time", "./xattr"}


def test_what_is_gone_becomes_one_whiteout_for_its_whole_tree(tmp_path: Path) -> None:
    older = _tar(tmp_path / "a", _directory("./d"), _directory("./d/gone"), _file("./d/gone/file"), _file("./kept"))
    newer = _tar(tmp_path / "b", _directory("./d"), _file("./kept"))
    assert _difference(tmp_path, older, newer) == {"d/.wh.gone": b""}


def test_a_link_to_a_changed_file_comes_along(tmp_path: Path) -> None:
    link = _file("./link", type=tarfile.LNKTYPE, linkname="./file")
    older = _tar(tmp_path / "a", _file("./file", b"1"), link)
    newer = _tar(tmp_path / "b", _file("./file", b"2"), link)
    assert set(_difference(tmp_path, older, newer)) == {"./file", "./link"}


def test_the_directory_of_devices_is_kept_without_the_devices(tmp_path: Path) -> None:
    null = _file("./dev/null", type=tarfile.CHRTYPE)
    tree = _tar(tmp_path / "a", _directory("./dev"), null, _file("./devices"))
    write_base(tree, tmp_path / "layer.tar")
    with tarfile.open(tmp_path / "layer.tar") as tar:
        assert tar.getnames() == ["./dev", "./devices"]
    newer = _tar(tmp_path / "b", _directory("./dev"), null, _file("./devices"), _file("./new"))
    assert set(_difference(tmp_path, tree, newer)) == {"./new"}


def test_whiteouts_take_away_by_name_and_by_emptying(tmp_path: Path) -> None:
    tree = _tar(tmp_path / "a", _directory("./usr/doc"), _directory("./lists"), _file("./lists/one"))
    write_whiteouts(tree, tmp_path / "layer.tar", removed=["usr/doc"], emptied=["lists"])
    with tarfile.open(tmp_path / "layer.tar") as tar:
        assert tar.getnames() == ["usr/.wh.doc", "./lists", "lists/.wh..wh..opq"]
