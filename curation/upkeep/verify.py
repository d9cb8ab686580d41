"""``verify``: read everything again and say what is not as it was written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa

from curation.root.store import ObjectChangedError, Store
from curation.root.tables import read_parquet
from curation.upkeep.reachable import Problem, Reachable, find_reachable
from schemas.manifest import DatasetManifest

_THREADS = 4


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was read and what is wrong."""

    num_control: int
    num_blobs: int
    num_bytes: int
    num_unreferenced: int
    num_snapshots: int
    problems: tuple[Problem, ...]


def verify(
    store: Store, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> VerifyResult:
    """Re-hash every blob and shard, and check that all references are met.

    Safe beside a live run: history is read first, and files are always there before what refers to them.
    """
    reachable = find_reachable(store)
    listed = {m.name: m for m in store.list("blobs")}
    problems = reachable.problems + [
        Problem("missing", name, f"{reachable.needed_by[name]} refers to it")
        for name in sorted(set(reachable.refs) - set(listed))
    ]
    with ThreadPoolExecutor(_THREADS) as pool:
        checks = pool.map(lambda name: _check_blob(store, name, reachable), listed)
        for done, problem in enumerate(checks, 1):
            problems += [problem] if problem else []
            progress(done, len(listed))
    damaged = {p.name for p in problems}
    for manifest in reachable.datasets:
        problems += _check_dataset(store, manifest, damaged)
    return VerifyResult(
        num_control=reachable.num_control,
        num_blobs=len(listed),
        num_bytes=sum(m.num_bytes for m in listed.values()),
        num_unreferenced=len(set(listed) - set(reachable.refs)),
        num_snapshots=len(reachable.datasets),
        problems=tuple(problems),
    )


def _check_blob(store: Store, name: str, reachable: Reachable) -> Problem | None:
    told = name.rsplit("/", 1)[-1].partition(".")[0]
    digest, num_bytes = hashlib.sha256(), 0
    by = reachable.needed_by.get(name, "nothing")
    try:
        for chunk in store.stream(name):
            digest.update(chunk)
            num_bytes += len(chunk)
    except (FileNotFoundError, ObjectChangedError):
        if name not in reachable.refs:
            return None  # garbage that vacuum took away just now
        return Problem("missing", name, f"it went away; {by} refers to it")
    if digest.hexdigest() != told:
        return Problem(
            "damaged", name, f"sha256 is {digest.hexdigest()[:16]}..., {num_bytes} bytes; "
            f"{by} refers to it",
        )  # fmt: skip
    ref = reachable.refs.get(name)
    if ref is not None and ref.num_bytes != num_bytes:
        return Problem("damaged", name, f"{by} says {ref.num_bytes} bytes, it has {num_bytes}")
    return None


def _check_dataset(store: Store, manifest: DatasetManifest, damaged: set[str]) -> list[Problem]:
    """Compare the shards of a snapshot with what it says about them."""
    problems = []
    for shard in manifest.shards:
        name = shard.file.name
        if name in damaged:
            continue
        try:
            table = read_parquet(store.read(name), ["clip_id"])
        except (FileNotFoundError, pa.ArrowException, OSError) as error:
            problems.append(Problem("unreadable", name, str(error).splitlines()[0]))
            continue
        found = tuple(table.column("clip_id").to_pylist())
        if sorted(found) != sorted(shard.clip_ids) or len(found) != shard.num_samples:
            problems.append(
                Problem("damaged", name, f"snapshot {manifest.snapshot} names other clips")
            )
    return problems
