# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The numbers for Prometheus are those of the host, and looking at them changes nothing."""

from __future__ import annotations

import errno
import re

import pytest

from module_utils._errors import FlydError, OutOfOrder, Untrusted
from module_utils._lifecycle.report.metrics import metrics
from tests.unit._lifecycle.machine import POOL_BYTES, Machine

LINE = re.compile(r'^([a-z_]+)(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? (\S+)$')


def numbers(machine: Machine) -> dict[str, float]:
    """Name with labels, and value."""
    with machine.host(dry_run=True) as host:
        lines = metrics(host).splitlines()
    samples = [LINE.match(line) for line in lines if not line.startswith("#")]
    assert None not in samples, lines
    return {f"{one[1]}{one[2] or ''}": float(one[4]) for one in samples if one}


def test_the_numbers_are_those_of_the_host(activated: Machine) -> None:
    before = activated.everything()
    found = numbers(activated)
    assert activated.everything() == before
    assert found['flyd_pool_active{pool="pool"}'] == 1
    assert found['flyd_pool_healthy{pool="pool",mode="rw"}'] == 1
    assert found['flyd_pool_data_bytes{pool="pool"}'] == POOL_BYTES
    assert 0 < found['flyd_pool_data_used_bytes{pool="pool"}'] < POOL_BYTES
    assert found['flyd_images{state="activated"}'] == 1
    assert found['flyd_snapshots{mapped="true"}'] == 1
    for transition in ("pool", "fetch", "unpack", "snapshot"):
        assert found[f'flyd_transitions_total{{transition="{transition}",outcome="ok",error_kind=""}}'] == 1
        assert found[f'flyd_transition_seconds_total{{transition="{transition}"}}'] >= 0


def test_a_pool_that_cannot_be_asked_does_not_hide_the_others(pooled: Machine) -> None:
    pooled.pool(name="other")
    pooled.fake.refuse("dmsetup status --noflush pool", errno.EIO)
    found = numbers(pooled)
    assert found['flyd_pool_healthy{pool="pool",mode="none"}'] == 0
    assert found['flyd_pool_healthy{pool="other",mode="rw"}'] == 1


def test_failures_show_by_their_kind(pooled: Machine) -> None:
    with pooled.host() as host:
        host.log.failed(OutOfOrder("not yet", hint="h"), module="flyd_unpack", subject="k")
        host.log.failed(Untrusted("other bytes", hint="h"), module="flyd_fetch", subject="k")
    found = numbers(pooled)
    assert found['flyd_failures_total{error_kind="out_of_order"}'] == 1
    assert found['flyd_failures_total{error_kind="untrusted"}'] == 1
    assert found["flyd_security_events_total"] == 1


def test_transitions_that_failed_and_sick_pools_show(fetched: Machine) -> None:
    pooled = fetched
    pooled.fake.refuse("mkfs.ext4", errno.EIO)
    with pytest.raises(FlydError):
        pooled.unpack()
    found = numbers(pooled)
    assert found['flyd_transitions_total{transition="unpack",outcome="failed",error_kind="command_failed"}'] == 1
    pooled.remove_image()
    pooled.killed_at("fetch:downloaded", pooled.fetch)
    pooled.fake.set_pool("pool", needs_check=True)
    assert numbers(pooled)['flyd_pool_healthy{pool="pool",mode="rw"}'] == 0
    pooled.fake.reboot()
    found = numbers(pooled)
    assert (found['flyd_pool_active{pool="pool"}'], found['flyd_pool_healthy{pool="pool",mode="none"}']) == (0, 0)


def test_a_host_without_anything_has_numbers_too(virgin: Machine) -> None:
    assert numbers(virgin)['flyd_snapshots{mapped="true"}'] == 0


def test_lines_of_the_log_that_were_cut_short_are_passed_over(pooled: Machine) -> None:
    log = pooled.state / "log" / "flyd.jsonl"
    log.write_bytes(log.read_bytes() + b'{"event": "end", "tran\n[1]\n\xff\n')
    assert numbers(pooled)['flyd_transitions_total{transition="pool",outcome="ok",error_kind=""}'] == 1
