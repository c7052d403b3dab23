# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rebuild the links of all instances from the store: at boot, and when something else has changed them.

Invariant: a link is created only when its device is mapped, so a guest that finds its link finds its device.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..diff import is_mapped
from ..findings import RecoveryKind
from ..instance.link import Content, is_published, path_of, publish
from ..instance.views import content_of
from ..run import Run
from ..store.instance_record import Instance


def wrong_links(host: Run) -> Iterator[tuple[Instance, Content]]:
    """Each instance whose name does not point at what the store has, and what it must show; devices that are not mapped are left out."""
    for instance in host.store.all(Instance):
        content = content_of(host, *instance.shown)
        if content is None or is_published(host.dm.root, instance.name, content):
            continue
        if is_mapped(host, content.ulid):
            yield instance, content


def restore_links(host: Run) -> None:
    """Make those that are missing or wrong, and report each."""
    for instance, content in list(wrong_links(host)):
        if not host.dry_run:
            with host.store.transaction():  # the row may be gone by now, or point elsewhere
                if host.store.find(Instance, "name=?", instance.name) != instance:
                    continue
                publish(host.dm.root, instance.name, content)
        path = path_of(instance.name)
        text = f"{'would make' if host.dry_run else 'made'} {path} point at {content.device} again"
        host.report(RecoveryKind.LINK_RESTORED, path, text)
