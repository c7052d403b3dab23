"""Check mode in every state of an image, on a real kernel: it writes nothing, and what it predicts is what the real run then reports."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.campaigns.harness.target import Shell, Step, Target
from tests.e2e.machine import Machine
from tests.predictions import came_true
from tests.unit.builders import images, tar

pytestmark = pytest.mark.timeout(1800)

STATE_DIR, KEY = "/var/lib/flyd-checks", "checks/image.tar"
OURS: dict[str, Any] = {"state_dir": STATE_DIR, "pool": "checks"}
# Every byte and every time of the state directory, every table and every number of device-mapper, loops and mounts.
FINGERPRINT = f"""(find {STATE_DIR} -printf '%p %m %s %T@ %C@\\n' 2>/dev/null | sort
find {STATE_DIR} -type f -size -2M -exec sha256sum {{}} + 2>/dev/null | sort
dmsetup table; dmsetup status --noflush; dmsetup info -c --noheadings; losetup --list; cat /proc/self/mountinfo; ls /tmp /dev/shm) | sha256sum"""


def layers(text: bytes) -> bytes:
    return images.docker_archive([tar.tar(tar.file(b"hello", text))])


def steps_of(s3: dict[str, Any]) -> dict[str, Step]:
    def local(module: str, **options: Any) -> Step:
        return Step(module, {**OURS, "key": KEY, **options})

    pool = {"state_dir": STATE_DIR, "name": "checks"}
    return {
        "pool": Step("flyd_pool", {**pool, "data_size": "64M"}),
        "fetch": local("flyd_fetch", **s3),
        "unpack": local("flyd_unpack"),
        "snapshot": local("flyd_snapshot"),
        "second": local("flyd_snapshot", name="second", mode="0600"),
        "no second": local("flyd_snapshot", name="second", state="absent"),
        "no snapshot": local("flyd_snapshot", state="absent"),
        "no base": local("flyd_unpack", state="absent", force=True),
        "no archive": local("flyd_fetch", state="absent"),
        "no pool": Step("flyd_pool", {**pool, "state": "absent", "force": True}),
    }


FIRST = ("pool", "fetch", "unpack", "snapshot", "second")
SECOND = ("fetch", "unpack", "snapshot", "no second", "no snapshot", "no base", "no archive", "no pool")


def walked(target: Target, steps: dict[str, Step], path: Sequence[str]) -> list[str]:
    """Take the steps of ``path``; before each, check mode of every step. What was not as it must be, one line each."""
    run: list[Step | Shell] = []
    for name in path:
        run.append(Shell(FINGERPRINT))
        run += [Step(step.module, step.options, check=True) for step in steps.values()]
        run += [Shell(FINGERPRINT), steps[name]]
    results = target.drive(run, go_on=True)
    assert len(results) == len(run), results
    problems: list[str] = []
    for name in path:
        before, *predictions, after, real = results[: len(steps) + 3]
        del results[: len(steps) + 3]
        predicted = dict(zip(steps, predictions, strict=True))[name]
        problems += [f"before {name}: check mode wrote"] if before["stdout"] != after["stdout"] else []
        problems += [f"{name}: {problem}" for problem in _broken(predicted, real)]
    return problems


def _broken(predicted: dict[str, Any], real: dict[str, Any]) -> list[str]:
    if predicted["driven"] or real["driven"]:
        return [f"failed: {predicted.get('msg')}, {real.get('msg')}"]
    said, did = predicted.get("diff", {}), real.get("diff", {})
    checks = {
        f"changed {predicted['changed']}, then {real['changed']}": predicted["changed"] is real["changed"] is True,
        f"before {said.get('before')}, then {did.get('before')}": came_true(said.get("before"), did.get("before")),
        f"after {said.get('after')}, then {did.get('after')}": came_true(said.get("after"), did.get("after")),
        f"removed {predicted.get('removed')}, then {real.get('removed')}": predicted.get("removed")
        == real.get("removed"),
    }
    return [problem for problem, holds in checks.items() if not holds]


def test_check_mode_predicts_each_step_there_and_back_and_writes_nothing(
    prepared: Machine, target: Target, upload: Callable[[str, bytes], None]
) -> None:
    steps = steps_of(prepared.s3_options())
    upload(KEY, layers(b"the first\n"))
    assert walked(target, steps, FIRST) == []
    upload(KEY, layers(b"the second\n"))  # the first generation is retired, with its base and two snapshots
    assert walked(target, steps, SECOND) == []
    left = f"dmsetup ls | grep -e checks; losetup --list | grep {STATE_DIR}; find {STATE_DIR}/archives {STATE_DIR}/pools -mindepth 1; true"
    assert target.ssh(left) == ""
    target.ssh(f"rm -r {STATE_DIR}")


# Which steps the first generation has taken when the object is republished.
REPUBLISHED = {
    "fetched": ("fetch",),
    "unpacked": ("fetch", "unpack"),
    "activated": ("fetch", "unpack", "snapshot"),
    "twice": ("fetch", "unpack", "snapshot"),
}
CHAIN = ("fetch", "unpack", "snapshot")


def chain(key: str, s3: dict[str, Any], *, check: bool) -> list[Step]:
    """The steps of the role activate; in check mode each gets what the role passes on of the one before."""
    assume = {"assume": ["generation"]} if check else {}
    options: dict[str, dict[str, Any]] = {"fetch": s3, "unpack": assume, "snapshot": assume}
    return [Step(f"flyd_{name}", {**OURS, "key": key, **options[name]}, check=check) for name in CHAIN]


def predicted_chain(target: Target, key: str, s3: dict[str, Any], old: set[str]) -> list[str]:
    """Check mode of the whole chain, then the chain; what did not come true, one line each, and each of ``old`` that was named as the result."""
    run: list[Step | Shell] = [Shell(FINGERPRINT), *chain(key, s3, check=True), Shell(FINGERPRINT)]
    run += chain(key, s3, check=False)
    before, *predictions, after, fetched, unpacked, activated = target.drive(run, go_on=True)
    problems = [] if before["stdout"] == after["stdout"] else ["check mode wrote"]
    for name, said, did in zip(CHAIN, predictions, (fetched, unpacked, activated), strict=True):
        problems += [f"{name}: {problem}" for problem in _broken(said, did)]
        current = {what: value for what, value in said["diff"]["after"].items() if what != "retired"}
        problems += [f"{name} names {one}" for one in old if one in json.dumps([current, said.get("device")])]
    old |= {unpacked["device"], activated["device"]}
    return problems


def test_check_mode_of_the_chain_predicts_an_object_that_was_republished(
    prepared: Machine, target: Target, upload: Callable[[str, bytes], None]
) -> None:
    s3 = prepared.s3_options()
    target.drive([Step("flyd_pool", {"state_dir": STATE_DIR, "name": "checks", "data_size": "64M"})])
    keys = {stage: f"checks/{stage}.tar" for stage in REPUBLISHED}
    old: dict[str, set[str]] = {}
    for stage, done in REPUBLISHED.items():
        key = keys[stage]
        upload(key, layers(f"{stage}, the first\n".encode()))
        made = target.drive(chain(key, s3, check=False)[: len(done)])
        assert [one["driven"] for one in made] == [0] * len(done), made
        old[stage] = {one["device"] for one in made if one.get("device")}
        for generation in ("second", "third") if stage == "twice" else ("second",):
            upload(key, layers(f"{stage}, the {generation}\n".encode()))
            assert predicted_chain(target, key, s3, old[stage]) == [], (stage, generation)
    upload(keys["activated"], layers(b"by the role\n"))
    variables: dict[str, Any] = {"key": keys["activated"], "activate_state_dir": STATE_DIR, "activate_pool": "checks"}
    looked = prepared.play("playbooks/activate.yml", check=True, **variables)
    assert (looked.returncode, looked.changed) == (0, 3), looked.output
    assert "Image would be activated at a new device" in looked.output
    play = prepared.play("playbooks/activate.yml", **variables)
    assert (play.returncode, play.changed) == (0, 3), play.output
    assert play.device not in old["activated"]
    target.drive([Step("flyd_pool", {"state_dir": STATE_DIR, "name": "checks", "state": "absent", "force": True})])
    target.ssh(f"rm -r {STATE_DIR}")
