#!/usr/bin/env python3
"""The lab: virtual machines with device-mapper, an S3 server and a redis image to try flyd.lite on.

Invariant: every verb can be said twice. It makes what is missing, leaves what is right, and touches
only files below the cache directory and processes that the lab started.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from disks.base_image import base_image
from disks.build_image import build_image
from disks.cache import Cache, discard, made_whole
from disks.python_layers import python_layers
from disks.redis_image import redis_image
from disks.saved import saved_disk
from inventory import inventory_text
from programs import LabError
from s3_server.s3 import S3
from s3_server.s3_verbs import add_s3, s3_url
from session import run_session
from vm import Vm, golden_of, known_vms


def build(cache: Cache, _: argparse.Namespace) -> None:
    print(base_image(cache).directory)


def up(cache: Cache, options: argparse.Namespace) -> None:
    vms = [Vm(cache, f"{options.name}{number}") for number in range(1, options.count + 1)]
    _at_once({f"{vm.name}: ready": partial(vm.up, options.state) for vm in vms})
    _write_inventory(cache, cache.inventory)


def reset(cache: Cache, options: argparse.Namespace) -> None:
    became = options.state or "pristine"
    _at_once({f"{vm.name}: {became}": partial(vm.reset, options.state) for vm in _chosen(cache, options.names)})


def save(cache: Cache, options: argparse.Namespace) -> None:
    _timed(partial(Vm(cache, options.name).save, options.state), f"{options.name}: saved as {options.state}")


def saved(cache: Cache, options: argparse.Namespace) -> None:
    print(saved_disk(cache, golden_of(cache), options.state))


def cut(cache: Cache, options: argparse.Namespace) -> None:
    vm = Vm(cache, options.name)
    vm.power_off()
    if not options.no_boot:
        boot(cache, options)


def boot(cache: Cache, options: argparse.Namespace) -> None:
    init = options.init
    _timed(lambda: Vm(cache, options.name).boot(init=init), f"{options.name}: booted")


def attach(cache: Cache, options: argparse.Namespace) -> None:
    Vm(cache, options.name).attach(new=options.new)


def files(cache: Cache, options: argparse.Namespace) -> None:
    print(Vm(cache, options.name).directory)


def down(cache: Cache, options: argparse.Namespace) -> None:
    for vm in [Vm(cache, name) for name in options.names] or known_vms(cache):
        vm.remove()
    if not options.names:
        S3(cache).down()
        discard(cache.inventory)


def session(cache: Cache, options: argparse.Namespace) -> None:
    sys.exit(run_session(cache, _command_of(options)))


def ssh(cache: Cache, options: argparse.Namespace) -> None:
    vm = Vm(cache, options.name)
    if not vm.is_running():
        raise LabError(f"VM {vm.name} is not running")
    argv = vm.endpoint.argv(_command_of(options))
    os.execvp(argv[0], argv)  # noqa: S606  its exit status is ours


def inventory(cache: Cache, options: argparse.Namespace) -> None:
    print(_write_inventory(cache, options.output or cache.inventory), end="")


_IMAGES = {"redis": redis_image, "build": build_image, "python": python_layers}


def kernel(cache: Cache, _options: argparse.Namespace) -> None:
    print(base_image(cache).kernel)


def image(cache: Cache, options: argparse.Namespace) -> None:
    print(_IMAGES[options.image](cache))


def _at_once(acts: Mapping[str, Callable[[], None]]) -> None:
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(_timed, act, what) for what, act in acts.items()]:
            done.result()  # raises what the act raised


def _timed(act: Callable[[], None], what: str) -> None:
    start = time.monotonic()
    act()
    print(f"{what} in {time.monotonic() - start:.1f} s", file=sys.stderr)


def _chosen(cache: Cache, names: list[str]) -> list[Vm]:
    vms = [Vm(cache, name) for name in names] or known_vms(cache)
    for vm in vms:
        vm.endpoint  # noqa: B018  raises for a name that was never brought up
    return vms


def _command_of(options: argparse.Namespace) -> list[str]:
    words: list[str] = options.command
    return words[1:] if words[:1] == ["--"] else words


def _write_inventory(cache: Cache, output: Path) -> str:
    text = inventory_text(vm.endpoint for vm in known_vms(cache) if vm.is_running())
    with cache.lock("inventory"), made_whole(output) as part:
        part.write_text(text)
    print(output, file=sys.stderr)
    return text


_Act = Callable[[Cache, argparse.Namespace], None]
# Adds a verb to the command line: its name, what does it, a line of help.
_Verb = Callable[[str, _Act, str], argparse.ArgumentParser]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab.py", description="Virtual machines, S3 and an image to try flyd.lite on."
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, act: _Act, text: str) -> argparse.ArgumentParser:
        added: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(act=act)
        return added

    verb("build", build, "make the machines' base image, when missing")
    _add_life(verb)
    _add_use(verb)
    add_s3(verb("s3", s3_url, "the S3 server"))
    running = verb("session", session, "run a command, and end the machines and the S3 server that it started")
    running.add_argument("command", nargs=argparse.REMAINDER)
    verb("kernel", kernel, "print the path of the kernel that the machines run")
    images = verb("image", image, "build an image archive, or layers of several, and print the path")
    images.add_argument("image", choices=sorted(_IMAGES))
    return parser


def _add_life(verb: _Verb) -> None:
    """From the start of machines to their end."""
    starting = verb("up", up, "have N machines running; those that are not start pristine")
    starting.add_argument("count", type=_positive, metavar="N")
    starting.add_argument("--name", default="vm", metavar="PREFIX", help="machines are PREFIX1 to PREFIXN [vm]")
    resetting = verb("reset", reset, "make machines pristine again (all, when none is named)")
    resetting.add_argument("names", nargs="*")
    for starts in (starting, resetting):
        starts.add_argument("--from", dest="state", default="", metavar="STATE", help="as that machine was saved")
    saving = verb("save", save, "keep a machine as it is, memory and all, to start others from")
    saving.add_argument("name")
    saving.add_argument("state")
    verb("saved", saved, "print the disk of a saved state; fails when there is none").add_argument("state")
    cutting = verb("cut", cut, "cut a machine's power and boot it from the same disk")
    cutting.add_argument("name")
    cutting.add_argument("--no-boot", action="store_true", help="leave it off")
    booting = verb("boot", boot, "boot a machine that is off from its own disk")
    booting.add_argument("name")
    for starting in (cutting, booting):
        starting.add_argument(
            "--init", default="", metavar="PATH", help="the guest's first process, instead of systemd"
        )
    ending = verb("down", down, "end machines and remove their files (all, and S3, when none is named)")
    ending.add_argument("names", nargs="*")


def _add_use(verb: _Verb) -> None:
    """What is done with machines that run."""
    attaching = verb("attach", attach, "plug a second disk, which outlives cuts and resets, into a running machine")
    attaching.add_argument("name")
    attaching.add_argument("--new", action="store_true", help="an empty one")
    verb("files", files, "print the directory of a machine's disks and console").add_argument("name")
    shell = verb("ssh", ssh, "run a command in a machine, or a shell")
    shell.add_argument("name")
    shell.add_argument("command", nargs=argparse.REMAINDER)
    listing = verb("inventory", inventory, "print the running machines as an Ansible inventory, and write it to a file")
    listing.add_argument("--output", type=Path, metavar="FILE")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of machines: 1 or more")
    return int(text)


def main() -> int:
    options = _parser().parse_args()
    try:
        options.act(Cache.from_environment(os.environ), options)
    except LabError as error:
        print(f"lab.py: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"lab.py: {error.filename or 'a file or socket of the lab'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab.py: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
