# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The document behind the page: columns instead of objects, so that a thousand hosts are a few hundred kilobytes.

Invariant: every host of the rollout is in it once, with the state that the role found; a rollout that stopped early has states by its spans.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..state import STATES
from .recorder import STATUSES, Recorder, Span

ORDER = ("plan", "pool", "fetch", "unpack", "flip", "confirm", "undo", "back", "prune")
_REACHED = {"plan": "ready", "unpack": "staged", "flip": "confirmed", "confirm": "confirmed", "back": "returned"}


def document(recorder: Recorder, begun: float, ended: float) -> dict[str, Any]:
    """All that the page shows."""
    outcome = recorder.outcome
    names = _names(recorder)
    states = _states(recorder, names)
    number = {name: index for index, name in enumerate(names)}
    return {
        "subject": {**recorder.subject, **_image(recorder.plan)},
        "begun": round(begun, 3),
        "ended": round(ended, 3),
        "stopped": recorder.stopped,
        "lines": recorder.lines,
        "budgets": {name: outcome.get(f"allowed_{name}") for name in ("absent", "lost")},
        "failed": bool(outcome.get("too_many_lost") or outcome.get("too_many_absent") or recorder.stopped),
        "problems": [dict(one) for one in outcome.get("problems", ())] or _problems_of(recorder.spans),
        "short": dict(recorder.plan.get("short") or {}),
        "need": dict(recorder.plan.get("need") or {}),
        "states": list(STATES),
        "waves": _waves(recorder.spans, states),
        "hosts": {"names": names, "states": [STATES.index(states[name]) for name in names]},
        "steps": list(ORDER),
        "statuses": list(STATUSES),
        "spans": _columns(recorder.spans, number, begun),
    }


def _image(plan: Mapping[str, Any]) -> dict[str, Any]:
    return {name: plan.get(name) for name in ("name", "sha256", "trust", "size")}


def _names(recorder: Recorder) -> list[str]:
    listed = recorder.subject.get("hosts") or ()
    return list(dict.fromkeys([*map(str, listed), *(span.host for span in recorder.spans)]))


def _states(recorder: Recorder, names: Sequence[str]) -> dict[str, str]:
    if recorder.outcome:
        known = {host: state for state in STATES for host in recorder.outcome.get(state, ())}
        return {name: known.get(name, "not_asked") for name in names}
    states = dict.fromkeys(names, "not_asked")
    for span in recorder.spans:
        is_bad = span.status in ("failed", "unreachable")
        bad = "lost" if span.step in ("flip", "confirm") else "absent"
        states[span.host] = bad if is_bad else _REACHED.get(span.step, states[span.host])
    return states


def _problems_of(spans: Sequence[Span]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[Span]] = {}
    for span in spans:
        if span.status in ("failed", "unreachable"):
            reason = "no answer" if span.status == "unreachable" else span.error_kind or "failed"
            groups.setdefault((span.step, reason), []).append(span)
    return [
        {
            "state": "lost" if step in ("flip", "confirm") else "absent",
            "step": step,
            "reason": reason,
            "hosts": [span.host for span in found],
            "msg": found[0].msg,
            "hint": found[0].hint,
        }
        for (step, reason), found in groups.items()
    ]


def _waves(spans: Sequence[Span], states: Mapping[str, str]) -> list[dict[str, Any]]:
    """Of each wave: its hosts by the state that they have in the end, and how long it took."""
    waves: dict[int, list[Span]] = {}
    for span in spans:
        if span.wave and span.step == "flip":
            waves.setdefault(span.wave, []).append(span)
    found = []
    for number, flips in sorted(waves.items()):
        counts = [0] * len(STATES)
        for span in flips:
            counts[STATES.index(states[span.host])] += 1
        seconds = max(span.ended for span in flips) - min(span.begun for span in flips)
        found.append({"number": number, "counts": counts, "seconds": round(seconds, 1)})
    return found


def _columns(spans: Sequence[Span], number: Mapping[str, int], begun: float) -> dict[str, list[Any]]:
    """The spans as columns; times in milliseconds since the rollout began. Texts stand once, and are named by their number."""
    texts: dict[tuple[str, str], int] = {("", ""): 0}
    columns: dict[str, list[Any]] = {
        "host": [number[span.host] for span in spans],
        "step": [ORDER.index(span.step) for span in spans],
        "status": [STATUSES.index(span.status) for span in spans],
        "begun": [round((span.begun - begun) * 1000) for span in spans],
        "took": [round((span.ended - span.begun) * 1000) for span in spans],
        "wave": [span.wave for span in spans],
        "bytes": [span.received_bytes for span in spans],
        "text": [texts.setdefault((span.msg, span.hint), len(texts)) for span in spans],
    }
    columns["texts"] = [list(text) for text in texts]
    return columns
