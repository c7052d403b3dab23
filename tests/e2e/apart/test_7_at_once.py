"""Several at once on one host: for one key, and for many with a removal among them."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.campaigns.harness.target import AtOnce, Step, Target
from tests.e2e.machine import Machine, Play
from tests.unit.builders import images, tar

pytestmark = pytest.mark.timeout(3600)

STATE_DIR, POOL, KEY = "/var/lib/flyd-at-once", "at-once", "at-once/one.tar"
ROUNDS = int(os.environ.get("FLYD_ROUNDS", "2"))  # make test-at-once: five
KEYS_A_ROUND = 5
OURS: dict[str, Any] = {"state_dir": STATE_DIR, "pool": POOL}


def image(text: str) -> bytes:
    return images.docker_archive([tar.tar(tar.file(b"hello", text.encode()))])


def done(target: Target) -> Counter[tuple[str, str]]:
    """How often each transition of each key has ended well, by the log."""
    lines = map(json.loads, target.ssh(f"cat {STATE_DIR}/log/flyd*.jsonl").splitlines())
    return Counter(
        (line.get("key", ""), line["transition"])
        for line in lines
        if line["event"] == "end" and line["outcome"] == "ok"
    )


def in_store(target: Target, sql: str) -> list[str]:
    opened = f"sqlite3.connect('file:{STATE_DIR}/flyd.db?mode=ro', uri=True)"
    return target.ssh(
        "python3 -", stdin=f"import sqlite3\nfor row in {opened}.execute('{sql}'): print(*row)".encode()
    ).splitlines()


def test_two_plays_for_one_key_make_one_of_everything(
    prepared: Machine, target: Target, upload: Callable[[str, bytes], None]
) -> None:
    upload(KEY, image("for two"))

    def play() -> Play:
        return prepared.play(
            "playbooks/activate.yml",
            key=KEY,
            activate_state_dir=STATE_DIR,
            activate_pool=POOL,
            activate_pool_data_size="256M",
        )

    with ThreadPoolExecutor() as pool:
        plays = [started.result() for started in [pool.submit(play), pool.submit(play)]]
    assert [one.returncode for one in plays] == [0, 0], [one.output for one in plays]
    assert plays[0].device == plays[1].device
    assert plays[0].changed + plays[1].changed == 4
    assert done(target) == {("", "pool"): 1, (KEY, "fetch"): 1, (KEY, "unpack"): 1, (KEY, "snapshot"): 1}
    assert sorted(in_store(target, "SELECT kind FROM volumes")) == ["base", "snap"]


def test_five_keys_at_once_with_a_removal_among_them(
    prepared: Machine, target: Target, upload: Callable[[str, bytes], None]
) -> None:
    def of(key: str, module: str, **options: Any) -> Step:
        return Step(f"flyd_{module}", {**OURS, "key": key, **options})

    def activation(key: str) -> tuple[Step, ...]:
        pool = Step("flyd_pool", {"state_dir": STATE_DIR, "name": POOL, "data_size": "256M"})
        return pool, of(key, "fetch", **prepared.s3_options()), of(key, "unpack"), of(key, "snapshot")

    def removal(key: str) -> tuple[Step, ...]:
        return of(key, "unpack", state="absent", force=True), of(key, "fetch", state="absent")

    keys = [f"at-once/{number}.tar" for number in range(KEYS_A_ROUND)]
    for key in keys:
        upload(key, image(key))
    upload(KEY, image("for two"))
    doomed, rounds = KEY, []
    target.drive(activation(KEY))
    for number in range(ROUNDS):
        first = number % KEYS_A_ROUND  # what one round removes, the next makes again beside the others
        rounds.append(AtOnce((*(activation(key) for key in keys if key != doomed), removal(doomed))))
        doomed = keys[first]
    results = target.drive(rounds, go_on=True)
    failed = [step for one in results for steps in one["at_once"] for step in steps if step["driven"]]
    assert failed == []
    alive = [key for key in keys if ROUNDS < 2 or key != keys[(ROUNDS - 2) % KEYS_A_ROUND]]
    assert sorted(in_store(target, "SELECT object_key, state FROM images")) == sorted(
        f"{key} activated" for key in alive
    )
    assert Counter(in_store(target, "SELECT kind FROM volumes")) == {"base": len(alive), "snap": len(alive)}
    assert in_store(target, "SELECT name FROM _busy UNION SELECT ulid FROM operations") == []
    mapped = target.ssh("dmsetup ls | awk '{print $1}' | grep snap- | sort").split()
    recorded = in_store(target, "SELECT device FROM snapshots")
    assert {f"/dev/mapper/{name}" for name in mapped} >= set(recorded)
    assert len(target.ssh(f"ls {STATE_DIR}/archives").split()) == len(alive)


def test_at_the_end_it_is_torn_down_with_force(target: Target) -> None:
    steps = [Step("flyd_pool", {"state_dir": STATE_DIR, "name": POOL, "state": "absent", "force": True})] * 2
    assert [result["changed"] for result in target.drive(steps)] == [True, False]
    assert target.ssh(f"losetup --list | grep {STATE_DIR}; ls {STATE_DIR}/pools; dmsetup ls | grep at-once; true") == ""
    target.ssh(f"rm -r {STATE_DIR}")
