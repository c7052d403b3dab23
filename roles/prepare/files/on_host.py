# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host does without a controller.

    python flyd-host.py restore STATE_DIR          bring back the pools and the activated snapshots after a start
    python flyd-host.py recover STATE_DIR          finish or undo what interrupted runs have left, as the next play would do first
    python flyd-host.py grow STATE_DIR             let the pools grow by their policies whenever one is short, until it is stopped or replaced
    python flyd-host.py backup STATE_DIR           dump the metadata of the pools, where the newest dump is a day old
    python flyd-host.py metrics STATE_DIR FILE     write FILE for node-exporter's textfile collector; changes nothing else
    python flyd-host.py withdraw STATE_DIR FILE    remove that FILE
    python flyd-host.py compile FILE               have FILE hold the collection's code, compiled for this Python; see _engine.py

The main program of an archive that holds the collection's module_utils beside it; see pack.py. ``restore`` does what the next play would
do first, and says on standard output what it did. Exit code 0, or 1 with the reason on standard error, in one line: KIND: TEXT; HINT.
"""

from __future__ import annotations

import os
import signal
import sys

from module_utils._errors import Internal
from module_utils._host.compiling import install
from module_utils._host.files.publishing import publish, withdraw
from module_utils._lifecycle.at_end import at_end
from module_utils._lifecycle.pool.restore import restore
from module_utils._lifecycle.report.metrics import metrics
from module_utils._lifecycle.run import Run, open_host
from module_utils._lifecycle.settings import Settings
from module_utils._lifecycle.unexpected import as_flyd_error
from module_utils._names import ShortName

LOCK_SECONDS = 300.0
PROGRAM_SECONDS = 120.0
HIDDEN = "flyd-restore.service may see nothing below /home, /root and /run/user; what lies there is brought back by the next play\n"


def bring_back(settings: Settings, opened: list[Run]) -> None:
    """What was there before the start is there again."""
    if not os.path.exists(settings.path("flyd.db")):
        return  # nothing was ever made here
    with open_host(settings, dry_run=False) as host:
        opened.append(host)
        outcome = restore(host)
        at_end(host)
    recovered = [f"{one.kind.value}: {one.text}" for one in outcome.settled]
    restored = [f"restored: {device}" for device in outcome.facts["restored"]]
    sys.stdout.write("".join(f"{line}\n" for line in (*recovered, *restored)))


def settle(settings: Settings) -> None:
    """What runs have left is finished or undone; started by the timer of an instance that was not confirmed in time."""
    from module_utils._lifecycle.volumes.recover import recover

    with open_host(settings, dry_run=False) as host:
        recover(host)
        at_end(host)
        sys.stdout.write("".join(f"{one.kind.value}: {one.text}\n" for one in host.settled))


def grow(settings: Settings) -> None:
    """Until SIGTERM, or until another release of this program is installed, which systemd then starts."""
    from module_utils._lifecycle.growth.watch import watch

    stopped, stop = os.pipe()
    for end in (stopped, stop):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(stop)
    signal.signal(signal.SIGTERM, lambda *_: None)  # the byte in the pipe says it: what was begun comes to its end

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    watch(lambda *, dry_run: open_host(settings, dry_run=dry_run), say, program=sys.argv[0], stop_fd=stopped)


def dump(settings: Settings) -> None:
    """Of every pool that is up."""
    from module_utils._lifecycle.backup.dump_all import dump_all

    if not os.path.exists(settings.path("flyd.db")):
        return  # nothing was ever made here
    with open_host(settings, dry_run=False) as host:
        outcome = dump_all(host)
        at_end(host)
    sys.stdout.write("".join(f"dumped: {path}\n" for path in outcome.facts["dumps"]))


def write_metrics(settings: Settings, path: str) -> None:
    """The file is there whole, or as it was."""
    with open_host(settings, dry_run=True) as host:
        text = metrics(host)
    publish(path, text.encode())


def compile_all(path: str) -> None:
    """Of the sources in this program's file, which holds this text too."""
    if install(path, vars(sys.modules["__main__"])["SOURCES"]):
        sys.stdout.write("compiled\n")


def main() -> int:
    """Entry point."""
    verb, state_dir, *rest = sys.argv[1:]
    settings = Settings(
        state_dir=state_dir,
        pool=ShortName("pool"),
        lock_timeout_seconds=LOCK_SECONDS,
        command_timeout_seconds=PROGRAM_SECONDS,
        retries=4,
        retry_delay_seconds=0.5,
    )
    opened: list[Run] = []
    try:
        if verb == "metrics":
            write_metrics(settings, rest[0])
        elif verb == "recover":
            settle(settings)
        elif verb == "backup":
            dump(settings)
        elif verb == "grow":
            grow(settings)
        elif verb == "withdraw":
            sys.stdout.write("removed\n" if withdraw(rest[0]) else "")
        elif verb == "compile":
            compile_all(state_dir)
        else:
            bring_back(settings, opened)
    except Exception as caught:  # noqa: BLE001 - the last gate: a journal has one line with a hint, not a traceback
        error = as_flyd_error(caught, opened)
        sys.stderr.write(f"{error.kind.value}: {error}; {error.hint}\n")
        if verb == "restore" and not isinstance(error, Internal):
            sys.stderr.write(HIDDEN)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
