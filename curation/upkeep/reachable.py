"""What a root's history refers to: the basis of ``vacuum`` and ``verify``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pydantic import ValidationError

from curation.root.ledger import is_logged, split_receipt
from curation.root.store import Store
from curation.root.tables import M, models_from_parquet
from schemas.base import FileRef
from schemas.manifest import DatasetManifest, LogEntry, RunRecord
from schemas.outcome import StageResult

_THREADS = 8


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as the history says."""

    kind: str
    """``missing``, ``damaged``, ``unreadable``, ``misnamed`` or ``gap``."""
    name: str
    detail: str


@dataclass
class Reachable:
    """Everything that some control file of a root refers to."""

    refs: dict[str, FileRef] = field(default_factory=dict)
    """By name below the root."""
    needed_by: dict[str, str] = field(default_factory=dict)
    datasets: list[DatasetManifest] = field(default_factory=list)
    finished_runs: set[str] = field(default_factory=set)
    num_control: int = 0
    problems: list[Problem] = field(default_factory=list)

    def need(self, refs: Iterable[FileRef], by: str) -> None:
        """Note references."""
        for ref in refs:
            self.refs[ref.name] = ref
            self.needed_by.setdefault(ref.name, by)


def find_reachable(store: Store) -> Reachable:
    """Read the whole history: receipts, log, snapshots and runs.

    Control files that cannot be read are problems as well: what they refer to is unknown.
    """
    reachable = Reachable()
    _read_receipts(store, reachable)
    records = [m.name for m in store.list("runs") if m.name.endswith("/run.json")]
    runs = _read_models(store, records, reachable, RunRecord)  # before the log, which may grow
    txns = _read_log(store, reachable)
    for name, manifest in _read_models(
        store, _json_names(store, "dataset"), reachable, DatasetManifest
    ):
        reachable.datasets.append(manifest)
        reachable.need([s.file for s in manifest.shards], name)
    for name, run in runs:
        if name != f"runs/{run.run_id}/run.json":
            reachable.problems.append(Problem("misnamed", name, f"it is about run {run.run_id}"))
        if txns is not None and not is_logged(run, txns):
            detail = f"entry {run.log_number}, of run {run.run_id}, is missing"
            reachable.problems.append(Problem("gap", "log", detail))
        reachable.finished_runs.add(run.run_id)
        reachable.need(run.files, name)
    return reachable


def _read_receipts(store: Store, reachable: Reachable) -> None:
    names = _json_names(store, "receipts")
    for name, result in _read_models(store, names, reachable, StageResult):
        reachable.need(result.files, name)
        told = tuple(name.split("/")[1:3]), *split_receipt(name)
        if told != ((result.stage, result.closure), result.unit_key, result.generation):
            reachable.problems.append(
                Problem("misnamed", name, f"it is about unit {result.unit_key} of {result.stage}")
            )


def _read_log(store: Store, reachable: Reachable) -> list[str] | None:
    """Note what the log refers to; returns its transactions in order, None if not all could be read."""
    names = [n for n in _json_names(store, "log") if split_receipt(n)[0].isdecimal()]
    numbers = [int(split_receipt(name)[0]) for name in names]
    if numbers != list(range(1, len(numbers) + 1)):
        missing = sorted(set(range(1, max(numbers) + 1)) - set(numbers))
        reachable.problems.append(Problem("gap", "log", f"entries {missing[:10]} are missing"))
    entries = _read_models(store, names, reachable, LogEntry)
    for name, entry in entries:
        reachable.need(entry.files, name)
        if entry.kind == "results":
            for ref in entry.files:
                _read_folded(store, ref, reachable)
    is_whole = numbers == list(range(1, len(entries) + 1))
    return [entry.txn for _, entry in entries] if is_whole else None


def _read_folded(store: Store, ref: FileRef, reachable: Reachable) -> None:
    try:
        for result in models_from_parquet(store.read(ref.name), StageResult):
            reachable.need(result.files, ref.name)
    except FileNotFoundError:
        return  # verify reports it as a missing file
    except (OSError, ValueError) as error:  # pyarrow's and pydantic's errors
        reachable.problems.append(Problem("unreadable", ref.name, str(error).splitlines()[0]))


def _read_models(
    store: Store, names: Sequence[str], reachable: Reachable, kind: type[M]
) -> list[tuple[str, M]]:
    def read(name: str) -> bytes | None:
        try:
            return store.read(name)
        except FileNotFoundError:
            return None  # it was there a moment ago: vacuum or a run's own tidying

    reachable.num_control += len(names)
    found = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for name, data in zip(names, pool.map(read, names), strict=True):
            if data is None:
                continue
            try:
                found.append((name, kind.model_validate_json(data)))
            except ValidationError as error:
                detail = f"no {kind.__name__}: {error.errors()[0]['msg']}"
                reachable.problems.append(Problem("unreadable", name, detail))
    return found


def _json_names(store: Store, prefix: str) -> list[str]:
    return [m.name for m in store.list(prefix) if m.name.endswith(".json")]
