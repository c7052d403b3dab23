# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of flyd_fetch: ask S3, download, verify, publish, record.

Invariant: a row says ``fetched`` only after all its bytes were verified and published. When what is behind a key has changed, a new
generation takes the row, and the old one keeps its base and snapshots. No two generations of a key have the same digest: bytes that a
retired one has revive it.
"""

from __future__ import annotations

import os
from dataclasses import replace

from ..._errors import MissingLibrary, NoSpace, Untrusted
from ..._host.files.durable import DISK_RESERVE_BYTES, free_bytes
from ..._names import Digest, new_ulid, printable, size_text
from ..._source.digests.trust import Voucher, voucher
from ..._source.download.fetch import Arrived, Asked, ask
from ..._source.download.retry_policy import DownloadOptions
from ..._source.found import Found, look
from ..._source.opening import open_source
from ..diff import UNKNOWN, fetched, image_view, revived
from ..image.archives import missing, require_there, sweep
from ..image.seals import seal
from ..outcome import Facts
from ..run import Run
from ..store.generations import generation_of, make_current
from ..store.records import Image, State
from ..store.store import utc_now
from .copies import copies_for
from .download import OnHost, Receipt, receive, reserved_for
from .fetched import fetched_facts, members_of, warnings_of
from .options import FetchOptions, OnChange, is_of
from .vouching import columns_of, strongest


class Fetching:
    """One run's work for one key. S3 is asked once; ``found`` is what it has answered already."""

    def __init__(self, options: FetchOptions, pinned: Digest | None, found: Found | None = None) -> None:
        self._options = options
        self._pinned = pinned
        self._bucket = open_source(options.s3, options.place)
        self._found = found

    def look(self, host: Run) -> Found:
        """What is behind the key now."""
        if self._found is None:
            self._found = host.retry.call(lambda: look(self._bucket, self._options.key))
        return self._found

    def predict(self, host: Run, image: Image) -> tuple[Facts, Facts]:
        """What would be downloaded. S3 is asked for all but the bytes, so what it would refuse is found in check mode too.

        On a host that ``prepare`` was only simulated on there is no boto3: then the prediction does without S3.
        """
        known = {"sha256": self._pinned.hex if self._pinned else UNKNOWN, "etag": UNKNOWN, "trust": UNKNOWN}
        size_bytes: int | None = None
        is_same, digests, replaced = False, [known["sha256"]], None
        try:
            asked = self.ask(host, image)
            known = {"sha256": asked.sha256 or UNKNOWN, "etag": asked.found.etag, "trust": asked.trust.value}
            size_bytes, is_same = asked.found.size_bytes, is_of(self._options, image, asked.found)
            digests = [one.sha256 or UNKNOWN for one in asked.expected]
            replaced = self._replaced(image, asked)
            if same := generation_of(host.store, image.object_key, asked.sha256):
                known["trust"] = strongest(same, self._voucher(asked)).trust.value
        except MissingLibrary:
            if host.settings.starts_over:
                raise
        same = generation_of(host.store, image.object_key, known["sha256"])
        shown = {name: None if value == UNKNOWN else value for name, value in known.items()}
        trust = shown["trust"]
        is_new = bool(image.id) and not is_same and same is None
        return self._changes(host, image, same, digests, known), {
            **fetched_facts(host, Image(id="", object_key=image.object_key) if is_new else same or image),
            **shown,
            "trust": trust,
            "size": size_bytes,
            "path": None,
            "new_generation": is_new,
            "revived": same is not None and same.id != image.id,
            "replaced": replaced,
            "warnings": warnings_of(self._options, was_asked=True, replaced=replaced, trust=trust or ""),
        }

    def _changes(self, host: Run, image: Image, same: Image | None, digests: list[str], known: dict[str, str]) -> Facts:
        """What it changes of the view of ``image`` that ``digests`` come, which are a new generation or ``same``."""
        sealed, before = _sealed_without_archive(host, same or image), image_view(host, image)
        archives = [host.archive_path(one) for one in digests if one not in sealed]
        if same is None or same.id == image.id:
            return fetched(before, archives, **known)
        return revived(host, before, same, archives, etag=known["etag"], trust=known["trust"])

    def perform(self, host: Run, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Download, verify, publish, record; a changed object becomes a new generation, or revives the one that it was, and the old one is retired."""
        asked = self.ask(host, image)
        known = OnHost(host, self._options.source_name, image, asked.sha256, copies_for(host, self._options))
        with self._bucket:
            got = receive(host, self._bucket, self._options.wanted, asked, known, self._remaining(host))
        replaced = self._replaced(image, asked, got.arrived)
        self._refuse_what_came(host, got, replaced)
        same = generation_of(host.store, image.object_key, got.arrived.sha256)
        after = self._record(host, image, got, asked, same)
        sweep(host)
        shown = {
            "received_bytes": got.arrived.received_bytes,
            "resumed_bytes": got.arrived.resumed_bytes,
            "bytes_reused": got.arrived.bytes_reused,
            "walk_requests": got.arrived.walk_requests,
            "seconds": round(got.arrived.seconds, 3),
            "new_generation": bool(image.id) and same is None,
            "revived": same is not None and same.id != image.id,
        }
        log.update(
            shown,
            not_reused_because=got.arrived.not_reused_because,
            waited_seconds=round(host.retry.waited_seconds, 3),
            size=after.size_bytes,
            trust=after.trust,
        )
        return after, {
            **fetched_facts(host, after),
            **shown,
            "trust": got.arrived.trust.value,
            "vouched_by": self._voucher(asked).name or None,
            "replaced": replaced,
            "warnings": warnings_of(self._options, was_asked=True, replaced=replaced, trust=got.arrived.trust.value),
        }

    def ask(self, host: Run, image: Image) -> Asked:
        """What is to come; raises what is refused before the first byte."""
        known = OnHost(host, self._options.source_name, image)
        asked = ask(self._bucket, self._options.wanted, known, host.retry, self._found)
        self._refuse(self._replaced(image, asked))
        same = generation_of(host.store, image.object_key, asked.sha256) or image
        has_base = bool(same.base_ulid) and (same.id != image.id or is_of(self._options, image, asked.found))
        is_readable = not self._options.place.is_awaited
        if self._require_room(host, asked) and host.settings.names_pool and not has_base and is_readable:
            from .fitting import require_fit  # late: a download that no pool is named for needs nothing of it

            require_fit(host, self._bucket, asked, self._options)
        return asked

    def _replaced(self, image: Image, asked: Asked, arrived: Arrived | None = None) -> Facts | None:
        """What another object took the place of, when one did; its digest is None before the bytes are here, if only they tell."""
        found = asked.found if arrived is None else arrived.found
        new = asked.sha256 if arrived is None else arrived.sha256
        if not image.sha256 or is_of(self._options, image, found) or new == image.sha256:
            return None
        return {"old_sha256": image.sha256, "new_sha256": new or None, "old_etag": image.etag, "new_etag": found.etag}

    def _refuse(self, replaced: Facts | None) -> None:
        """Refuse an object that took another's place, where the operator wants that: no digest says that this one is meant."""
        if replaced is None or self._pinned is not None or self._options.on_change is not OnChange.REFUSE:
            return
        new = replaced["new_sha256"]
        raise Untrusted(
            f"{printable(self._options.key.value)} was replaced {_whence(self._options)} since it was fetched with sha256:{replaced['old_sha256']}, "
            f"and on_change is refuse (now {'sha256:' + new if new else 'ETag ' + printable(replaced['new_etag'], 80)})",
            hint=f"to accept the new one, give checksum: {'sha256:' + new if new else 'sha256:… as its publisher tells it'}; to keep the old one "
            f"without asking, give checksum: sha256:{replaced['old_sha256']}, or on_change: ignore",
            **{name: value for name, value in replaced.items() if value},
        )

    def _refuse_what_came(self, host: Run, got: Receipt, replaced: Facts | None) -> None:
        """The same of an object that was replaced while it was downloaded."""
        try:
            self._refuse(replaced)
        except Untrusted:
            with host.store.transaction():
                host.store.drop(got.operation)
            sweep(host)
            raise

    def _voucher(self, asked: Asked) -> Voucher:
        known = [one.digest for one in asked.expected]
        digest = asked.whole if asked.found.key.is_family else known[0]
        if digest is None and asked.sha256:
            digest = Digest("sha256", asked.sha256)
        return voucher(asked.trust, self._options.checksum, self._options.s3.bucket, str(digest or ""))

    def _record(self, host: Run, image: Image, got: Receipt, asked: Asked, same: Image | None) -> Image:
        """What came, as the current generation: ``same``, which has these bytes already, or a new one."""
        arrived, now = got.arrived, self._voucher(asked)._replace(trust=got.arrived.trust)
        vouchers = now if same is None else strongest(same, now)
        after = (_new(image.object_key, arrived.sha256) if same is None else _fetched_again(same))._replace(
            bucket=self._options.source_name,
            size_bytes=arrived.found.size_bytes,
            etag=arrived.found.etag,
            version_id=arrived.found.version_id,
            **columns_of(vouchers),
            members=members_of(arrived),
            updated_at=utc_now(),
        )
        with host.store.transaction():
            require_there(host, after)
            make_current(host.store, after, instead_of=image)
            for digest in got.verified:
                seal(host, digest)
            host.store.drop(got.operation)
        return after

    def _remaining(self, host: Run) -> DownloadOptions:
        """How to download; what earlier attempts took is taken from the deadline, which is one for all of them."""
        asked, rate = self._options.download, self._options.max_bytes_per_second
        left = max(0.0, asked.deadline_seconds - host.failed_seconds)
        return replace(asked, deadline_seconds=left, max_bytes_per_second=rate)

    def _require_room(self, host: Run, asked: Asked) -> int:
        """Raise ``NoSpace`` unless the file system of state_dir takes what is to come; returns those bytes."""
        to_come = sum(
            info.size_bytes
            for info, expected in zip(asked.infos, asked.expected)
            if expected.digest is None or not os.path.exists(host.archive_path(expected.digest.hex))
        )
        free, reserved = free_bytes(host.settings.state_dir), reserved_for(host, asked.found.key.value)
        if to_come and to_come + DISK_RESERVE_BYTES > free + reserved:
            raise NoSpace(
                f"{asked.found.key} needs {size_text(to_come)}; {host.settings.state_dir} has {size_text(free)} free, of which "
                f"{size_text(DISK_RESERVE_BYTES)} stay free",
                hint=f"make room of {size_text(to_come + DISK_RESERVE_BYTES)} on the file system of state_dir, or set state_dir to a "
                "directory on a larger one (role activate: activate_state_dir)",
                needed_bytes=to_come,
                free_bytes=free,
            )
        return to_come


def _whence(options: FetchOptions) -> str:
    """Where the bytes come from, for messages."""
    place = options.place
    return "on the controller" if place.is_sent else f"at {place.name}" if place.name else "in S3"


def _sealed_without_archive(host: Run, image: Image) -> list[str]:
    """The digests whose bytes need not come although they are not on disk: a base was made of them."""
    return missing(host, image.digests) if image.base_ulid else []


def _fetched_again(image: Image) -> Image:
    """A generation whose bytes came again, current or retired, as the current one."""
    return Image(*image)._replace(state=max(image.state, State.FETCHED, key=lambda state: state.rank))


def _new(key: str, sha256: str) -> Image:
    return Image(id=str(new_ulid()), object_key=key, sha256=sha256, state=State.FETCHED, created_at=utc_now())
