"""What a rollout costs its controller: CPU time beside as many pings of as many hosts, memory, and the time by the clock as forks grow.

    python -m bench.fleet [--hosts N] [--rounds N] [--forks N ...]

The hosts are simulated, and their work is not counted: only ansible-playbook and what it starts. Root only.

Invariant: rollout and pings are run in turn, over the same connection plugin and with the same settings; a run that leaves a host behind, or
that changes something when there is nothing to do, ends the benchmark.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from bench.harness import table
from bench.harness.measuring import MIB, BenchError, peak_bytes, run
from tests.fleet.simulation import ANSIBLE, Simulation, digest, simulation


class Cost(NamedTuple):
    """What a playbook cost: ``tasks`` is how many calls a host has had, on the average."""

    seconds: float
    cpu_seconds: float
    tasks: float


class Fleet:
    """A simulated fleet, and the number of the image that it has."""

    def __init__(self, simulated: Simulation) -> None:
        self._simulated = simulated
        self._image = 1
        simulated.install(1)

    def rollout(self, **settings: str) -> Cost:
        """To the next image."""
        self._publish_next()
        cost = self._measure(lambda: self._run(self._command, settings))
        self._check_hosts()
        return cost

    def second_run(self) -> Cost:
        """The same command with nothing to do."""

        def again() -> None:
            said = self._run(self._command, {})
            if any(int(number) for number in re.findall(r" changed=(\d+)", said)):
                raise BenchError(f"the second run changes something: {said[-2000:]}")

        return self._measure(again)

    def pings(self, count: int) -> Cost:
        """As many tasks of the module ping on all hosts."""
        book = self._simulated.directory / "ping.json"
        tasks: list[dict[str, dict[str, str]]] = [{"ansible.builtin.ping": {}}] * count
        book.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        argv = [str(ANSIBLE), "-i", str(self._simulated.inventory()), str(book)]
        return self._measure(lambda: self._run(argv, {}))

    def peak_bytes_of_rollout(self) -> int:
        """The most memory of the controller, with its forks, in a rollout to the next image."""
        self._publish_next()
        peak = peak_bytes([self._command], self._simulated.environment())
        self._check_hosts()
        return peak

    @property
    def _command(self) -> list[str]:
        return self._simulated.command("rollout.yml", {})

    def _publish_next(self) -> None:
        self._image += 1
        self._simulated.publish(self._image)

    def _check_hosts(self) -> None:
        left = [name for name, host in self._simulated.hosts().items() if host.points_at != digest(self._image)]
        if left:
            raise BenchError(f"the rollout has left {left} behind")

    def _run(self, argv: list[str], settings: dict[str, str]) -> str:
        return run(argv, {**self._simulated.environment(), **settings})

    def _measure(self, work: Callable[[], object]) -> Cost:
        calls, before, begun = self._simulated.count_calls(), os.times(), time.monotonic()
        work()
        seconds, after = time.monotonic() - begun, os.times()
        cpu = after.children_user + after.children_system - before.children_user - before.children_system
        return Cost(seconds, cpu, (self._simulated.count_calls() - calls) / len(self._simulated.names))


def compare(fleet: Fleet, rounds: int) -> str:
    """CPU time of rollouts and second runs beside as many pings, as a table."""
    pairs: dict[str, list[tuple[Cost, Cost]]] = {"rollout": [], "second run": []}
    for _ in range(rounds):
        for name, work in (("rollout", fleet.rollout), ("second run", fleet.second_run)):
            cost = work()
            pairs[name].append((cost, fleet.pings(round(cost.tasks))))
    head = ["", "calls a host", "CPU seconds", "of as many pings", "ratio", "target"]
    rows = []
    for name, target in (("rollout", "1.3"), ("second run", "1.1")):
        ours, theirs = ([pair[side].cpu_seconds for pair in pairs[name]] for side in (0, 1))
        calls = f"{pairs[name][0][0].tasks:.2f}"
        rows.append([name, calls, *map(table.spread, (ours, theirs, table.ratios(ours, theirs))), target])
    return table.markdown(head, rows)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forks", type=int, nargs="*", default=[5, 20, 50])
    given = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {given.hosts} hosts, {given.rounds} rounds", flush=True)
    try:
        with simulation(given.hosts) as simulated:
            fleet = Fleet(simulated)
            fleet.rollout()  # for the caches
            print(compare(fleet, given.rounds), flush=True)
            print(f"peak memory of the controller: {fleet.peak_bytes_of_rollout() / MIB:.0f} MiB", flush=True)
            for forks in given.forks:
                cost = fleet.rollout(ANSIBLE_FORKS=str(forks))
                print(f"{forks} forks: {cost.seconds:.0f} s, {cost.cpu_seconds:.0f} CPU seconds", flush=True)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
