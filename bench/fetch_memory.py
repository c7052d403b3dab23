"""The peak of memory while an object of 4 GiB is fetched: ``make bench-fetch-memory``.

The server makes its bytes up, zeros all of them, so that the file alone takes room: what counts here is how the fetching process grows,
and that is looked at for a small object too. Time is not measured.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bench.harness import disks, table
from bench.harness.inputs import ROOT
from bench.harness.measuring import MIB, BenchError, environment, peak_bytes

_TOOL = ROOT / "tests/tools/fetch.py"
_PIECE = bytes(MIB)


class _Zeros(BaseHTTPRequestHandler):
    """One object for each number of MiB, which is its key."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._begin()

    def do_GET(self) -> None:
        left = self._begin()
        while left > 0:
            self.wfile.write(_PIECE[:left])
            left -= len(_PIECE)

    def _begin(self) -> int:
        size_bytes = int(self.path.rpartition("/")[2]) * MIB
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(asked[1]), int(asked[2])) if asked else (0, size_bytes - 1)
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{size_bytes} zeros"')
        self.send_header("Content-Length", str(last - first + 1))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size_bytes}")
        self.end_headers()
        return last - first + 1

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def running() -> Iterator[str]:
    """The URL of the server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Zeros) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def peak(url: str, size_mib: int, python: Path, work: Path) -> int:
    """Bytes, of the tool that fetches so large an object into ``work``."""
    path = work / "fetched"
    argv: list[str | Path] = [
        python,
        _TOOL,
        "--bucket",
        "zeros",
        "--endpoint-url",
        url,
        "--anonymous",
        str(size_mib),
        path,
    ]
    found = peak_bytes([argv], environment())
    if path.stat().st_size != size_mib * MIB:
        raise BenchError(f"{path.stat().st_size} bytes came, not {size_mib} MiB")
    path.unlink()
    return found


def main() -> int:
    """0, or 1 and what went wrong."""
    parser = argparse.ArgumentParser(prog="bench.fetch_memory", description=__doc__)
    parser.add_argument("--sizes-mib", type=int, nargs="+", default=[16, 512, 4096])
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="what flyd.lite runs on")
    given = parser.parse_args()
    try:
        with disks.workspace() as work, running() as url:
            rows = [[str(size), f"{peak(url, size, given.python, work) / MIB:.0f}"] for size in given.sizes_mib]
    except BenchError as error:
        print(f"bench.fetch_memory: {error}", file=sys.stderr)
        return 1
    print(table.markdown(["MiB of the object", "peak MiB"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
