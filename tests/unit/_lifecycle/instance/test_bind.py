# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""flyd_instance, state present: snapshot, flip, switch, health, confirmation; and back when one of them fails."""

from __future__ import annotations

import stat
from collections.abc import Callable

import pytest

from module_utils._errors import BadInput, CommandFailed, FlydError, ForeignDevice, OutOfOrder, Unhealthy
from module_utils._host.health import Check
from module_utils._lifecycle.outcome import Outcome
from module_utils._lifecycle.store.instance_record import Instance
from module_utils._lifecycle.store.records import Operation, Snapshot
from tests.unit._lifecycle.disk import in_process
from tests.unit._lifecycle.instance.machine import NAME, Bound
from tests.unit._lifecycle.machine import KEY


def row(bound: Bound) -> Instance:
    found: Instance
    [found] = bound.machine.records(Instance)
    return found


def test_the_name_points_at_device_drive_config_and_image(bound: Bound) -> None:
    outcome = bound.bind()
    image = bound.machine.image()
    assert image is not None
    facts = outcome.facts
    assert outcome.changed
    assert (facts["current"], facts["previous"], facts["confirmed"]) == (image.sha256, None, True)
    assert facts["link"] == f"/run/flyd/instances/{NAME}"
    assert bound.device == facts["device"]
    assert (
        bound.document("drive.json")
        == facts["drive"]
        == {
            "drive_id": "rootfs",
            "path_on_host": facts["device"],
            "is_root_device": True,
            "is_read_only": False,
        }
    )
    assert bound.document("config.json") == facts["config"]
    assert bound.document("image.json") == {
        "key": KEY.value,
        "sha256": image.sha256,
        "image_id": image.id,
        "snapshot": NAME,
        "ulid": facts["ulid"],
        "trust": image.trust,
        "platform": facts["platform"],
        "state_dir": str(bound.machine.state),
    }
    assert bound.switched() == [facts["device"]]
    assert [one["ok"] for one in facts["health"]] == [True]
    assert set(facts["seconds"]) == {"snapshot", "flip", "switch", "health"}
    assert bound.machine.left_over() == []


def test_a_user_who_may_not_enter_the_state_directory_can_read_the_name(bound: Bound) -> None:
    bound.bind()
    directories = [bound.link.parent, bound.link.resolve()]
    assert [stat.S_IMODE(one.stat().st_mode) for one in directories] == [0o755, 0o755]
    assert {stat.S_IMODE(one.stat().st_mode) for one in bound.link.glob("*.json")} == {0o644}


def test_a_second_run_changes_and_runs_nothing(bound: Bound) -> None:
    first = bound.bind()
    before = bound.machine.everything()
    again = bound.bind()
    assert not again.changed
    assert bound.machine.everything() == before
    assert bound.switched() == [first.facts["device"]]
    assert {name: again.facts[name] for name in ("device", "current", "confirmed")} == {
        name: first.facts[name] for name in ("device", "current", "confirmed")
    }


def test_options_that_are_left_out_stay_as_they_are_recorded(bound: Bound) -> None:
    bound.bind()
    assert not bound.call().changed
    outcome = bound.call(min_healthy=3.0)
    assert outcome.changed
    assert (outcome.before["min_healthy"], outcome.after["min_healthy"]) == (0.0, 3.0)
    assert not bound.call().changed
    assert len(bound.switched()) == 1
    assert bound.call(switch=()).changed
    assert row(bound).settings.count("/bin/sh") == 0


def test_a_new_generation_flips_and_keeps_the_rollback(bound: Bound) -> None:
    first = bound.bind()
    old_directory = bound.link.resolve()
    image = bound.publish_new_generation()
    outcome = bound.bind()
    assert (outcome.facts["current"], outcome.facts["previous"]) == (image.sha256, first.facts["current"])
    assert bound.device == outcome.facts["device"] != first.facts["device"]
    assert bound.switched() == [first.facts["device"], outcome.facts["device"]]
    assert (old_directory / "drive.json").exists(), "a reader that resolved the name before has lost its files"
    assert bound.machine.image().confirmed_at  # type: ignore[union-attr]
    assert bound.machine.left_over() == []


def test_a_third_generation_keeps_the_directories_of_two(bound: Bound) -> None:
    for _generation in range(3):
        bound.bind()
        bound.publish_new_generation()
    bound.bind()
    assert len([one for one in bound.link.parent.iterdir() if one.is_dir() and not one.is_symlink()]) == 2


def test_check_mode_predicts_the_flip_and_runs_neither_switch_nor_check(bound: Bound) -> None:
    bound.bind()
    bound.publish_new_generation()
    before = bound.machine.everything()
    predicted = bound.bind(dry_run=True)
    assert bound.machine.everything() == before
    assert len(bound.switched()) == 1
    real = bound.bind()
    told = ("current", "previous", "confirmed", "link", "switch", "health")
    assert [predicted.after[name] for name in told] == [real.after[name] for name in told]
    assert predicted.before == real.before
    assert set(predicted.facts) == set(real.facts)


def test_an_unhealthy_generation_goes_back_and_says_what_did_not_answer(bound: Bound) -> None:
    first = bound.bind()
    bound.publish_new_generation()
    bound.well.unlink()
    with pytest.raises(Unhealthy, match=r"command /usr/bin/test .* ended with 1.*; went back to sha256:") as caught:
        bound.bind()
    assert caught.value.details["went_back"] is True
    assert "which is not healthy either" in str(caught.value)
    assert bound.device == first.facts["device"]
    assert bound.switched()[-1] == first.facts["device"]
    assert (row(bound).shown[1], row(bound).is_confirmed) == (first.facts["ulid"], True)
    assert bound.machine.left_over() == []


def test_what_was_gone_back_to_is_said_to_be_healthy(bound: Bound) -> None:
    first = bound.bind()
    bound.publish_new_generation()
    only_first = Check(command=("/bin/sh", "-c", f'test "$FLYD_DEVICE" = {first.facts["device"]}'))
    bound.call(check=only_first, sha256=first.facts["current"])
    with pytest.raises(Unhealthy, match=r"went back to .* which is healthy$"):
        bound.bind(check=only_first)


def test_the_first_generation_that_is_not_healthy_leaves_no_name(bound: Bound) -> None:
    bound.well.unlink()
    with pytest.raises(Unhealthy, match="there is no earlier generation, so the name is gone again"):
        bound.bind()
    assert not bound.link.is_symlink()
    assert bound.machine.records(Instance) == []
    assert len(bound.switched()) == 1
    assert bound.machine.left_over() == []


def test_a_switch_that_fails_goes_back_with_the_switch_of_before(bound: Bound) -> None:
    first = bound.bind()
    bound.publish_new_generation()
    with pytest.raises(CommandFailed, match=r"the switch command .* ended with 3"):
        bound.bind(switch=bound.switch(code=3))
    assert bound.device == first.facts["device"]
    assert bound.switched()[-1] == first.facts["device"]
    assert "exit 0" in row(bound).settings


def test_a_switch_that_takes_too_long_is_killed(bound: Bound) -> None:
    with pytest.raises(CommandFailed, match="did not end within"):
        bound.bind(switch=("/bin/sleep", "60"), switch_timeout=0.2)


def test_a_program_that_is_missing_is_refused_before_anything_is_made(bound: Bound) -> None:
    before = bound.machine.everything()
    for asked in ({"switch": ("no-such-program",)}, {"check": Check(command=("no-such-program",))}):
        with pytest.raises(BadInput, match="no-such-program"):
            bound.bind(**asked)
    assert bound.machine.everything()["devices"] == before["devices"]
    assert bound.machine.records(Instance) == []


@pytest.mark.parametrize("sha256", ["", "0" * 64])
def test_a_generation_that_is_not_here_is_refused(bound: Bound, sha256: str) -> None:
    if not sha256:
        bound.machine.remove_all()
    with pytest.raises(OutOfOrder, match="unpacked are") as caught:
        bound.bind(sha256=sha256)
    assert "flyd_unpack" in caught.value.hint
    assert bound.machine.records(Operation) == []


def test_something_else_that_has_the_name_is_left_alone(bound: Bound) -> None:
    bound.link.parent.mkdir(parents=True)
    bound.link.write_text("an operator's file")
    with pytest.raises(ForeignDevice, match=r"is no link that flyd\.lite has made"):
        bound.bind()
    assert bound.link.read_text() == "an operator's file"
    assert bound.machine.records(Instance) == []
    assert bound.machine.left_over() == []


def test_a_name_of_another_state_directory_is_refused(bound: Bound) -> None:
    bound.bind()
    document = bound.link / "image.json"
    document.write_text(document.read_text().replace(str(bound.machine.state), "/srv/flyd"))
    with pytest.raises(BadInput, match="belongs to the state directory /srv/flyd"):
        bound.bind()


def test_a_snapshot_that_an_instance_points_at_is_not_removed(bound: Bound) -> None:
    bound.bind()
    before = bound.machine.everything()
    removals: tuple[Callable[[], Outcome], ...] = (
        lambda: bound.machine.remove_snapshot(NAME),
        lambda: bound.machine.remove_snapshot(NAME, dry_run=True),
        bound.machine.remove_all,
        bound.machine.remove_image,
        bound.machine.tear_down,
    )
    for removal in removals:
        with pytest.raises(OutOfOrder, match="in use by the instance web; nothing was removed"):
            removal()
    assert {**bound.machine.everything(), "files": 0} == {**before, "files": 0}
    bound.call("absent")
    assert not bound.link.is_symlink()
    assert NAME in {one.name for one in bound.machine.records(Snapshot)}
    bound.machine.tear_down()
    assert bound.machine.left_over() == []


def test_a_removed_snapshot_is_made_again_by_the_next_bind(bound: Bound) -> None:
    first = bound.bind()
    with bound.machine.host() as host, host.store.transaction():
        host.store.put(row(bound)._replace(current_ulid=""))
    bound.machine.remove_snapshot(NAME)
    with bound.machine.host() as host, host.store.transaction():
        host.store.put(row(bound)._replace(current_ulid=first.facts["ulid"]))
    again = bound.bind()
    assert again.changed
    assert again.facts["device"] == bound.device != first.facts["device"]


def test_a_flip_that_ends_in_a_fault_of_ours_goes_back_too(bound: Bound, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bound.bind()
    bound.publish_new_generation()
    monkeypatch.setattr("module_utils._lifecycle.instance.flip.look", lambda *_given: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        bound.bind()
    assert bound.device == first.facts["device"]
    assert bound.machine.left_over() == []


def test_a_rollback_that_fails_is_left_to_the_next_run(bound: Bound, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bound.bind()
    bound.publish_new_generation()
    bound.well.unlink()

    def fails(*_given: object) -> None:
        raise CommandFailed("the disk fails", hint="look")

    with monkeypatch.context() as patch:
        patch.setattr("module_utils._lifecycle.instance.flip.return_to_current", fails)

        def another_process() -> None:
            with pytest.raises(FlydError) as caught:
                bound.bind()
            assert "left_for_next_run" in caught.value.details

        assert in_process(another_process) == 0
    bound.machine.snapshot()
    assert bound.device == first.facts["device"]
    assert bound.machine.left_over() == []
