"""From an archive on disk to a mapped snapshot, beside containerd's devmapper snapshotter: ``make bench-devmapper``.

    python -m bench.devmapper [--rounds N] [--vm NAME] [--image NAME]

In a machine of the lab, since it takes device-mapper. Both read one file from the page cache; both clocks end when the device of a
writable snapshot is there, and by then either has brought its data to the pool. Ours is flyd_unpack and flyd_snapshot as two modules of
one Python, its start included, without Ansible. Then the snapshot module's own work beside the two commands that every snapshot takes,
and where our seconds went.

Invariant: the two trees hold the same files, or there is no figure.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import table
from bench.harness.image_generations import layers_of
from bench.harness.measuring import BenchError
from bench.harness.snapshotter import HOME, POOL, Snapshotter, now
from tests.campaigns.harness.target import STATE_DIR, Step, Target
from tests.e2e.machine import lab

_BUCKET = "bench"
_ACTIVE = "race-active"
_PHASES = """import json, sqlite3, sys
[(summary,)] = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True).execute("SELECT summary FROM images")
print(json.dumps(json.loads(summary)["seconds"]))"""
_FILES = "find . -name lost+found -prune -o -type f -printf '%P %s %m %U:%G\\n' | LC_ALL=C sort | sha256sum"


@dataclass
class Figures:
    """Seconds, a number for each round."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    our_snapshot: list[float] = field(default_factory=list)
    raw_snapshot: list[float] = field(default_factory=list)
    parts: list[dict[str, float]] = field(default_factory=list)


def parts(total: float, unpack: float, snapshot: float, phases: dict[str, float]) -> dict[str, float]:
    """Where ``total`` seconds went: of them the two modules' own, and flyd_unpack's by the phases that its store has. They add up."""
    of_unpack = {
        "read and merge the layers, plan the tree": phases["index"] + phases["decompress"] + phases["plan"],
        "make and map the volume": phases["volume"],
        "mkfs.ext4": phases["format"],
        "write the tree": phases["write"],
        "wait for the archive's digest, sync beside it": phases["wait_for_digests"],
        "sync the rest, unmount, flush": phases["fill"] - phases["write"] - phases["wait_for_digests"],
        "e2fsck, flush, unmap": phases["seal"],
    }
    return {
        "start Python, import the two modules": total - unpack - snapshot,
        **of_unpack,
        "late imports, recovery, lock and store of flyd_unpack": unpack - sum(of_unpack.values()),
        "flyd_snapshot": snapshot,
    }


class Arena:
    """The machine, with one archive fetched."""

    def __init__(self, vm: str, image: str) -> None:
        self._target = Target(vm)
        self._containerd = Snapshotter(self._target)
        self._key = f"images/{image}_latest.tar"
        self._archive = ""
        self._layers: list[bytes] = []

    def prepare(self, image: str) -> None:
        """The modules, containerd and the archive brought into a pristine machine."""
        lab("s3", "up")
        lab("up", "1", "--name", self._target.name.rstrip("0123456789"))
        lab("reset", self._target.name)
        path = lab("image", image).strip()
        self._layers = layers_of(Path(path))
        lab("s3", "put", path, self._key, "--bucket", _BUCKET)
        self._target.install()
        self._containerd.install()
        s3 = dict(line.split("=", 1) for line in lab("s3", "env").splitlines())
        access = {
            "endpoint_url": s3["FLYD_S3_ENDPOINT_FROM_VM"],
            "access_key": s3["AWS_ACCESS_KEY_ID"],
            "secret_key": s3["AWS_SECRET_ACCESS_KEY"],
            "bucket": _BUCKET,
        }
        fetched = self._drive(
            Step("flyd_pool", {"data_size": "4G"}), Step("flyd_fetch", {"key": self._key, "max_size": "8G", **access})
        )[1]
        self._archive = str(fetched["path"])

    def ours(self) -> tuple[dict[str, float], str]:
        """Seconds from the archive to the device by parts, and what its tree holds; leaves the machine as it was."""
        steps = [Step("flyd_unpack", {"key": self._key}), Step("flyd_snapshot", {"key": self._key})]
        self._warm()
        begun = now(self._target)
        results = self._drive(*steps)
        took = now(self._target) - begun
        held = self._files_on(results[1]["device"])
        unpack, snapshot = (float(str(result["took"])) for result in results)
        phases = json.loads(self._target.ssh(f"python3 -c {shlex.quote(_PHASES)} {STATE_DIR}/flyd.db"))
        absent = {"key": self._key, "state": "absent"}
        self._drive(Step("flyd_snapshot", absent), Step("flyd_unpack", absent))
        return parts(took, unpack, snapshot, phases), held

    def theirs(self) -> tuple[float, str, float]:
        """The same of containerd, and seconds of the two commands that a snapshot takes, by hand in its pool."""
        with self._containerd.running():
            self._warm()
            imported = self._containerd.import_image(self._archive, self._layers, _ACTIVE)
            held = self._files_on(imported.device)
            return imported.seconds, held, self._raw_snapshot(imported.device.rpartition("/")[2])

    def our_snapshot(self) -> float:
        """Seconds of one more snapshot, without the start of Python."""
        named = {"key": self._key, "name": "another"}
        self._drive(Step("flyd_unpack", {"key": self._key}))
        took = float(str(self._drive(Step("flyd_snapshot", named))[0]["took"]))
        absent = {"key": self._key, "state": "absent"}
        self._drive(Step("flyd_snapshot", {**named, "state": "absent"}), Step("flyd_unpack", absent))
        return took

    def _raw_snapshot(self, device: str) -> float:
        """create_snap and create, of ``device``, which lies suspended meanwhile as an origin in use must."""
        table_of = f"$(dmsetup table {device} | cut -d ' ' -f 1-4)"
        origin = f"$(dmsetup table {device} | cut -d ' ' -f 5)"
        script = f"""set -e; table="{table_of}"; origin={origin}; dmsetup suspend {device}
begun=$(date +%s%N); dmsetup message {POOL} 0 "create_snap 9999 $origin"; dmsetup create {POOL}-raw --table "$table 9999"
ended=$(date +%s%N); dmsetup resume {device}; dmsetup remove {POOL}-raw; echo $((ended - begun))"""
        return int(self._target.ssh(script)) / 1e9

    def _drive(self, *steps: Step) -> list[dict[str, object]]:
        results = self._target.drive(steps)
        if len(results) < len(steps) or results[-1]["driven"]:
            raise BenchError(f"{steps[len(results) - 1].module} failed: {results[-1:]}")
        return results

    def _warm(self) -> None:
        self._target.ssh(f"sync; cat {shlex.quote(self._archive)} >/dev/null")

    def _files_on(self, device: object) -> str:
        target = f"{HOME}/mounted"
        return self._target.ssh(
            f"mkdir -p {target} && mount {shlex.quote(str(device))} {target} && (cd {target} && {_FILES}); umount {target}"
        ).strip()


def report(figures: Figures) -> str:
    """The table."""
    head = ["", "seconds", "flyd.lite / it"]
    rows = [
        ["containerd, devmapper snapshotter", table.spread(figures.theirs), ""],
        ["flyd_unpack and flyd_snapshot", table.spread(figures.ours), ""],
        ["dmsetup create_snap and create", table.spread(figures.raw_snapshot), ""],
        ["flyd_snapshot's own work", table.spread(figures.our_snapshot), ""],
    ]
    of_parts = [[name, table.spread([one[name] for one in figures.parts])] for name in figures.parts[0]]
    rows[0][2] = table.spread(table.ratios(figures.ours, figures.theirs))
    rows[2][2] = table.spread(table.ratios(figures.our_snapshot, figures.raw_snapshot))
    return f"{table.markdown(head, rows)}\n\n{table.markdown(['ours, by parts', 'seconds'], of_parts)}"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vm", default="race1", help="a machine of the lab, brought up when it is not")
    parser.add_argument("--image", default="redis", help="an image of the lab")
    given = parser.parse_args()
    arena = Arena(given.vm, given.image)
    figures = Figures()
    try:
        arena.prepare(given.image)
        load = os.getloadavg()[0]
        for _ in range(given.rounds):
            by_parts, our_files = arena.ours()
            figures.parts.append(by_parts)
            figures.ours.append(sum(by_parts.values()))
            took, their_files, raw = arena.theirs()
            figures.theirs.append(took)
            figures.raw_snapshot.append(raw)
            if our_files != their_files:
                raise BenchError(f"the trees differ: {our_files} and {their_files}")
            figures.our_snapshot.append(arena.our_snapshot())
    except (BenchError, AssertionError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        lab("down", given.vm)
    print(f"{given.image}, {given.rounds} rounds in an emulated machine, load before {load:.1f}\n\n{report(figures)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
