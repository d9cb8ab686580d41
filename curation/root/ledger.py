"""The ledger: receipts of single units of work, and a create-if-absent log of commits.

    _format.json
    blobs/<2 hex>/<sha256><suffix>                     content-named, immutable
    receipts/<stage>/<closure_fp>/<2 hex>/<key>.json   one StageResult, written by workers, first wins
    log/<20 digits>.json                               commits, written by the driver
    dataset/<20 digits>.json                           published snapshots of shards
    runs/<run_id>/{run.json, report/}                  finished runs
    attempts/, leases/, probe/, tmp/                   work in progress; nothing refers to it

A receipt makes a unit done; a log entry folds receipts into one Parquet file so that later runs
list and read little. Killing anything between the two loses nothing. ``retry`` logs units whose results no
longer count; their next receipts are called ``<key>.<generation>.json``.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import ValidationError

from curation.failpoints import hit
from curation.log_lines import tell
from curation.root.store import Store, require_format
from curation.root.tables import M, models_to_parquet, put_blob_bytes, read_models
from schemas.base import Model
from schemas.errors import InvariantError
from schemas.manifest import (
    ROOT_FORMAT_VERSION,
    DatasetManifest,
    LogEntry,
    Retried,
    RunRecord,
)
from schemas.outcome import StageResult

log = logging.getLogger(__name__)

_DIGITS = 20
_NOT_A: dict[type[Model], str] = {
    DatasetManifest: "no snapshot",
    LogEntry: "no entry of a log",
    RunRecord: "no record of a run",
    StageResult: "no receipt",
}
PASSING = frozenset({"source_missing", "source_changed", "archived", "unreadable"})


class Ledger:
    """Reads and writes the history of one output root.

    Args:
        store: The root.
        created_by: Version text for a new root's marker.
    """

    def __init__(self, store: Store, created_by: str = "handloom") -> None:
        require_format(store, created_by, ROOT_FORMAT_VERSION)
        self.store = store
        self.generations: Mapping[str, int] = {}
        """Units that ``retry`` asked for, as of the last ``known_results``; others have generation 0."""

    def record(self, result: StageResult, closure: str) -> StageResult:
        """Write a unit's receipt; returns the winner if another worker was first."""
        result = result.replace(generation=self.generations.get(result.unit_key, 0))
        name = receipt_name(result.stage, closure, result.unit_key, result.generation)
        hit("worker.receipt.before")
        won = self.store.put_new(name, result.model_dump_json().encode())
        hit("worker.receipt.after")
        return result if won else self._receipt(name)

    def find(self, stage: str, closure: str, unit_key: str) -> StageResult | None:
        """A unit's receipt, if it is done."""
        generation = self.generations.get(unit_key, 0)
        try:
            return self._receipt(receipt_name(stage, closure, unit_key, generation))
        except FileNotFoundError:
            return None

    def _receipt(self, name: str) -> StageResult:
        return self._control(name, StageResult, "delete it, run again")

    def _control(self, name: str, kind: type[M], remedy: str = "restore it from a copy") -> M:
        """Read a control file of the history.

        Raises:
            FileNotFoundError: There is none of that name.
            InvariantError: It is cut short, or is none of ours.
        """
        try:
            return kind.model_validate_json(self.store.read(name))
        except ValidationError as error:
            raise InvariantError(
                f"{self.store.uri}/{name} is damaged: cut short, or {_NOT_A[kind]} "
                f"({error.errors()[0]['msg'][:200]}); run handloom verify, {remedy}"
            ) from error

    def known_results(self, closures: dict[str, str]) -> dict[str, StageResult]:
        """All finished units of the given ``{stage: closure fingerprint}``, by unit key."""
        entries = self.entries()
        self.generations = self._generations(entries)
        known = {r.unit_key: r for r in self.logged(entries) if closures.get(r.stage) == r.closure}
        receipts = [
            meta.name
            for stage, closure in closures.items()
            for meta in self.store.list(f"receipts/{stage}/{closure}")
        ]
        self._check_generations(receipts)
        names = [name for name in receipts if self._is_news(name, known)]
        with ThreadPoolExecutor(8) as pool:
            for result in pool.map(self._receipt, names):
                known[result.unit_key] = result
        return known

    def _check_generations(self, receipts: Sequence[str]) -> None:
        """A receipt of a generation that no entry asked for: the entry is gone from the log's end."""
        made = [split_receipt(name) for name in receipts]
        if any(generation > self.generations.get(key, 0) for key, generation in made):
            asked = self._generations(self.entries())  # somebody may have asked just now
            if any(generation > asked.get(key, 0) for key, generation in made):
                raise InvariantError(
                    f"{self.store.uri}/log has lost a retry entry: there are results that it asked for; "
                    "run handloom verify, restore it from a copy"
                )

    def _is_news(self, receipt: str, known: Mapping[str, StageResult]) -> bool:
        key, generation = split_receipt(receipt)
        return key not in known and generation == self.generations.get(key, 0)

    def _generations(self, entries: Sequence[tuple[int, LogEntry]]) -> Counter[str]:
        asked: Counter[str] = Counter()
        for _, entry in entries:
            if entry.kind == "retry":
                for ref in entry.files:
                    units = read_models(self.store, ref, Retried)
                    asked.update(u.unit_key for u in units)
        return asked

    def logged(self, entries: Sequence[tuple[int, LogEntry]]) -> Iterator[StageResult]:
        """Results in the log that count today."""
        for _, entry in entries:
            if entry.kind == "results":
                for ref in entry.files:
                    for result in read_models(self.store, ref, StageResult):
                        if result.generation == self.generations.get(result.unit_key, 0):
                            yield result

    def commit_retry(self, unit_keys: Sequence[str], txn: str) -> int:
        """Log that the results of some units no longer count; returns the entry's number."""
        units = [Retried(unit_key=key) for key in sorted(set(unit_keys))]
        ref = put_blob_bytes(self.store, models_to_parquet(units, Retried), ".parquet")
        number = self.append(LogEntry(txn=txn, kind="retry", files=(ref,), num_rows=len(units)))
        tell(log, "retry", units=len(units), txn=txn)
        return number

    def commit_results(self, results: Sequence[StageResult], txn: str) -> int | None:
        """Fold receipts into the log. Returns the entry's number, None for nothing to commit."""
        if not results:
            return None
        hit("driver.commit.before")
        ordered = sorted(results, key=lambda r: r.unit_key)
        ref = put_blob_bytes(self.store, models_to_parquet(ordered, StageResult), ".parquet")
        hit("driver.commit.blob")
        entry = LogEntry(txn=txn, kind="results", files=(ref,), num_rows=len(ordered))
        number = self.append(entry)
        hit("driver.commit.logged")
        return number

    def append(self, entry: LogEntry) -> int:
        """Append to the log; a lost response is recognised by our own txn."""
        number = self._next_number()
        while True:
            name = log_name(number)
            if self.store.put_new(name, entry.model_dump_json().encode()):
                return number
            if self._control(name, LogEntry).txn == entry.txn:
                return number
            number += 1

    def entries(self) -> list[tuple[int, LogEntry]]:
        """The whole log in order.

        Raises:
            InvariantError: An entry is missing or damaged.
        """
        numbers = self._numbers()
        missing = sorted(set(range(1, max(numbers, default=0) + 1)) - set(numbers))
        if missing:
            raise InvariantError(
                f"{self.store.uri}/{log_name(missing[0])} is missing, {len(missing)} of "
                f"{numbers[-1]} entries in all; run handloom verify, restore it from a copy"
            )
        with ThreadPoolExecutor(8) as pool:
            read = pool.map(lambda n: self._control(log_name(n), LogEntry), numbers)
            return list(zip(numbers, read, strict=True))

    def check_history(self) -> None:
        """Check that the log is whole, and knows of every finished run.

        Raises:
            InvariantError: An entry is missing or damaged.
        """
        runs = self.runs()  # before the log, which may grow meanwhile
        txns = [entry.txn for _, entry in self.entries()]
        for run in runs:
            if not is_logged(run, txns):
                raise InvariantError(
                    f"{self.store.uri}/{log_name(run.log_number or 0)} is missing: run {run.run_id} "
                    "wrote it; run handloom verify, restore it from a copy"
                )

    def _numbers(self) -> list[int]:
        """Numbers of the log's entries; what is none is left alone."""
        keys = [_key_of(m.name) for m in self.store.list("log")]
        return [int(key) for key in keys if key.isdecimal() and len(key) == _DIGITS]

    def _next_number(self) -> int:
        return max(self._numbers(), default=0) + 1

    def publish_dataset(self, manifest: DatasetManifest, txn: str) -> DatasetManifest:
        """Publish a snapshot, unless the latest one already holds exactly these shards."""
        hit("driver.snapshot.before")
        latest = self.latest_dataset()
        if latest and (latest.shards, latest.dataset_card) == (
            manifest.shards,
            manifest.dataset_card,
        ):
            manifest = latest
        else:
            number = (latest.snapshot if latest else 0) + 1
            while not self._put_snapshot(manifest.replace(snapshot=number)):
                number += 1
            manifest = manifest.replace(snapshot=number)
        hit("driver.snapshot.manifest")
        entries = self.entries()
        if not any(e.kind == "dataset" and e.snapshot == manifest.snapshot for _, e in entries):
            num_rows = sum(s.num_samples for s in manifest.shards)
            snapshot = manifest.snapshot
            self.append(LogEntry(txn=txn, kind="dataset", snapshot=snapshot, num_rows=num_rows))
        hit("driver.snapshot.logged")
        return manifest

    def _put_snapshot(self, manifest: DatasetManifest) -> bool:
        """Take a number; another driver that publishes the very same may share it."""
        data = manifest.model_dump_json(indent=1).encode()
        return self.store.put_mine(dataset_name(manifest.snapshot), data)

    def latest_dataset(self) -> DatasetManifest | None:
        """The newest published snapshot."""
        names = [m.name for m in self.store.list("dataset")]
        return self._control(names[-1], DatasetManifest) if names else None

    def dataset(self, snapshot: int) -> DatasetManifest:
        """A published snapshot by its number.

        Raises:
            InvariantError: It is missing or damaged.
        """
        try:
            return self._control(dataset_name(snapshot), DatasetManifest)
        except FileNotFoundError as error:
            raise InvariantError(
                f"{self.store.uri}/{dataset_name(snapshot)} is missing; run handloom verify, restore it "
                "from a copy"
            ) from error

    def write_run(self, run: RunRecord) -> None:
        """Record a finished run."""
        data = json.dumps(run.model_dump(mode="json"), indent=1, sort_keys=True).encode()
        self.store.put_new(f"runs/{run.run_id}/run.json", data)

    def runs(self) -> list[RunRecord]:
        """All finished runs, oldest first."""
        names = [m.name for m in self.store.list("runs") if m.name.endswith("/run.json")]
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(self._run, names))

    def latest_run(self) -> RunRecord | None:
        """The newest finished run."""
        names = [m.name for m in self.store.list("runs") if m.name.endswith("/run.json")]
        return self._run(names[-1]) if names else None

    def _run(self, name: str) -> RunRecord:
        run = self._control(name, RunRecord)
        if name != f"runs/{run.run_id}/run.json":
            raise InvariantError(f"{self.store.uri}/{name} is about another run, {run.run_id}")
        return run


def is_logged(run: RunRecord, txns: Sequence[str]) -> bool:
    """True if the log has the run's own entry, its last, where the run says; ``txns`` is the whole log."""
    number = run.log_number
    return number is None or (number <= len(txns) and txns[number - 1] == run_txn(run.run_id))


def run_txn(run_id: str) -> str:
    """Transaction of a finished run's entry."""
    return f"{run_id}/run"


def is_final(result: StageResult) -> bool:
    """False for what says more about the moment than about the content: it is never recorded."""
    return result.reason not in PASSING


def receipt_name(stage: str, closure: str, unit_key: str, generation: int = 0) -> str:
    """Name of a unit's receipt below the root."""
    suffix = f".{generation}" if generation else ""
    return f"receipts/{stage}/{closure}/{unit_key[:2]}/{unit_key}{suffix}.json"


def split_receipt(name: str) -> tuple[str, int]:
    """Unit key and generation of a receipt's name.

    >>> split_receipt(receipt_name("segment", "c", "abcd", 2))
    ('abcd', 2)
    """
    key, _, generation = _key_of(name).partition(".")
    return key, int(generation or 0)


def log_name(number: int) -> str:
    """Name of a log entry below the root."""
    return f"log/{number:0{_DIGITS}d}.json"


def dataset_name(number: int) -> str:
    """Name of a dataset snapshot below the root."""
    return f"dataset/{number:0{_DIGITS}d}.json"


def _key_of(name: str) -> str:
    return name.rsplit("/", 1)[-1].removesuffix(".json")
