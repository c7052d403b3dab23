"""Device-mapper's verbs, over a simulated kernel with its rules."""

from __future__ import annotations

import errno
import gc
import os
import stat
import threading

import pytest

from module_utils._errors import (
    Busy,
    CommandFailed,
    CorruptStore,
    FlydError,
    ForeignDevice,
    Internal,
    NoSpace,
    Unsupported,
)
from module_utils._host.processes.command import Runner
from module_utils._thin.dm import device
from module_utils._thin.dm.device_mapper import DeviceMapper, IoctlFailed
from tests.unit.fakes.host import FakeHost

pytestmark = pytest.mark.slow

UUID = "FLYD-test-1"
TABLE = "0 2048 error"
# What sysfs says of a device that is removed while it is read.
GONE = (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EINVAL)


def test_a_device_is_read_back_after_it_was_made(fake_host: FakeHost) -> None:
    made = fake_host.dm.create("one", UUID, TABLE)
    assert (made.name, made.uuid, made.sectors, made.suspended, made.read_only) == ("one", UUID, 2048, False, False)
    assert made.number == f"{made.major}:{made.minor}"
    assert os.fspath(made) == f"{fake_host.root}/dev/mapper/one"
    assert os.path.exists(made)
    assert fake_host.dm.find(UUID) == fake_host.dm.by_name("one") == made


def test_a_read_only_device_says_so(fake_host: FakeHost) -> None:
    assert fake_host.dm.create("one", UUID, TABLE, read_only=True).read_only


def test_devices_are_found_without_starting_a_program(fake_host: FakeHost) -> None:
    fake_host.dm.create("two", "FLYD-test-2", TABLE)
    fake_host.dm.create("one", UUID, TABLE)
    fake_host.runner.ran.clear()
    assert [device.name for device in fake_host.dm.devices()] == ["two", "one"]
    assert fake_host.dm.find("FLYD-test-3") is None
    assert fake_host.dm.by_name("three") is None
    assert fake_host.runner.ran == []


@pytest.mark.parametrize("number", [*GONE, errno.EMFILE, errno.ENOSPC, errno.EIO])
def test_a_device_that_cannot_be_read_is_not_taken_for_one_that_is_gone(
    fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    made = fake_host.dm.create("one", UUID, TABLE)
    read = device._attribute

    def fail(directory: str, name: str) -> str:
        if name == "size":
            raise OSError(number, os.strerror(number), directory)
        return read(directory, name)

    monkeypatch.setattr(device, "_attribute", fail)
    if number in GONE:
        assert fake_host.dm.find(made.uuid) is None
        return
    with pytest.raises(FlydError, match="reading what devices there are"):
        fake_host.dm.find(made.uuid)


def test_a_name_of_a_foreign_device_is_refused_and_the_device_stays(fake_host: FakeHost) -> None:
    fake_host.make_foreign("one", "LVM-somebody")
    before = fake_host.devices()
    with pytest.raises(ForeignDevice, match="LVM-somebody is there already") as caught:
        fake_host.dm.create("one", UUID, TABLE)
    assert caught.value.details["errno"] == "EEXIST"
    assert fake_host.devices() == before


def test_a_uuid_that_is_mapped_under_another_name_is_refused(fake_host: FakeHost) -> None:
    fake_host.dm.create("one", UUID, TABLE)
    with pytest.raises(CorruptStore, match="device one with UUID FLYD-test-1 is there already"):
        fake_host.dm.create("other", UUID, TABLE)


def test_a_uuid_without_our_prefix_is_never_made(fake_host: FakeHost) -> None:
    with pytest.raises(Internal, match="does not begin with FLYD-"):
        fake_host.dm.create("one", "LVM-1", TABLE)
    assert fake_host.devices() == {}


def test_a_table_that_the_kernel_refuses_leaves_no_device(fake_host: FakeHost) -> None:
    with pytest.raises(IoctlFailed) as caught:
        fake_host.dm.create("one", UUID, "0 2048 nonesuch")
    assert caught.value.number == errno.EINVAL
    assert fake_host.devices() == {}


def test_a_device_whose_making_was_cut_short_is_replaced(fake_host: FakeHost) -> None:
    fake_host.make_half("one", UUID)
    assert fake_host.dm.by_name("one") is None, "the kernel does not show it"
    assert fake_host.dm.create("one", UUID, TABLE).sectors == 2048


def test_a_foreign_device_without_a_table_stays(fake_host: FakeHost) -> None:
    fake_host.make_half("one", "LVM-somebody")
    with pytest.raises(IoctlFailed) as caught:
        fake_host.dm.create("one", UUID, TABLE)
    assert caught.value.number == errno.EBUSY
    assert fake_host.dm.remove("one") is False
    assert fake_host.devices()["one"]["uuid"] == "LVM-somebody"


def test_an_own_device_without_a_table_is_removed(fake_host: FakeHost) -> None:
    fake_host.make_half("one", UUID)
    assert fake_host.dm.remove("one") is True
    assert fake_host.devices() == {}


def test_removing_what_is_absent_changes_nothing(fake_host: FakeHost) -> None:
    assert fake_host.dm.remove("one") is False


def test_removing_a_device_of_others_is_refused(fake_host: FakeHost) -> None:
    fake_host.make_foreign("one")
    with pytest.raises(ForeignDevice, match="not ours"):
        fake_host.dm.remove("one")
    assert "one" in fake_host.devices()


@pytest.mark.parametrize("verb", ["suspend", "resume", "message", "load"])
def test_a_device_of_others_is_not_changed(fake_host: FakeHost, verb: str) -> None:
    fake_host.make_foreign("one")
    arguments = {"message": ["hello"], "load": [TABLE]}.get(verb, [])
    fake_host.runner.ran.clear()
    with pytest.raises(ForeignDevice, match="not ours"):
        getattr(fake_host.dm, verb)("one", *arguments)
    assert fake_host.runner.ran == []


def test_a_busy_device_is_removed_once_it_is_let_go(fake_host: FakeHost) -> None:
    fake_host.dm.create("one", UUID, TABLE)
    fake_host.refuse("dmsetup remove", errno.EBUSY, times=2)
    assert fake_host.dm.remove("one") is True
    assert fake_host.dm.busy.repeated == 2
    assert fake_host.devices() == {}


def test_who_holds_a_device_for_a_moment_is_waited_for(fake_host: FakeHost) -> None:
    fake_host.dm.create("one", UUID, TABLE)
    patience = DeviceMapper(fake_host.runner).busy
    patient = fake_host.device_mapper(fake_host.runner)
    patient.busy = patience
    fake_host.refuse("dmsetup remove", errno.EBUSY, times=8)
    assert patient.remove("one") is True
    assert (patience.repeated, patience.deadline_seconds) == (8, 15.0)


def test_a_device_that_stays_busy_is_reported_and_never_forced(fake_host: FakeHost) -> None:
    fake_host.dm.create("one", UUID, TABLE)
    fake_host.hold("one")
    with pytest.raises(Busy, match="device one is held by") as caught:
        fake_host.dm.remove("one")
    assert caught.value.retryable
    assert caught.value.details["attempts"] == 3
    assert not any("--force" in line or "--deferred" in line for line in fake_host.runner.ran)
    assert "one" in fake_host.devices()


def test_another_error_of_removal_is_not_retried(fake_host: FakeHost) -> None:
    fake_host.dm.create("one", UUID, TABLE)
    fake_host.refuse("dmsetup remove", errno.EIO)
    with pytest.raises(IoctlFailed) as caught:
        fake_host.dm.remove("one")
    assert caught.value.number == errno.EIO
    assert fake_host.dm.busy.repeated == 0


def test_a_suspended_device_is_resumed_when_the_block_ends(fake_host: FakeHost) -> None:
    fake_host.dm.create("one", UUID, TABLE)
    with fake_host.dm.suspended("one"):
        assert fake_host.devices()["one"]["suspended"]
    assert not fake_host.devices()["one"]["suspended"]


def test_a_suspended_device_is_resumed_when_the_block_fails(fake_host: FakeHost) -> None:
    fake_host.dm.create("one", UUID, TABLE)
    with pytest.raises(KeyboardInterrupt), fake_host.dm.suspended("one"):
        raise KeyboardInterrupt
    assert not fake_host.devices()["one"]["suspended"]


def test_a_resume_that_fails_does_not_hide_the_first_error(fake_host: FakeHost) -> None:
    fake_host.dm.create("one", UUID, TABLE)
    fake_host.refuse("dmsetup resume", errno.EIO)
    with pytest.raises(ValueError, match="the first"), fake_host.dm.suspended("one"):
        raise ValueError("the first")


def test_a_device_left_suspended_is_set_running(fake_host: FakeHost) -> None:
    made = fake_host.dm.create("one", UUID, TABLE)
    fake_host.dm.suspend("one")
    left = fake_host.dm.by_name("one")
    assert left is not None
    assert left.suspended
    assert fake_host.dm.running(left) == made


def test_a_loaded_table_is_live_after_the_resume(fake_host: FakeHost) -> None:
    fake_host.dm.create("one", UUID, TABLE)
    fake_host.dm.load("one", "0 4096 error")
    assert fake_host.dm.table("one") == TABLE
    fake_host.dm.resume("one")
    assert fake_host.dm.table("one") == "0 4096 error"


def test_status_does_not_commit_the_pool(fake_host: FakeHost) -> None:
    fake_host.dm.create("one", UUID, TABLE)
    fake_host.dm.status("one")
    assert fake_host.runner.ran[-1] == "dmsetup status --noflush one"


def test_asking_for_a_device_that_is_gone_names_the_errno(fake_host: FakeHost) -> None:
    for ask in (fake_host.dm.status, fake_host.dm.table):
        with pytest.raises(IoctlFailed) as caught:
            ask("one")
        assert caught.value.number == errno.ENXIO
    with pytest.raises(CommandFailed, match="no device one"):
        fake_host.dm.message("one", "create_thin 1")


def test_no_space_in_the_metadata_is_no_space(fake_host: FakeHost) -> None:
    fake_host.dm.create("one", UUID, TABLE)
    fake_host.refuse("dmsetup message", errno.ENOSPC)
    with pytest.raises(NoSpace, match="no room for its metadata"):
        fake_host.dm.message("one", "create_thin 1")


def test_a_lost_node_is_made_by_dmsetup(fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("module_utils._thin.dm.dmsetup._NODE_SECONDS", 0.05)
    fake_host.lose_nodes()
    assert os.path.exists(fake_host.dm.create("one", UUID, TABLE))
    assert fake_host.runner.ran[-1] == "dmsetup mknodes one"


def test_a_node_that_never_appears_is_an_error_that_names_it(
    fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("module_utils._thin.dm.dmsetup._NODE_SECONDS", 0.05)
    control = fake_host.dm.control
    elsewhere = DeviceMapper(fake_host.runner, sysfs=fake_host.sysfs, dev="/nonesuch", control=control)
    with pytest.raises(Unsupported, match="/nonesuch/one does not appear"):
        elsewhere.create("one", UUID, TABLE)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the killed program's pipes go with the exception
def test_a_stuck_udev_is_a_time_out_that_names_it(fake_host: FakeHost) -> None:
    hasty = fake_host.device_mapper(Runner(timeout_seconds=4.0, search=fake_host.runner.search))
    fake_host.stick("dmsetup create")
    with pytest.raises(CommandFailed, match="device one is made, but udev did not confirm it") as caught:
        hasty.create("one", UUID, TABLE)
    assert caught.value.retryable
    assert fake_host.dm.find(UUID) is not None
    fake_host.stick("dmsetup remove")
    hasty.busy.attempts = 1
    with pytest.raises(CommandFailed, match="device one is removed, but udev did not confirm it") as caught:
        hasty.remove("one")
    assert caught.value.retryable
    assert fake_host.dm.find(UUID) is None
    del caught
    gc.collect()


def test_the_module_of_a_target_is_loaded_by_asking_for_it(fake_host: FakeHost) -> None:
    fake_host.dm.require_target("thin-pool")
    fake_host.runner.ran.clear()
    fake_host.dm.require_target("thin-pool")
    assert fake_host.runner.ran == [], "sysfs shows the module now"


def test_a_kernel_without_the_target_is_unsupported_with_a_hint(fake_host: FakeHost) -> None:
    fake_host.without_target()
    with pytest.raises(Unsupported, match="no device-mapper target thin-pool") as caught:
        fake_host.dm.require_target("thin-pool")
    assert "flyd.lite.prepare" in caught.value.hint


def test_an_older_kernel_that_has_the_target_is_asked_for_its_list(fake_host: FakeHost) -> None:
    fake_host.refuse("dmsetup target-version", errno.ENOTTY)
    fake_host.dm.require_target("linear")


def test_a_kernel_without_device_mapper_is_unsupported(fake_host: FakeHost) -> None:
    fake_host.without_driver()
    with pytest.raises(Unsupported, match="no device-mapper"):
        fake_host.dm.require_target("thin-pool")
    with pytest.raises(Unsupported, match="no device-mapper"):
        fake_host.dm.create("one", UUID, TABLE)


def test_a_device_that_vanishes_while_it_is_read_is_left_out(fake_host: FakeHost) -> None:
    fake_host.dm.create("one", UUID, TABLE)
    os.unlink(fake_host.root / "sys/block/dm-0/dm/uuid")
    assert fake_host.dm.devices() == ()


def test_two_runs_make_two_devices_at_once(fake_host: FakeHost) -> None:
    makers = [
        threading.Thread(target=fake_host.device_mapper(fake_host.runner).create, args=(f"d{n}", f"FLYD-{n}", TABLE))
        for n in range(4)
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert {device.name for device in fake_host.dm.devices()} == {"d0", "d1", "d2", "d3"}
    assert not any(stat.S_ISDIR(os.stat(device).st_mode) for device in fake_host.dm.devices())


def test_of_other_devices_only_what_identifies_them_is_read(
    fake_host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host may have hundreds of devices, and each run looks for one of them many times."""
    for number in range(5):
        fake_host.dm.create(f"device{number}", f"FLYD-test-{number}", TABLE)
    read: list[str] = []
    attribute = device._attribute

    def watched(directory: str, name: str) -> str:
        read.append(name)
        return attribute(directory, name)

    monkeypatch.setattr(device, "_attribute", watched)
    found = fake_host.dm.find("FLYD-test-3")
    assert found is not None
    assert found.name == "device3"
    assert [name for name in read if name != "dm/uuid"] == ["dev", "dm/name", "dm/suspended", "ro", "size"]
    read.clear()
    assert fake_host.dm.by_name("nonesuch") is None
    assert read == ["dm/name"] * 5
    assert fake_host.dm.by_name("") is None
    assert fake_host.dm.find("") is None
