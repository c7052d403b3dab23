"""The S3 server's ports, key and command line, without a server."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from disks.cache import Cache
from programs import LabError
from s3_server import s3
from s3_server.s3 import S3


def test_a_port_in_use_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind((s3.ADDRESS, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not s3._is_free(port)
    assert s3._is_free(port)


def test_a_port_whose_grpc_neighbour_is_in_use_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_is_free", lambda port: port != 18333)
    assert s3._free_port(8333, "s3") == 8334


def test_no_free_port_is_reported_with_its_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "_is_free", lambda port: False)
    with pytest.raises(LabError, match="from 8333 to"):
        s3._free_port(8333, "s3")


def test_no_identity_is_anonymous_and_no_two_keys_are_the_same() -> None:
    one, two = (json.loads(s3._new_identities())["identities"] for _ in range(2))
    assert [identity["name"] for identity in one] == ["lab"]
    assert one[0]["credentials"] != two[0]["credentials"]


def test_every_part_listens_on_the_loopback_with_a_port_of_its_own(tmp_path: Path) -> None:
    argv = list(S3(Cache(tmp_path))._argv("weed", {"s3": 8333, "master": 9333, "volume": 8080, "filer": 8888}))
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1"} <= set(argv)
    assert {"-s3.port=8333", "-s3.port.grpc=18333", "-master.port.grpc=19333", "-filer.port=8888"} <= set(argv)


def test_the_url_of_a_server_that_is_down_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="s3 up"):
        S3(Cache(tmp_path)).url()
