# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a rollout: spans from results, every host once, a page that no message can break, and a line of progress."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from plugin_utils._rollout import results
from plugin_utils._rollout.progress import Progress
from plugin_utils._rollout.report.document import document
from plugin_utils._rollout.report.page import page
from plugin_utils._rollout.report.recorder import Recorder
from plugin_utils._rollout.state import STATES

Facts = dict[str, Any]
SECRET = "not-for-a-report"


def recorded(*happened: tuple[str, str, Facts]) -> Recorder:
    """A recorder to which this has happened: host, registered name, result; each takes a second, one after the other."""
    recorder = Recorder()
    for number, (host, registered, given) in enumerate(happened):
        recorder.began(host, registered, 100.0 + number)
        recorder.ended(host, registered, given, 101.0 + number)
    return recorder


def in_page(text: str) -> Any:
    """The document in a page, as a browser reads it."""
    [found] = re.findall(r'<script id="document" type="application/json">(.*?)</script>', text, re.DOTALL)
    return json.loads(found)


def test_a_span_has_times_status_and_what_was_received() -> None:
    found = recorded(("h1", results.FETCHED, {"changed": True, "received_bytes": 7})).spans
    assert [(one.host, one.step, one.status, one.begun, one.ended, one.received_bytes) for one in found] == [
        ("h1", "fetch", "changed", 100.0, 101.0, 7)
    ]


def test_tasks_that_are_skipped_or_are_no_step_leave_nothing() -> None:
    assert recorded(("h1", results.FETCHED, {"skipped": True}), ("h1", "other", {"changed": True})).spans == []


def test_nothing_of_the_options_of_a_module_is_kept() -> None:
    given = {"failed": True, "msg": "no", "invocation": {"module_args": {"secret_key": SECRET}}, "stdout": SECRET}
    recorder = recorded(("h1", results.FETCHED, given))
    assert SECRET not in page(document(recorder, 100.0, 102.0))


def test_a_result_of_a_loop_is_that_of_its_worst_item() -> None:
    items = [{"changed": True}, {"failed": True, "msg": "ill", "error_kind": "unhealthy", "hint": "look"}]
    [span] = recorded(("h1", results.BOUND, {"results": items, "failed": True})).spans
    assert (span.status, span.msg, span.error_kind, span.hint) == ("failed", "ill", "unhealthy", "look")


def test_every_host_is_in_the_document_once_also_one_that_was_never_asked() -> None:
    recorder = recorded(("h1", results.SEEN, {"changed": False}))
    recorder.facts({"__rollout_subject": {"key": "images/a.tar", "hosts": ["h1", "h2"]}})
    found = document(recorder, 100.0, 102.0)
    assert found["hosts"] == {"names": ["h1", "h2"], "states": [STATES.index("ready"), STATES.index("not_asked")]}


def test_the_outcome_of_the_role_counts_more_than_the_spans() -> None:
    recorder = recorded(("h1", results.BOUND, {"changed": True}))
    recorder.facts({"__rollout_outcome": {"returned": ["h1"], "problems": [], "allowed_lost": 2}})
    found = document(recorder, 100.0, 102.0)
    assert found["states"][found["hosts"]["states"][0]] == "returned"
    assert found["budgets"]["lost"] == 2


def test_a_rollout_that_stopped_early_has_its_problems_by_the_spans() -> None:
    recorder = recorded(
        ("h1", results.SEEN, {"unreachable": True, "msg": "timed out"}),
        ("h2", results.SEEN, {"unreachable": True, "msg": "timed out"}),
    )
    [problem] = document(recorder, 100.0, 103.0)["problems"]
    assert (problem["step"], problem["reason"], problem["hosts"]) == ("plan", "no answer", ["h1", "h2"])


def test_waves_have_their_hosts_by_state() -> None:
    recorder = Recorder()
    for wave, host in enumerate(("h1", "h2"), 1):
        recorder.wave = wave
        recorder.began(host, results.BOUND, 100.0)
        recorder.ended(host, results.BOUND, {"changed": True}, 103.5)
    waves = document(recorder, 100.0, 110.0)["waves"]
    assert [(one["number"], sum(one["counts"]), one["seconds"]) for one in waves] == [(1, 1, 3.5), (2, 1, 3.5)]


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "<!--", "&lt;", "\u2028", 'a"b\\c', "null"])
def test_no_message_ends_the_element_that_holds_it(text: str) -> None:
    recorder = recorded((text, results.FETCHED, {"failed": True, "msg": text, "hint": text}))
    written = page(document(recorder, 100.0, 101.0))
    assert written.count("</script>") == 2
    found = in_page(written)
    assert found["hosts"]["names"] == [text]
    assert [text, text] in found["spans"]["texts"]


def test_the_page_asks_for_nothing_from_a_network() -> None:
    written = page(document(Recorder(), 0.0, 1.0))
    assert re.findall(r"(?:src|href)\s*=|https?://|@import|url\(", written) == []


def test_a_thousand_hosts_are_less_than_half_a_megabyte() -> None:
    steps = (results.SEEN, results.POOL, results.FETCHED, results.UNPACKED, results.BOUND, results.PRUNED)
    happened = [(f"host-{number:04}", step, {"changed": True}) for number in range(1000) for step in steps]
    assert len(page(document(recorded(*happened), 100.0, 9999.0))) < 500_000


def test_progress_has_hosts_bytes_pace_and_what_is_left() -> None:
    progress = Progress("fetch", 4, 0.0, size_bytes=1 << 20)
    assert progress.line(1.0) == ""
    progress.add(1 << 20)
    assert progress.line(10.0) == (
        "Stage      [######..................] 1/4 hosts · 1.0 MiB of 4.0 MiB · 102 KiB/s · about 30 s"
    )
    for _host in range(3):
        progress.add(1 << 20)
    assert progress.line(20.0) == "", "the line of the role follows"
