# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A symbolic mode gives the bits that Ansible's own modules give for it."""

from __future__ import annotations

import os
import random
from types import SimpleNamespace

import pytest

basic = pytest.importorskip("ansible.module_utils.basic", reason="ansible-core is not installed")


def test_a_symbolic_mode_means_what_ansible_means_by_it() -> None:
    from module_utils._lifecycle.snapshot.mode import Mode

    choose = random.Random(7)
    was = os.umask(0o027)
    try:
        for _ in range(2000):
            clauses = []
            for _ in range(choose.randint(1, 3)):
                who = choose.choice(["", "a", "u", "g", "o", "ug", "go", "ugo"])
                what = "".join(
                    choose.choice(["u", "g", "o"]) if choose.random() < 0.2 else choose.sample("rwxXst", 2)[0]
                )
                clauses.append(who + choose.choice("+-=") + choose.choice(["", what, "rw", "rwx"]))
            text, now = ",".join(clauses), choose.randrange(0o1000)
            node = SimpleNamespace(st_mode=0o060000 | now)
            mode = Mode.parse(text)
            assert mode is not None
            assert oct(mode.of(now)) == oct(basic.AnsibleModule._symbolic_mode_to_octal(node, text)), (text, oct(now))
    finally:
        os.umask(was)
