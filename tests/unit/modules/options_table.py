# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each option of each module does in each situation: the data that test_options.py runs.

A new option needs a row for each situation of its module; the test says which are missing. A row is one call of the module, with the
options of the situation (``SITUATIONS``), this one, and those in ``also`` (None takes one away). Sub-options are written with a point.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tests.unit._lifecycle.machine import ARCHIVE, KEY
from tests.unit._lifecycle.s3_stand_in import BUCKET
from tests.unit.modules.modules import source

KEY_GIVEN = {"key": KEY.value}


class Effect(enum.Enum):
    """What becomes of the option."""

    MADE = "what is made is made so: the result shows it"
    CONVERGES = "what is there becomes so: changed, and not changed again"
    SAME = "it is so already: nothing changes, nothing is warned of"
    SELECTS = "another thing is meant: the result shows it"
    REFUSED = "an error that names option and value; nothing changes"
    WARNS = "it counts only when something is made, or in another state: a warning names it, and all goes as without it"
    NO_EFFECT = "by nature, as how S3 is reached or how long to wait: all goes as without it, and nothing is warned of"


class Situation(NamedTuple):
    """A stage of the machine (tests/unit/_lifecycle/conftest.py) and the options of a call that is right in it."""

    stage: str
    options: Mapping[str, Any]


class Row(NamedTuple):
    """One option in one situation; ``shows`` are keys of the result and their values, ``kind`` the error_kind, ``says`` a part of the error."""

    module: str
    option: str
    situation: str
    value: Any
    effect: Effect
    shows: Mapping[str, Any] = {}
    also: Mapping[str, Any] = {}
    kind: str = "bad_input"
    says: str = ""
    stage: str = ""
    is_change: bool = False  # it changes something, although it warns
    is_foreseen: bool = (
        True  # whether check mode can tell: it reads no archive, and takes for granted what earlier steps would make
    )


_S3 = {**KEY_GIVEN, "endpoint_url": "S3", "region": "us-east-1", "anonymous": True}
SITUATIONS: dict[str, dict[str, Situation]] = {
    "flyd_pool": {
        "new": Situation("virgin", {"data_size": "4M"}),
        "there": Situation("pooled", {}),
        "down": Situation("rebooted", {}),
        "absent": Situation("pooled", {"state": "absent"}),
        "repaired": Situation("pooled", {"state": "repaired"}),
        "recovered": Situation("lost", {"state": "recovered"}),
    },
    "flyd_fetch": {
        "new": Situation("pooled", {**_S3, "bucket": BUCKET}),
        "there": Situation("fetched", _S3),
        "absent": Situation("fetched", {**KEY_GIVEN, "state": "absent"}),
    },
    "flyd_unpack": {
        "new": Situation("fetched", {**KEY_GIVEN, "size": "1M"}),
        "there": Situation("unpacked", KEY_GIVEN),
        "activated": Situation("activated", KEY_GIVEN),
        "absent": Situation("unpacked", {**KEY_GIVEN, "state": "absent"}),
    },
    "flyd_snapshot": {
        "new": Situation("unpacked", KEY_GIVEN),
        "there": Situation("activated", KEY_GIVEN),
        "absent": Situation("activated", {**KEY_GIVEN, "state": "absent"}),
    },
    "flyd_instance": {
        "new": Situation("activated", {**KEY_GIVEN, "name": "web"}),
        "there": Situation("bound", {**KEY_GIVEN, "name": "web"}),
        "confirmed": Situation("bound", {**KEY_GIVEN, "name": "web", "state": "confirmed"}),
        "previous": Situation("flipped", {**KEY_GIVEN, "name": "web", "state": "previous"}),
        "absent": Situation("bound", {**KEY_GIVEN, "name": "web", "state": "absent"}),
    },
    "flyd_prune": {
        "new": Situation("retired", {"keep": 0}),
        "there": Situation("bound", {}),
    },
    "flyd_info": {"report": Situation("activated", {})},
}


def rows(module: str, option: str, situations: str, value: Any, effect: Effect, **more: Any) -> list[Row]:
    """The same in several situations, named in one string; ``all`` are those of the module."""
    names = SITUATIONS[module] if situations == "all" else situations.split()
    return [Row(module, option, situation, value, effect, **more) for situation in names]


MADE, CONVERGES, SAME, SELECTS = Effect.MADE, Effect.CONVERGES, Effect.SAME, Effect.SELECTS
REFUSED, WARNS, NO_EFFECT = Effect.REFUSED, Effect.WARNS, Effect.NO_EFFECT


def _common() -> Iterable[Row]:
    for module in SITUATIONS:
        yield from rows(module, "state_dir", "all", "relative/path", REFUSED)
        for option, good, bad in (
            ("lock_timeout", 7.5, (-1, "nan")),
            ("command_timeout", 60, (0, -1, "inf")),
            ("retries", 2, (-1, "many")),
            ("retry_delay", 0.25, (-1, "nan")),
        ):
            yield from rows(module, option, "all", good, NO_EFFECT)
            for value in bad:
                yield from rows(module, option, "all", value, REFUSED)
    for module in ("flyd_fetch", "flyd_unpack", "flyd_snapshot", "flyd_instance", "flyd_prune"):
        yield from rows(module, "key", "all", "bad\x07key", REFUSED, says="object key")
        yield from rows(module, "pool", "all", "not/a/name", REFUSED, says="name")
        yield from rows(module, "pool", "all", "pool", NO_EFFECT)
        if module not in ("flyd_instance", "flyd_prune"):
            yield from rows(module, "pool", "absent", "other", REFUSED, stage="activated")
    for module in ("flyd_pool", "flyd_fetch", "flyd_unpack", "flyd_snapshot", "flyd_instance"):
        yield from rows(module, "state", "all", "gone", REFUSED)


def _pool() -> Iterable[Row]:
    value: Any
    m = "flyd_pool"
    there, undone = "there down", "absent repaired recovered"
    for option in ("name", "pool"):
        yield from rows(m, option, "all", "../x", REFUSED, says="name")
        yield from rows(
            m,
            option,
            "new there down",
            "other",
            SELECTS,
            shows={"changed": True, "device": "/dev/mapper/other"},
            also={"data_size": "4M"},
        )
        yield from rows(m, option, "absent", "other", SELECTS, shows={"changed": False, "removed": []})
        yield from rows(m, option, "repaired recovered", "other", REFUSED, kind="out_of_order", says="other")
    yield from rows(m, "pool", "all", "other", WARNS, also={"name": "pool"})
    yield from rows(m, "pool", "all", "pool", NO_EFFECT, also={"name": "pool"})
    yield from rows(m, "key", "new there down", "bad\x07key", REFUSED, says="object key")
    yield from rows(m, "key", "new there down", KEY.value, NO_EFFECT)
    yield from rows(m, "key", undone, KEY.value, REFUSED)
    yield from rows(m, "force", "new there down repaired recovered", True, REFUSED)
    yield from rows(m, "force", "absent", True, SELECTS, shows={"changed": True}, stage="activated")
    for what in ("data", "metadata"):
        yield from rows(m, f"{what}_file", "new", f"TMP/{what}", MADE, shows={f"{what}.path": f"TMP/{what}"})
        yield from rows(m, f"{what}_file", f"{there} {undone}", "/other/file", REFUSED)
        yield from rows(m, f"{what}_device", "all", "/dev/one", REFUSED)
        yield from rows(
            m, f"{what}_device", f"{there} {undone}", "/dev/one", REFUSED, also=_other(what), says="data_device"
        )
    yield from rows(m, "adopt", "new there down", True, NO_EFFECT)
    yield from rows(m, "adopt", undone, True, WARNS)
    yield from rows(m, "adopt", "new there down", "perhaps", REFUSED)
    yield from rows(m, "data_size", "new", "2M", MADE, shows={"data.size": 2 << 20})
    yield from rows(m, "data_size", there, "8M", CONVERGES, shows={"data.size": 8 << 20})
    yield from rows(m, "data_size", there, "4M", SAME)
    yield from rows(m, "data_size", there, "1M", REFUSED)
    yield from rows(m, "metadata_size", "new", "32M", MADE, shows={"metadata.size": 32 << 20})
    yield from rows(m, "metadata_size", there, "32M", CONVERGES, shows={"metadata.size": 32 << 20})
    yield from rows(m, "metadata_size", f"{there}", "4K", REFUSED)
    yield from rows(m, "metadata_size", "repaired", "32M", WARNS)
    yield from rows(m, "metadata_size", "repaired", "lots", REFUSED)
    yield from rows(m, "metadata_size", "absent recovered", "32M", WARNS)
    yield from rows(m, "block_size", "new", "128K", MADE, shows={"block_size": 128 << 10})
    yield from rows(m, "block_size", there, "128K", REFUSED)
    yield from rows(m, "block_size", there, "64K", SAME)
    yield from rows(m, "low_water_mark", "new", 3, MADE, shows={"low_water_mark": 3})
    yield from rows(m, "low_water_mark", there, 3, CONVERGES, shows={"low_water_mark": 3})
    yield from rows(m, "error_if_no_space", "new", False, MADE, shows={"error_if_no_space": False})
    yield from rows(m, "error_if_no_space", there, False, CONVERGES, shows={"error_if_no_space": False})
    yield from rows(m, "min_free_percent", "new", 5, MADE, shows={"min_free_percent": 5})
    yield from rows(m, "min_free_percent", there, 5, CONVERGES, shows={"min_free_percent": 5})
    for option, value in (("max_size", "1G"), ("grow_by", "1M"), ("grow_reserve", "5%")):
        yield from rows(m, option, "new", value, MADE, shows={option: value})
        yield from rows(m, option, there, value, CONVERGES, shows={option: value})
    yield from rows(m, "max_size", f"new {there}", "2M", REFUSED, says="less than the 4 MiB")
    yield from rows(m, "max_size", there, "none", SAME)
    for option, bad in (
        ("data_size", ("lots", "0", "-4M", "0%", "101%")),
        ("metadata_size", ("lots", "0", "5000")),
        ("block_size", ("lots", "1000", "2G")),
        ("low_water_mark", (-1, "few")),
        ("error_if_no_space", ("perhaps",)),
        ("min_free_percent", (-1, 100, "much")),
        ("max_size", ("lots", "0", "101%")),
        ("grow_by", ("lots", "0", "101%")),
        ("grow_reserve", ("lots", "0", "101%")),
    ):
        for value in bad:
            yield from rows(m, option, f"new {there}", value, REFUSED)
    for option, value in (
        ("data_size", "8M"),
        ("block_size", "128K"),
        ("low_water_mark", 3),
        ("error_if_no_space", False),
        ("min_free_percent", 5),
        ("max_size", "1G"),
        ("grow_by", "1M"),
        ("grow_reserve", "5%"),
    ):
        yield from rows(m, option, undone, value, WARNS)


def _other(what: str) -> dict[str, Any]:
    return {"metadata_device" if what == "data" else "data_device": "/dev/two"}


def _fetch() -> Iterable[Row]:
    value: Any
    m = "flyd_fetch"
    asks = "new there"
    digest = f"sha256:{SHA256}"
    yield from rows(m, "bucket", asks, "another-bucket", SELECTS, shows={"failed": True, "error_kind": "bad_input"})
    yield from rows(m, "bucket", asks, "s3://bucket", REFUSED)
    yield from rows(m, "bucket", "absent", "another-bucket", REFUSED)
    yield from rows(m, "bucket", "there absent", BUCKET, NO_EFFECT)
    yield from rows(m, "force", asks, True, REFUSED)
    yield from rows(m, "force", "absent", True, SELECTS, shows={"changed": True}, stage="activated")
    yield from rows(m, "pool", "there", "other", REFUSED, stage="unpacked")
    yield from rows(m, "sha256", asks, SHA256, REFUSED)
    yield from rows(m, "sha256", "absent", digest, SELECTS, shows={"removed": [f"STATE/archives/{SHA256}"]})
    yield from rows(m, "sha256", "absent", OTHER, SELECTS, shows={"changed": False, "removed": []})
    yield from rows(m, "sha256", "absent", "sha512:12", REFUSED)
    for option, value in (
        ("region", "eu-west-1"),
        ("addressing", "path"),
        ("connections", 4),
        ("part_size", "4M"),
        ("connect_timeout", 5),
        ("read_timeout", 5),
        ("stall_timeout", 5),
        ("stall_rate", 10),
        ("deadline", 600),
        ("max_rate", "100M"),
        ("max_rate", "0"),
        ("anonymous", True),
        ("validate_certs", False),
    ):
        yield from rows(m, option, "all", value, NO_EFFECT)
    yield from rows(m, "src", asks, "s3://bucket/key", REFUSED)
    yield from rows(m, "src", "absent", "/srv/a.tar", WARNS)
    yield from rows(m, "remote_src", asks, True, REFUSED, says="remote_src")
    yield from rows(m, "remote_src", "absent", True, WARNS)
    yield from rows(m, "headers", asks, {"X-Token": "t"}, REFUSED, says="headers")
    yield from rows(m, "headers", "absent", {"X-Token": "t"}, WARNS)
    for option in ("url_username", "url_password"):
        yield from rows(m, option, asks, "somebody", REFUSED, says=option)
        yield from rows(m, option, "absent", "somebody", WARNS)
    sent = {"sha256": "0" * 64, "size": 1}
    yield from rows(m, "controller_file", "all", sent, NO_EFFECT)
    for option in ("sha256", "size", "path"):
        yield from rows(m, f"controller_file.{option}", "all", "x", REFUSED, says="controller_file")
    yield from rows(m, "version_id", asks, "a version", REFUSED)
    yield from rows(m, "version_id", "absent", "v1", WARNS)
    yield from rows(m, "request_payer", "all", "requester", NO_EFFECT)
    yield from rows(m, "request_payer", asks, "somebody", REFUSED)
    yield from rows(m, "sse_customer_key", asks, "k" * 32, REFUSED, says="TLS")
    yield from rows(m, "sse_customer_key", "absent", "k" * 32, NO_EFFECT)
    yield from rows(m, "dualstack", asks, "perhaps", REFUSED)
    yield from rows(m, "dualstack", "absent", True, NO_EFFECT)
    yield from rows(m, "assume_role_arn", asks, "a-role", REFUSED)
    yield from rows(
        m, "assume_role_arn", "absent", "arn:aws:iam::123456789012:role/r", NO_EFFECT, also={"anonymous": None}
    )
    yield from rows(m, "external_id", asks, "e-1-x", REFUSED, says="assume_role_arn")
    yield from rows(m, "external_id", "absent", "e-1-x", NO_EFFECT)
    yield from rows(m, "sts_endpoint_url", asks, "https://sts.example.org", REFUSED, says="assume_role_arn")
    yield from rows(m, "sts_endpoint_url", "absent", "https://sts.example.org", NO_EFFECT)
    yield from rows(m, "aws_config", asks, {"connect_timeout": 3}, REFUSED)
    yield from rows(m, "aws_config", "absent", {"use_fips_endpoint": True}, NO_EFFECT)
    keys = {
        "access_key": "AKIATEST",
        "secret_key": "0wJalrXUtnFEMI",
        "session_token": "0FwoGZXIvYXdz",
        "anonymous": None,
    }
    for option in ("access_key", "secret_key", "session_token"):
        yield from rows(m, option, "all", keys[option], NO_EFFECT, also=keys)
    yield from rows(m, "access_key", "all", "AKIATEST", REFUSED, also={"anonymous": None})
    yield from rows(m, "secret_key", "all", "0wJalrXUtnFEMI", REFUSED, also={"anonymous": None})
    yield from rows(m, "session_token", asks, "0FwoGZXIvYXdz", REFUSED)
    yield from rows(m, "profile", asks, "not-there", REFUSED, also={"anonymous": None})
    yield from rows(m, "profile", "absent", "not-there", NO_EFFECT, also={"anonymous": None})
    yield from rows(m, "endpoint_url", asks, "ftp://server", REFUSED, says="endpoint_url")
    yield from rows(m, "endpoint_url", "absent", "https://server", NO_EFFECT)
    yield from rows(m, "ca_bundle", asks, "/not/there.pem", REFUSED)
    yield from rows(m, "ca_bundle", "absent", "/not/there.pem", NO_EFFECT)
    for option, bad in (
        ("anonymous", ("perhaps",)),
        ("validate_certs", ("perhaps",)),
        ("addressing", ("neither",)),
        ("connections", (0, -1, 1000, "many")),
        ("part_size", ("lots", "0")),
        ("connect_timeout", (0, -1, "nan")),
        ("read_timeout", (0, -1, "nan")),
        ("stall_timeout", (-1, "inf")),
        ("stall_rate", (-1,)),
        ("deadline", (-1, "nan")),
        ("max_rate", ("fast", "-1", "0.1")),
        ("checksum", ("sha256:12", "md5:12")),
        ("checksum_policy", ("never",)),
        ("on_change", ("whatever",)),
        ("reuse", ("key",)),
        ("max_size", ("lots", "0")),
    ):
        for value in bad:
            yield from rows(m, option, asks, value, REFUSED)
    yield from rows(m, "checksum", asks, digest, SELECTS, shows={"trust": "pinned", "sha256": SHA256})
    # Only the bytes tell, so check mode does not.
    yield from rows(
        m, "checksum", asks, f"sha256:{'0' * 64}", REFUSED, kind="untrusted", says="0" * 64, is_foreseen=False
    )
    yield from rows(m, "checksum", "absent", digest, WARNS)
    yield from rows(m, "checksum_policy", asks, "require", REFUSED, kind="untrusted", says="checksum")
    yield from rows(m, "checksum_policy", "absent", "require", WARNS)
    yield from rows(m, "on_change", asks, "refuse", NO_EFFECT)
    yield from rows(m, "on_change", asks, "ignore", NO_EFFECT)
    yield from rows(m, "on_change", "absent", "refuse", WARNS)
    yield from rows(m, "reuse", asks, "never", NO_EFFECT)  # what it saves: tests/unit/_lifecycle/fetch/test_copies.py
    yield from rows(m, "reuse", "absent", "never", WARNS)
    yield from rows(m, "max_size", "new", "1K", REFUSED)
    yield from rows(m, "max_size", "there", "1K", WARNS)
    yield from rows(m, "max_size", "there", "1G", SAME)
    yield from rows(m, "max_size", "absent", "1K", WARNS)
    yield from rows(m, "assume_pool_size", asks, "4M", NO_EFFECT)
    yield from rows(m, "assume_pool_size", asks, "lots", REFUSED)
    yield from rows(m, "assume_pool_size", "absent", "4M", WARNS)


def _unpack() -> Iterable[Row]:
    value: Any
    m = "flyd_unpack"
    there, present = "there activated", "new there activated"
    yield from rows(m, "sha256", "new", SHA256, MADE, shows={"sha256": SHA256})
    yield from rows(m, "sha256", there, f"sha256:{SHA256}", SAME, shows={"sha256": SHA256})
    yield from rows(m, "sha256", present, OTHER, REFUSED, kind="out_of_order", says=f"sha256:{SHA256} (current)")
    yield from rows(m, "sha256", "all", "12", REFUSED)
    yield from rows(m, "sha256", "absent", SHA256, SELECTS, shows={"changed": True})
    yield from rows(m, "sha256", "absent", OTHER, SELECTS, shows={"changed": False, "removed": []})
    yield from rows(m, "pool", "new", "other", REFUSED, kind="out_of_order", is_foreseen=False)
    yield from rows(m, "pool", there, "other", REFUSED)
    yield from rows(m, "force", present, True, REFUSED)
    yield from rows(m, "force", "absent", True, SELECTS, shows={"changed": True}, stage="activated")
    yield from rows(m, "size", "new", "2M", MADE, shows={"size": 2 << 20})
    yield from rows(m, "size", there, "2M", WARNS)
    yield from rows(m, "size", there, "512K", WARNS)
    yield from rows(m, "size", there, "1M", SAME)
    yield from rows(m, "size", there, "1000K", SAME)
    yield from rows(m, "size", present, "lots", REFUSED)
    without = {"size": None}
    yield from rows(  # the pool is too small for a real file system
        m, "free_size", "new", "2M", REFUSED, kind="no_space", says="the thin pool", also=without, is_foreseen=False
    )
    yield from rows(m, "free_size", there, "2M", WARNS)
    yield from rows(m, "free_size", present, "lots", REFUSED, also=without)
    yield from rows(m, "free_size", "absent", "2M", WARNS)
    yield from rows(m, "platform", "new", "linux/x86_64", MADE, shows={"platform": "linux/amd64"})
    yield from rows(m, "platform", "new", "linux/riscv64", REFUSED, says="linux/riscv64", is_foreseen=False)
    yield from rows(m, "platform", there, "linux/riscv64", WARNS)
    yield from rows(m, "platform", there, "linux/x86-64", SAME)
    yield from rows(m, "platform", present, "amd64", REFUSED)
    yield from rows(m, "image_name", "new", "0", MADE, shows={"layers": 2})
    yield from rows(m, "image_name", "new", "nothing-like-it", REFUSED, says="nothing-like-it", is_foreseen=False)
    yield from rows(m, "image_name", there, "nothing-like-it", WARNS)
    yield from rows(m, "device_nodes", "new", "skip", MADE, shows={"devices": 0})
    yield from rows(m, "device_nodes", there, "skip", WARNS)
    yield from rows(m, "device_nodes", there, "create", SAME)
    yield from rows(m, "device_nodes", present, "sometimes", REFUSED)
    motd = {"src": "/etc/hostname", "dest": "/etc/motd"}
    yield from rows(m, "inject", "new", [motd], MADE, shows={"changed": True})
    yield from rows(m, "inject", there, [motd], WARNS)
    yield from rows(m, "inject", "absent", [motd], WARNS)
    yield from rows(m, "inject", present, [{"src": "/etc/hostname"}], REFUSED, says="dest")
    for bad in (
        {"src": "/no/such/file"},
        {"src": "relative"},
        {"src": "/etc"},
        {"dest": "/../etc/passwd"},
        {"dest": "etc/motd"},
    ):
        yield from rows(m, "inject", present, [{**motd, **bad}], REFUSED, says=next(iter(bad)))
    for name, value in (("src", "relative"), ("dest", "/etc/"), ("mode", "rwx"), ("owner", -1), ("group", -1)):
        yield from rows(m, f"inject.{name}", present, value, REFUSED, also={"inject": motd}, says=name)
        yield from rows(m, f"inject.{name}", "absent", value, WARNS, also={"inject": motd})
    yield from rows(m, "reuse", "new", "never", MADE, shows={"fresh_because": "reuse_never", "origin": None})
    yield from rows(m, "reuse", "new", "key", MADE, shows={"fresh_because": "no_earlier_base"})
    yield from rows(m, "reuse", there, "never", SAME)
    yield from rows(m, "reuse", present, "sometimes", REFUSED)
    yield from rows(m, "keep_archive", "new", False, MADE, shows={"removed": [f"STATE/archives/{SHA256}"]})
    yield from rows(m, "keep_archive", there, False, CONVERGES, shows={"changed": True})
    yield from rows(m, "keep_archive", there, True, SAME)
    yield from rows(m, "keep_archive", present, "perhaps", REFUSED)
    yield from rows(m, "assume", present, ["sunshine"], REFUSED)
    yield from rows(m, "assume", present, ["pool"], NO_EFFECT)
    yield from rows(m, "limits", present, {"no_such_limit": 1}, REFUSED)
    yield from rows(m, "limits", there, {"entries": 2_000_000}, SAME)
    for option, value in (
        ("size", "2M"),
        ("platform", "linux/riscv64"),
        ("image_name", "other"),
        ("device_nodes", "skip"),
        ("reuse", "never"),
        ("keep_archive", False),
        ("assume", ["pool"]),
        ("limits", {"entries": 1}),
    ):
        yield from rows(m, option, "absent", value, WARNS)
    for name in source(m).LIMITS:
        is_size = name.endswith("_bytes")
        yield from rows(m, f"limits.{name}", present, "0" if is_size else 0, REFUSED)
        yield from rows(m, f"limits.{name}", there, "1K" if is_size else 1, WARNS)
        yield from rows(m, f"limits.{name}", "absent", "1K" if is_size else 1, WARNS)
    for name, value in (("entries", 1), ("file_bytes", "1"), ("layers", 1)):
        yield from rows(m, f"limits.{name}", "new", value, REFUSED, kind="untrusted", is_foreseen=False)


def _snapshot() -> Iterable[Row]:
    value: Any
    m = "flyd_snapshot"
    present = "new there"
    yield from rows(m, "sha256", "new", SHA256, MADE, shows={"sha256": SHA256})
    yield from rows(m, "sha256", "there", f"sha256:{SHA256}", SAME, shows={"sha256": SHA256})
    yield from rows(m, "sha256", present, OTHER, REFUSED, kind="out_of_order", says=f"sha256:{SHA256} (current)")
    yield from rows(m, "sha256", "all", "12", REFUSED)
    yield from rows(m, "sha256", "absent", SHA256, SELECTS, shows={"changed": True})
    yield from rows(m, "sha256", "absent", OTHER, SELECTS, shows={"changed": False, "removed": []})
    yield from rows(m, "pool", "new there", "other", REFUSED)
    yield from rows(m, "name", "all", "../x", REFUSED)
    yield from rows(m, "name", present, "guest", SELECTS, shows={"changed": True, "name": "guest"})
    yield from rows(m, "name", "absent", "guest", SELECTS, shows={"changed": False, "removed": []})
    yield from rows(m, "size", "new", "2M", MADE, shows={"size": 2 << 20})
    yield from rows(m, "size", "new", "512K", REFUSED)
    yield from rows(m, "size", "there", "2M", WARNS, shows={"changed": True, "size": 2 << 20}, is_change=True)
    yield from rows(m, "size", "there", "512K", REFUSED)
    yield from rows(m, "size", "there", "1M", SAME)
    yield from rows(m, "size", present, "lots", REFUSED)
    yield from rows(m, "recreate", present, True, SELECTS, shows={"changed": True, "name": "default"})
    yield from rows(m, "recreate", "there", False, SAME)
    yield from rows(m, "recreate", present, "perhaps", REFUSED)
    yield from rows(m, "read_only", "new", True, MADE, shows={"read_only": True, "drive.is_read_only": True})
    yield from rows(m, "read_only", "there", True, CONVERGES, shows={"read_only": True, "drive.is_read_only": True})
    yield from rows(m, "read_only", "there", False, SAME)
    yield from rows(m, "read_only", present, "perhaps", REFUSED)
    yield from rows(m, "owner", "new", "1234", MADE, shows={"node.uid": 1234})
    yield from rows(m, "owner", "there", "1234", CONVERGES, shows={"node.uid": 1234})
    yield from rows(m, "group", "new", "1234", MADE, shows={"node.gid": 1234})
    yield from rows(m, "group", "there", "1234", CONVERGES, shows={"node.gid": 1234})
    for value in ("not-a-user-of-this-host", str(2**32)):
        yield from rows(m, "owner", present, value, REFUSED)
        yield from rows(m, "group", present, value, REFUSED)
    yield from rows(m, "mode", "new", "0640", MADE, shows={"node.mode": 0o640})
    for value, bits in (
        ("0640", 0o640),
        ("0o640", 0o640),
        (0o640, 0o640),
        ("u=rwx,g=r,o=", 0o740),
        ("u=rw,go=", 0o600),
        (660, 0o1224),
        ("a+x", None),
    ):
        yield from rows(m, "mode", "there", value, CONVERGES, shows={} if bits is None else {"node.mode": bits})
    for value in ("0999", "rw-rw----", "-0640", 0o10000, -1, "u=", "preserve"):
        expected = CONVERGES if value == "u=" else REFUSED
        yield from rows(m, "mode", "there", value, expected)
    yield from rows(m, "mode", "new", "preserve", REFUSED)
    yield from rows(m, "assume", present, ["sunshine"], REFUSED)
    yield from rows(m, "assume", present, ["pool"], NO_EFFECT)
    for option, value in (
        ("size", "2M"),
        ("read_only", True),
        ("recreate", True),
        ("owner", "root"),
        ("group", "root"),
        ("mode", "0640"),
        ("assume", ["pool"]),
    ):
        yield from rows(m, option, "absent", value, WARNS)


def _instance() -> Iterable[Row]:
    value: Any
    m = "flyd_instance"
    present, undone = "new there", "confirmed previous absent"
    yield from rows(m, "pool", "all", "other", REFUSED)
    yield from rows(m, "name", "all", "../x", REFUSED)
    yield from rows(m, "name", present, "other", SELECTS, shows={"changed": True, "name": "other"})
    for situation in ("confirmed", "previous"):
        yield from rows(m, "name", situation, "other", REFUSED, kind="out_of_order", says="other")
    yield from rows(m, "name", "absent", "other", SELECTS, shows={"changed": False, "removed": []})
    yield from rows(m, "sha256", "all", "12", REFUSED)
    yield from rows(m, "sha256", "new there confirmed", SHA256, SAME)
    yield from rows(m, "sha256", "previous", SHA256, SELECTS, shows={"changed": True, "current": SHA256})
    yield from rows(m, "sha256", present, "0" * 64, REFUSED, kind="out_of_order", says="0" * 64, is_foreseen=False)
    yield from rows(
        m, "sha256", "confirmed previous", "0" * 64, REFUSED, kind="out_of_order", says="0" * 64, is_foreseen=False
    )
    yield from rows(m, "sha256", "absent", SHA256, WARNS)
    for option, value in (
        ("switch", ["/bin/true"]),
        ("switch_timeout", 60),
        ("min_healthy", 1),
        ("healthy_deadline", 30),
        ("health_interval", 1),
    ):
        yield from rows(m, option, "new", value, MADE)
        yield from rows(m, option, "there", value, CONVERGES)
        yield from rows(m, option, undone, value, WARNS)
    yield from rows(m, "switch", present, ["no-such-program"], REFUSED, says="no-such-program", stage="activated")
    for option in ("switch_timeout", "min_healthy", "healthy_deadline", "health_interval", "confirm_within"):
        for value in (-1, "many" if option == "confirm_within" else "nan"):
            yield from rows(m, option, "all", value, REFUSED)
    yield from rows(m, "confirm_within", present, 600, REFUSED, kind="unsupported")
    yield from rows(m, "confirm_within", undone, 600, WARNS)
    quick = {"min_healthy": 0, "healthy_deadline": 0, "health_interval": 0.01}
    yield from rows(m, "health", "all", {"no_such_check": 1}, REFUSED, says="no_such_check")
    yield from rows(m, "health", "new", {}, MADE)
    yield from rows(m, "health", "there", {}, SAME)
    yield from rows(m, "health", undone, {"port": 1}, WARNS)
    for option, good, bad in (
        ("command", ["/bin/true"], None),
        ("port", 6379, 70000),
        ("host", "127.0.0.2", None),
        ("url", "http://127.0.0.1:1/", "ftp://server"),
        ("status", 204, "many"),
    ):
        name = f"health.{option}"
        is_alone = option in ("host", "status")  # of a check that is not given
        yield from rows(m, name, "there", good, SAME if is_alone else CONVERGES)
        yield from rows(m, name, undone, good, WARNS)
        if option == "command" or is_alone:
            yield from rows(m, name, "new", good, MADE, also=quick)
        else:
            unhealthy = {"failed": True, "error_kind": "unhealthy"}
            yield from rows(m, name, "new", good, SELECTS, shows=unhealthy, also=quick, is_foreseen=False)
        if bad is not None:
            yield from rows(m, name, present, bad, REFUSED, says=option)
    yield from rows(m, "size", "new", "2M", MADE)
    yield from rows(m, "size", "there", "2M", WARNS, shows={"changed": True}, is_change=True)
    yield from rows(m, "size", present, "lots", REFUSED)
    yield from rows(m, "read_only", "new", True, MADE, shows={"drive.is_read_only": True})
    yield from rows(m, "read_only", "there", True, CONVERGES, shows={"drive.is_read_only": True})
    yield from rows(m, "read_only", "there", False, SAME)
    for option in ("owner", "group"):
        id_name = "uid" if option == "owner" else "gid"
        yield from rows(m, option, "new", "1234", MADE, shows={f"node.{id_name}": 1234})
        yield from rows(m, option, "there", "1234", CONVERGES, shows={f"node.{id_name}": 1234})
        yield from rows(m, option, present, "not-a-user-of-this-host", REFUSED)
    yield from rows(m, "mode", "new", "0640", MADE, shows={"node.mode": 0o640})
    yield from rows(m, "mode", "there", "0640", CONVERGES, shows={"node.mode": 0o640})
    yield from rows(m, "mode", present, "preserve", REFUSED)
    yield from rows(m, "assume", "all", ["sunshine"], REFUSED)
    yield from rows(m, "assume", "new there confirmed", ["pool"], NO_EFFECT)
    for option, value in (
        ("size", "2M"),
        ("read_only", True),
        ("owner", "root"),
        ("group", "root"),
        ("mode", "0640"),
    ):
        yield from rows(m, option, undone, value, WARNS)
    yield from rows(m, "assume", "previous absent", ["pool"], WARNS)


def _prune() -> Iterable[Row]:
    m = "flyd_prune"
    nothing = {"changed": False, "removed": []}
    yield from rows(m, "key", "all", KEY.value, NO_EFFECT)
    yield from rows(m, "key", "all", "images/other.tar", SELECTS, shows=nothing)
    yield from rows(m, "pool", "new", "other", SELECTS, shows=nothing)
    yield from rows(m, "pool", "there", "other", WARNS)
    yield from rows(m, "keep", "new", 3, SELECTS, shows=nothing)
    yield from rows(m, "keep", "there", 0, NO_EFFECT)
    yield from rows(m, "older_than", "new", "1d", SELECTS, shows=nothing)
    yield from rows(m, "older_than", "new", "0", NO_EFFECT)
    yield from rows(m, "older_than", "there", "1d", NO_EFFECT)
    yield from rows(m, "min_free", "new", "1%", SELECTS, shows=nothing)
    yield from rows(m, "min_free", "new", "64K", SELECTS, shows=nothing)
    yield from rows(m, "min_free", "there", "1%", NO_EFFECT)
    yield from rows(m, "archives", "new", False, MADE, shows={"changed": True})
    yield from rows(m, "archives", "there", False, NO_EFFECT)
    for option, bad in (
        ("keep", (-1, "few")),
        ("older_than", ("soon", "-1d", "1.5d", "1y")),
        ("min_free", ("lots", "0", "0%", "101%")),
        ("archives", ("perhaps",)),
    ):
        for value in bad:
            yield from rows(m, option, "all", value, REFUSED)


def _info() -> Iterable[Row]:
    yield from rows("flyd_info", "what", "report", ["weather"], REFUSED)
    yield from rows("flyd_info", "what", "report", ["drift"], SELECTS, shows={"images": None})
    yield from rows("flyd_info", "runs", "report", 3, NO_EFFECT)
    for value in (0, -1, "many"):
        yield from rows("flyd_info", "runs", "report", value, REFUSED)
    yield from rows("flyd_info", "pool", "report", "not/a/name", REFUSED, says="name")
    yield from rows("flyd_info", "pool", "report", "pool", SAME)
    yield from rows("flyd_info", "key", "report", "bad\x07key", REFUSED, says="object key")
    yield from rows("flyd_info", "key", "report", KEY.value, SAME)
    nothing: dict[str, Any] = {"images": [], "snapshots": [], "instances": [], "operations": []}
    yield from rows("flyd_info", "key", "report", "other.tar", SELECTS, shows=nothing)
    other: dict[str, Any] = {"images": [], "snapshots": [], "pools": [], "instances": [], "operations": [], "drift": []}
    yield from rows("flyd_info", "pool", "report", "other", SELECTS, shows=other)
    yield from rows("flyd_info", "state_dir", "report", "TMP/empty", SELECTS, shows={"images": []})


def _sha256() -> str:
    import hashlib

    return hashlib.sha256(ARCHIVE).hexdigest()


SHA256, OTHER = _sha256(), "0" * 64
ROWS = [*_common(), *_pool(), *_fetch(), *_unpack(), *_snapshot(), *_instance(), *_prune(), *_info()]
