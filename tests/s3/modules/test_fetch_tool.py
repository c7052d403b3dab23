"""fetch.py, run as a program: what it prints, how it ends, and what a killed run leaves to the next one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults import kinds
from tests.faults.proxy import FaultProxy
from tests.s3.conftest import Stored
from tests.s3.module import descendants
from tests.s3.server import ACCESS_KEY, BUCKET, SECRET_KEY

Store = Callable[..., Stored]
TOOL = Path(__file__).parents[2] / "tools" / "fetch.py"
SEGMENT_BYTES = 1 << 20
ENVIRONMENT = {
    **os.environ,
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_DEFAULT_REGION": "us-east-1",
}


def command(proxy: FaultProxy, key: str, destination: Path, *more: str, bucket: str = BUCKET) -> list[str]:
    where = ["--bucket", bucket, "--endpoint-url", proxy.url, "--segment-size", str(SEGMENT_BYTES), "--backoff", "0.01"]
    return [sys.executable, str(TOOL), *where, *more, key, str(destination)]


def run(argv: list[str], **environment: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(argv, env={**ENVIRONMENT, **environment}, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_a_success_is_reported_in_one_object_and_exit_code_0(proxy: FaultProxy, store: Store, tmp_path: Path) -> None:
    stored = store(3 * SEGMENT_BYTES + 1)
    code, said = run(command(proxy, stored.key.value, tmp_path / "archive", "--checksum", f"sha256:{stored.sha256}"))
    assert (code, said["ok"], said["sha256"], said["trust"]) == (0, True, stored.sha256, "pinned")
    assert (said["size_bytes"], said["attempts"], said["resumed_bytes"]) == (len(stored.content), 1, 0)
    assert (tmp_path / "archive").read_bytes() == stored.content
    assert os.listdir(tmp_path) == ["archive"]


def test_a_refusal_is_reported_in_one_object_and_exit_code_1(proxy: FaultProxy, tmp_path: Path) -> None:
    code, said = run(command(proxy, "no-such-key", tmp_path / "archive"))
    assert (code, said["ok"], said["error_kind"], said["retryable"]) == (1, False, "bad_input", False)
    assert "there is no object no-such-key" in said["msg"]
    assert said["hint"]
    assert os.listdir(tmp_path) == []


def test_a_wrong_command_line_ends_with_2(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(TOOL), "--secret-key", "x"], capture_output=True, check=False)
    assert done.returncode == 2


def in_flight(proxy: FaultProxy, at_least: int, running: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 20
    while proxy.sent_bytes() < at_least:
        assert running.poll() is None, "the download ended before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.005)


def test_two_runs_do_not_write_to_one_part_file(proxy: FaultProxy, store: Store, tmp_path: Path) -> None:
    stored = store(4 * SEGMENT_BYTES)
    argv = command(proxy, stored.key.value, tmp_path / "archive")
    proxy.plan(kinds.slowed(100_000), times=-1)
    with subprocess.Popen(argv, env=ENVIRONMENT, stdout=subprocess.DEVNULL) as running:
        in_flight(proxy, 1, running)
        code, said = run(argv)
        assert (code, said["error_kind"], said["retryable"]) == (1, "busy", True)
        assert (tmp_path / "archive.part").exists()
        running.kill()


# Secrets, with botocore and urllib3 logging all that they can

TOKEN = "flyd-test-session-token-that-nobody-may-print"
LOG_EVERYTHING = "import logging\nlogging.basicConfig(level=logging.DEBUG)\n"


def seen_of(argv: list[str], tmp_path: Path, **environment: str) -> tuple[str, str]:
    """What a run lets be read of it, and what of that its libraries have logged: lists of processes, output, files."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(LOG_EVERYTHING)
    env = {**ENVIRONMENT, **environment, "PYTHONPATH": str(tmp_path / "site")}
    processes = ""
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=log) as running,
    ):
        while running.poll() is None:
            for pid in (running.pid, *descendants(running.pid)):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    processes += Path(f"/proc/{pid}/cmdline").read_bytes().decode()
            time.sleep(0.01)
        assert running.stdout is not None
        said = running.stdout.read().decode()
    assert "fetch.py" in processes
    logged = (tmp_path / "log").read_text(errors="replace")
    assert "botocore" in logged, "its debug log is on"
    (tmp_path / "log").unlink()
    left = "".join(path.read_bytes().decode("latin-1") for path in tmp_path.iterdir() if path.is_file())
    return processes + said + left, logged


def test_no_secret_is_on_the_command_line_in_the_output_or_in_a_file(
    proxy: FaultProxy, store: Store, tmp_path: Path
) -> None:
    proxy.plan(kinds.echoing_headers, times=-1)
    argv = command(proxy, store(SEGMENT_BYTES).key.value, tmp_path / "archive")
    seen, logged = seen_of(argv, tmp_path, AWS_SESSION_TOKEN=TOKEN)
    assert '"ok": false' in seen
    for secret in (SECRET_KEY, ACCESS_KEY, TOKEN):
        assert secret not in seen
    assert not re.search("Signature=[0-9a-f]", seen)
    assert SECRET_KEY not in logged


def test_a_key_that_is_accepted_is_in_no_log_either(proxy: FaultProxy, store: Store, tmp_path: Path) -> None:
    stored = store(4 * SEGMENT_BYTES)
    proxy.plan(kinds.slowed(4 * SEGMENT_BYTES), times=-1)
    seen, logged = seen_of(command(proxy, stored.key.value, tmp_path / "archive"), tmp_path)
    assert '"ok": true' in seen
    for secret in (SECRET_KEY, ACCESS_KEY):
        assert secret not in seen
    assert "AWS4-HMAC-SHA256" in logged, "requests were signed with it"
    assert SECRET_KEY not in logged
