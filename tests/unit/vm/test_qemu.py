"""Which accelerator is used, and what two machines have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import LabError
from qemu import Accelerator, Machine, choose_accelerator, processors

_WITH_VMX = "processor : 0\nflags\t\t: fpu vmx sse\n"
_WITH_SVM = "processor : 0\nflags\t\t: fpu svm sse\n"
_WITHOUT = "processor : 0\nflags\t\t: fpu sse\nmodel name : a vmx of a kind\n"


@pytest.mark.parametrize("cpuinfo", [_WITH_VMX, _WITH_SVM])
def test_kvm_is_used_where_the_processor_has_it(cpuinfo: str) -> None:
    assert choose_accelerator("", cpuinfo=cpuinfo, kvm_usable=True) is Accelerator.KVM


def test_dev_kvm_alone_is_not_believed() -> None:
    assert choose_accelerator("", cpuinfo=_WITHOUT, kvm_usable=True) is Accelerator.TCG


def test_a_processor_alone_is_not_enough() -> None:
    assert choose_accelerator("", cpuinfo=_WITH_VMX, kvm_usable=False) is Accelerator.TCG


def test_a_machine_has_two_processors_or_as_many_as_the_environment_says() -> None:
    assert [processors(""), processors("1"), processors("4")] == [2, 1, 4]


@pytest.mark.parametrize("wanted", ["0", "-1", "two", "1.5"])
def test_an_invalid_number_of_processors_is_reported(wanted: str) -> None:
    with pytest.raises(LabError, match=f"FLYD_LAB_PROCESSORS is '{wanted}': it must be a whole number from 1 on"):
        processors(wanted)


def test_the_environment_overrules() -> None:
    assert choose_accelerator("kvm", cpuinfo=_WITHOUT, kvm_usable=False) is Accelerator.KVM
    assert choose_accelerator("tcg", cpuinfo=_WITH_VMX, kvm_usable=True) is Accelerator.TCG


def test_an_unknown_accelerator_is_refused() -> None:
    with pytest.raises(LabError, match="must be kvm or tcg"):
        choose_accelerator("xen", cpuinfo=_WITH_VMX, kvm_usable=True)


def _machine(name: str, port: int, directory: str = "/run") -> Machine:
    return Machine(name, Path(directory), Path("/base/vmlinuz"), Path("/base/initrd.img"), port, Accelerator.TCG)


def test_machines_differ_in_name_disk_and_port_only() -> None:
    one = _machine("vm1", 22001, "/run/vm1").argv(snapshot=None)
    two = _machine("vm2", 22002, "/run/vm2").argv(snapshot=None)
    assert [argument.replace("vm1", "vm2").replace("22001", "22002") for argument in one] == two


def test_only_a_restored_machine_loads_a_saved_state() -> None:
    machine = _machine("vm1", 22001)
    assert "-loadvm" not in machine.argv(snapshot=None)
    assert machine.argv(snapshot="ready") == [*machine.argv(snapshot=None), "-loadvm", "ready"]


def test_sshd_is_reached_from_the_loopback_only() -> None:
    argv = _machine("vm1", 22001).argv(snapshot=None)
    assert "user,id=net,hostfwd=tcp:127.0.0.1:22001-:22" in argv


def test_a_comma_in_a_path_does_not_end_an_option() -> None:
    argv = _machine("vm1", 22001, "/a,b").argv(snapshot=None)
    assert any("file=/a,,b/disk.qcow2" in argument for argument in argv)
