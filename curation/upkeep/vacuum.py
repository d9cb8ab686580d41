"""``vacuum``: remove what no history refers to. The only thing that deletes, and never by default.

Kept for ever: the log, receipts, snapshots, run records with their reports, and every blob that one of them
refers to. Removed once it is old enough: blobs of work that never got its receipt, attempt marks of runs
that are over, leases of the dead, half-written local files and left-over probes.

It runs alone: a lease keeps runs out while it looks and deletes (``curation.root.leases``). Otherwise a run could
find an old orphan, take it for its own file, and lose it.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from dataclasses import dataclass, field

from curation.root.leases import FOLDER as LEASES
from curation.root.leases import Lease
from curation.root.store import PROBE_FOLDER, ObjectMeta, Store
from curation.root.store_backends import TMP_FOLDER
from curation.upkeep.reachable import find_reachable
from schemas.errors import ConfigError

DEFAULT_AGE_H = 24.0
_CHECK_EVERY = 100


@dataclass
class VacuumResult:
    """What was found, and deleted if asked."""

    applied: bool
    garbage: list[ObjectMeta] = field(default_factory=list)
    num_referenced: int = 0
    num_too_young: int = 0

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "applied": self.applied,
            "num_objects": len(self.garbage),
            "num_bytes": sum(m.num_bytes for m in self.garbage),
            "by_folder": dict(sorted(Counter(_folder(m.name) for m in self.garbage).items())),
            "num_referenced_blobs": self.num_referenced,
            "num_too_young": self.num_too_young,
            "names": [m.name for m in self.garbage],
        }


def vacuum(store: Store, *, apply: bool, min_age_h: float = DEFAULT_AGE_H) -> VacuumResult:
    """Find garbage, and delete it if ``apply``.

    Args:
        store: An existing root.
        apply: Delete. Otherwise only look.
        min_age_h: Younger objects stay, in hours on the store's clock.

    Raises:
        ConfigError: A run or another vacuum is at work, or the history is damaged, so that it is
            not known what it refers to.
    """
    if not apply:  # a look takes no lease and writes nothing
        return _look(store, min_age_h, time.time(), keep="")
    with Lease(store, "vacuum", secrets.token_hex(8)) as lease:
        result = _look(store, min_age_h, lease.store_time_s(), keep=lease.folder)
        result.applied = True
        for index, meta in enumerate(result.garbage):
            if index % _CHECK_EVERY == 0:
                lease.check()
            store.delete(meta.name)
    return result


def _look(store: Store, min_age_h: float, now_s: float, keep: str) -> VacuumResult:
    candidates = [m for m in store.list() if _folder(m.name) in _CLEARED]
    # the history is read after the listing: what a run refers to meanwhile is seen
    reachable = find_reachable(store)
    if reachable.problems:
        first = reachable.problems[0]
        raise ConfigError(
            f"{store.uri} is damaged ({first.name}: {first.detail}): run handloom verify, "
            "nothing was deleted"
        )
    result = VacuumResult(applied=False, num_referenced=len(reachable.refs))
    for meta in candidates:
        if meta.name in reachable.refs or (keep and meta.name.startswith(f"{keep}/")):
            continue
        # the marks of a finished run are of no use; those of another may be needed for a while
        folder, run_id = meta.name.split("/")[:2]
        is_over = folder == "attempts" and run_id in reachable.finished_runs
        if not is_over and now_s - meta.modified_s < min_age_h * 3600:
            result.num_too_young += 1
            continue
        result.garbage.append(meta)
    return result


_CLEARED = {"blobs", "attempts", LEASES, PROBE_FOLDER, TMP_FOLDER}


def _folder(name: str) -> str:
    return name.partition("/")[0]
