"""Which hosts the playbooks choose: the inventory's, or this host when there is no inventory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not ANSIBLE.exists() or not (ROOT / "build/collections").exists(),
        reason="ansible-core or build/collections is missing",
    ),
]

BOOKS = {path.name for path in (ROOT / "playbooks").glob("*.yml")}
HARMLESS = ("activate.yml", "prepare.yml", "rollback.yml", "fleet.yml")
# Several plays: those of the groups that the first one makes have no hosts yet.
ROLLOUTS = ("rollout.yml", "stage.yml")
DESTRUCTIVE = sorted(BOOKS.difference(HARMLESS, ROLLOUTS))


def ansible(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ansible-playbook; playbooks are named by their files."""
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "playbooks/ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    argv = [str(ANSIBLE), *(str(ROOT / "playbooks" / one) if one in BOOKS else str(one) for one in arguments)]
    return subprocess.run(argv, env=environment, cwd="/", capture_output=True, text=True, check=False)


def hosts_of(*arguments: str | Path) -> list[list[str]]:
    """Return the hosts that ansible-playbook would run each playbook on, sorted: it lists a set."""
    done = ansible("--list-hosts", *arguments)
    assert done.returncode == 0, done.stderr
    return [sorted(re.findall(r"^      (\S+)$", book, re.M)) for book in done.stdout.split("\nplaybook: ")[1:]]


def test_without_an_inventory_it_is_this_host() -> None:
    assert hosts_of(*HARMLESS) == [["localhost"]] * len(HARMLESS)


def test_with_an_inventory_it_is_all_its_hosts() -> None:
    assert hosts_of(*HARMLESS, "--inventory", "one,two,") == [["one", "two"]] * len(HARMLESS)


@pytest.mark.parametrize("book", ROLLOUTS)
@pytest.mark.parametrize(
    ("given", "hosts"),
    [(("-i", "one,two,"), {"one", "two"}), (("-i", "one,two,", "-e", "flyd_hosts=two"), {"two"}), ((), {"localhost"})],
)
def test_every_play_of_a_rollout_is_for_the_same_hosts(book: str, given: tuple[str, ...], hosts: set[str]) -> None:
    [found] = hosts_of(book, *given)
    assert set(found) == hosts


def test_flyd_hosts_chooses_among_them() -> None:
    books = (*HARMLESS, *DESTRUCTIVE)
    assert hosts_of(*books, "--inventory", "one,two,", "--extra-vars", "flyd_hosts=two") == [["two"]] * len(books)


def test_this_host_is_named_for_what_destroys() -> None:
    assert hosts_of(*DESTRUCTIVE, "--extra-vars", "flyd_hosts=localhost") == [["localhost"]] * len(DESTRUCTIVE)


@pytest.mark.parametrize("book", DESTRUCTIVE)
def test_what_destroys_has_no_hosts_unless_they_are_named(book: str, tmp_path: Path) -> None:
    """An inventory does not name them, nor does --limit."""
    (tmp_path / "hosts.ini").write_text("one\ntwo\n[all:vars]\nflyd_hosts=all\n")
    done = ansible(book, "--inventory", tmp_path / "hosts.ini", "--limit", "two")
    assert done.returncode not in (0, 2), done.stdout  # 2 is a failed task
    assert "name its hosts, as -e flyd_hosts=" in done.stderr
    assert "PLAY" not in done.stdout


def test_a_playbook_of_the_user_names_them_where_it_imports(tmp_path: Path) -> None:
    (tmp_path / "book.yml").write_text(
        "- ansible.builtin.import_playbook: flyd.lite.teardown\n  vars:\n    flyd_hosts: two\n"
    )
    assert hosts_of(tmp_path / "book.yml", "--inventory", "one,two,") == [["two"]]


@pytest.mark.parametrize(
    ("book", "variable"), [("activate.yml", "flyd_hsots=one"), ("teardown.yml", "teardown_forse=true")]
)
def test_a_misspelt_variable_is_refused_before_anything_is_done(book: str, variable: str) -> None:
    named = ["-e", "flyd_hosts=one"] if book in DESTRUCTIVE else []
    done = ansible(book, "-i", "one,", "-c", "local", "-e", "key=a", "-e", variable, *named)
    assert done.returncode == 2
    assert variable.partition("=")[0] in done.stdout
    assert "ok=0 " in done.stdout


@pytest.mark.parametrize("book", sorted(BOOKS))
def test_variables_are_prefixed(book: str) -> None:
    """But for the key of activate.yml, which is the one word of a command that people type."""
    text = (ROOT / "playbooks" / book).read_text()
    given = set(re.findall(r"-e (\w+)=", text)) | set(re.findall(r"{{ (\w+) \|", text))
    allowed = {"key"} if book == "activate.yml" else set()
    role = "rollout" if book in ("stage.yml", "rollback.yml") else Path(book).stem
    wrong = {name for name in given - allowed if not name.startswith(("flyd_", f"{role}_"))}
    assert wrong - {"misspelt", "unknown", "known"} == set()
