"""Stand-ins for thin_check, thin_repair and thin_dump over the simulated kernel's metadata.

Damage is the word ``damaged`` in what the simulation keeps: thin_check refuses it; thin_repair keeps all volumes but those in ``lost``,
and the mark ``needs_check``, as that of thin-provisioning-tools 0.9 does: thin_check clears it when asked to.
"""

from __future__ import annotations

import json
import os

from tests.unit.fakes.kernel import MAGIC, OURS_BYTES, SUPERBLOCK, Kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tests.unit.fakes.sysfs import State


def thin_check(kernel: Kernel, arguments: list[str]) -> None:
    data = read(arguments[-1])
    if data is None:
        raise SystemExit("bad checksum in superblock")
    if data.get("damaged"):
        raise SystemExit("value size mismatch: expected 24, but got 0.")
    if "--clear-needs-check-flag" in arguments:
        with open(arguments[-1], "r+b") as file:
            kernel.write_metadata(file, {**data, "needs_check": False})


def thin_repair(kernel: Kernel, arguments: list[str]) -> None:
    options = dict(zip(arguments[::2], arguments[1::2]))
    data = read(options["-i"])
    if data is None or int(options["--transaction-id"]) != data["transaction_id"]:
        raise SystemExit("no compatible roots found")
    lost = data.pop("lost", [])
    data = {**data, "damaged": False, "mode": "rw"}
    data["thins"] = {number: thin for number, thin in data["thins"].items() if int(number) not in lost}
    data["metadata_blocks"] = os.stat(options["-o"]).st_size // 4096
    if data["metadata_blocks"] < data.get("used_metadata_blocks", 0):
        raise SystemExit("out of metadata space")
    with open(options["-o"], "r+b") as file:
        kernel.write_metadata(file, data)


def thin_dump(kernel: Kernel, arguments: list[str]) -> None:
    options = dict(zip(arguments[1::2], arguments[2::2]))
    data = read(arguments[-1])
    if arguments[0] != "--metadata-snap" or data is None or not data.get("held"):
        raise SystemExit("the metadata is in use, and has no metadata snapshot")
    held = data["held"]
    with open(options["--output"], "w") as file:
        file.write(
            # A metadata snapshot has no space maps, and so no number of data blocks.
            f'<superblock uuid="" transaction="{held["transaction_id"]}" nr_data_blocks="0">\n'
        )
        file.writelines(f'<device dev_id="{number}">\n</device>\n' for number in sorted(held["thins"], key=int))
        file.write("</superblock>\n")


def read(path: str) -> State | None:
    with open(path, "rb") as file:
        block = file.read(4096)
        if len(block) < SUPERBLOCK.size or SUPERBLOCK.unpack_from(block)[4] != MAGIC:
            return None
        file.seek(OURS_BYTES)
        found: State = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return found


def run(root: str, program: str, arguments: list[str]) -> None:
    """Do what the arguments say, or exit with 1 and the program's words on standard error."""
    with Kernel.of(root) as kernel:
        fault = kernel.take_fault(program, arguments)
        if fault:
            raise SystemExit(f"{program}: {os.strerror(fault['errno'])}")
        {"thin_check": thin_check, "thin_repair": thin_repair, "thin_dump": thin_dump}[program](kernel, arguments)
