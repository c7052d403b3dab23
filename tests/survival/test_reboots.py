"""The power is cut in each state of an image; pool and snapshots come back on other loop devices, with the same bytes, and nothing else does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.campaigns.crashes import Crashes
from tests.campaigns.harness.sample_images import KEY
from tests.campaigns.harness.target import RESTORE, STATE_DIR, Shell, Step, Target

pytestmark = pytest.mark.timeout(1800)

STATES = ("nothing", "pool", "fetched", "unpacked", "activated", "two generations and a second name")
# Another program's loops, attached before ours come back, take the numbers that ours had.
SHUFFLE = Shell(
    "for number in 1 2 3; do truncate -s 1M /root/shuffle$number && losetup --find /root/shuffle$number || exit 1; done"
)
END_SHUFFLE = Shell(
    "for loop in $(losetup --list --noheadings --output NAME,BACK-FILE | awk '/shuffle/ { print $1 }'); do losetup --detach $loop; done"
)
INFO = Step("flyd_info", {"what": ["images", "snapshots", "drift"]})
LOOK = (
    INFO,
    Shell("dmsetup info -c --noheadings -o name,uuid | grep FLYD- | sort"),
    Shell("for device in /dev/mapper/snap-*; do test ! -b $device || sha256sum $device; done"),
    Shell(f"{Target.checker('--bases', '/root/bases.json')} || true"),
)
LOOPS = Shell(f"losetup --list --noheadings --output NAME,BACK-FILE | grep {STATE_DIR} | sort")
GUEST = Shell(
    "for device in /dev/mapper/snap-*; do yes guest | head -c 1M | dd of=$device bs=1M seek=8 conv=fsync status=none || exit 1; done"
)


def steps_to(crashes: Crashes, state: str) -> list[Step]:
    """From nothing to that state."""
    life = crashes.activation(0)
    if state in STATES[:5]:
        return life[: STATES.index(state)]
    return [*life, *crashes.activation(1)[1:], Step("flyd_snapshot", {"key": KEY, "name": "second"})]


def seen(results: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """What must be the same behind a reboot, and what the checker says."""
    info, devices, digests, checked = results
    told = {what: info[what] for what in ("images", "snapshots", "drift")}
    return json.dumps([told, devices["stdout"], digests["stdout"]]), Target.report_of(checked["stdout"])["violations"]


@pytest.mark.parametrize("way", ["by the unit", "by the next play"])
@pytest.mark.parametrize("state", STATES)
def test_what_was_there_is_there_again(crashes: Crashes, state: str, way: str) -> None:
    steps, all_steps = steps_to(crashes, state), crashes.steps()
    again = [*steps[:1], *steps[4:]] if len(steps) > 4 else steps  # the first generation is not asked for any more
    guest = [GUEST] if state in STATES[4:] else []
    clean: list[Step | Shell] = [all_steps["tear down"], all_steps["remove archive"], Shell("rm -f /root/bases.json")]
    results = crashes.succeed([*clean, *steps, *guest, *LOOK, LOOPS, Shell("sync")])
    before, violations = seen(results[-6:-2])
    loops = results[-2]["stdout"] if steps else ""
    assert violations == []
    crashes.reboot()
    [*_shuffled, devices] = crashes.succeed([SHUFFLE, Shell("dmsetup ls")])
    assert "No devices" in devices["stdout"]
    back: list[Step | Shell] = [Shell(RESTORE)] if way == "by the unit" else [*again]
    results = crashes.succeed([*back, *LOOK, LOOPS, *again, END_SHUFFLE])
    assert seen(results[len(back) : len(back) + 4]) == (before, [])
    if steps:
        assert results[len(back) + 4]["stdout"] != loops
        assert results[0].get("changed", True), "the pool was there before it was brought back"
        changed = [result["changed"] for result in (results[1 : len(back)] if way == "by the next play" else [])]
        changed += [result["changed"] for result in results[len(back) + 5 : -1]]
        assert not any(changed), results
