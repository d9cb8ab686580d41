"""The ledger: receipts of single units of work, and a create-if-absent log of commits.

    _format.json
    blobs/<2 hex>/<sha256><suffix>                     content-named, immutable
    receipts/<stage>/<closure_fp>/<2 hex>/<key>.json   one StageResult, written by workers, first wins
    log/<20 digits>.json                               commits, written by the driver
    dataset/<20 digits>.json                           published snapshots of shards

A receipt makes a unit done; a log entry folds receipts into one Parquet file so that later runs
list and read little. Killing anything between the two loses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from curation.storage import Store, require_format
from curation.tables import models_from_parquet, models_to_parquet, put_blob_bytes
from schemas.errors import InvariantError
from schemas.manifest import ROOT_FORMAT_VERSION, DatasetManifest, LogEntry, RunRecord
from schemas.outcome import StageResult

_DIGITS = 20


class Ledger:
    """Reads and writes the history of one output root.

    Args:
        store: The root.
        created_by: Version text for a new root's marker.
    """

    def __init__(self, store: Store, created_by: str = "handloom") -> None:
        require_format(store, created_by, ROOT_FORMAT_VERSION)
        self.store = store

    def record(self, result: StageResult, closure: str) -> StageResult:
        """Write a unit's receipt; returns the winner if another worker was first."""
        name = receipt_name(result.stage, closure, result.unit_key)
        if self.store.put_new(name, result.model_dump_json().encode()):
            return result
        return StageResult.model_validate_json(self.store.read(name))

    def find(self, stage: str, closure: str, unit_key: str) -> StageResult | None:
        """A unit's receipt, if it is done."""
        try:
            data = self.store.read(receipt_name(stage, closure, unit_key))
        except FileNotFoundError:
            return None
        return StageResult.model_validate_json(data)

    def known_results(self, closures: dict[str, str]) -> dict[str, StageResult]:
        """All finished units of the given ``{stage: closure fingerprint}``, by unit key."""
        known = {r.unit_key: r for r in self._logged(closures)}
        names = [
            meta.name
            for stage, closure in closures.items()
            for meta in self.store.list(f"receipts/{stage}/{closure}")
            if _key_of(meta.name) not in known
        ]
        with ThreadPoolExecutor(8) as pool:
            for data in pool.map(self.store.read, names):
                result = StageResult.model_validate_json(data)
                known[result.unit_key] = result
        return known

    def _logged(self, closures: dict[str, str]) -> Iterator[StageResult]:
        for _, entry in self.entries():
            if entry.kind != "results":
                continue
            for ref in entry.files:
                for result in models_from_parquet(self.store.read(ref.name), StageResult):
                    if closures.get(result.stage) == result.closure:
                        yield result

    def commit_results(self, results: Sequence[StageResult], txn: str) -> int | None:
        """Fold receipts into the log. Returns the entry's number, None for nothing to commit."""
        if not results:
            return None
        ordered = sorted(results, key=lambda r: r.unit_key)
        ref = put_blob_bytes(self.store, models_to_parquet(ordered, StageResult), ".parquet")
        return self.append(LogEntry(txn=txn, kind="results", files=(ref,), num_rows=len(ordered)))

    def append(self, entry: LogEntry) -> int:
        """Append to the log; a lost response is recognised by our own txn."""
        number = self._next_number()
        while True:
            name = log_name(number)
            if self.store.put_new(name, entry.model_dump_json().encode()):
                return number
            if LogEntry.model_validate_json(self.store.read(name)).txn == entry.txn:
                return number
            number += 1

    def entries(self) -> list[tuple[int, LogEntry]]:
        """The whole log in order.

        Raises:
            InvariantError: A number is missing: somebody removed history.
        """
        names = [m.name for m in self.store.list("log") if m.name.endswith(".json")]
        numbers = [int(_key_of(n)) for n in names]
        if numbers != list(range(1, len(numbers) + 1)):
            raise InvariantError(f"{self.store.uri}/log has gaps: {numbers[:5]}...; restore it")
        with ThreadPoolExecutor(8) as pool:
            return list(
                zip(
                    numbers,
                    map(LogEntry.model_validate_json, pool.map(self.store.read, names)),
                    strict=True,
                )
            )

    def _next_number(self) -> int:
        numbers = [int(_key_of(m.name)) for m in self.store.list("log")]
        return max(numbers, default=0) + 1

    def publish_dataset(self, manifest: DatasetManifest, txn: str) -> DatasetManifest:
        """Publish a snapshot, unless the latest one already holds exactly these shards."""
        latest = self.latest_dataset()
        if (
            latest
            and latest.shards == manifest.shards
            and (latest.dataset_card == manifest.dataset_card)
        ):
            return latest
        number = (latest.snapshot if latest else 0) + 1
        while True:
            manifest = manifest.replace(snapshot=number)
            data = manifest.model_dump_json(indent=1).encode()
            name = dataset_name(number)
            if self.store.put_new(name, data) or self.store.read(name) == data:
                break
            number += 1
        self.append(
            LogEntry(
                txn=txn,
                kind="dataset",
                snapshot=number,
                num_rows=sum(s.num_samples for s in manifest.shards),
            )
        )
        return manifest

    def latest_dataset(self) -> DatasetManifest | None:
        """The newest published snapshot."""
        names = [m.name for m in self.store.list("dataset")]
        return DatasetManifest.model_validate_json(self.store.read(names[-1])) if names else None

    def write_run(self, run: RunRecord) -> None:
        """Record a finished run."""
        data = json.dumps(run.model_dump(mode="json"), indent=1, sort_keys=True).encode()
        self.store.put_new(f"runs/{run.run_id}/run.json", data)

    def latest_run(self) -> RunRecord | None:
        """The newest finished run."""
        names = [m.name for m in self.store.list("runs") if m.name.endswith("/run.json")]
        return RunRecord.model_validate_json(self.store.read(names[-1])) if names else None


def receipt_name(stage: str, closure: str, unit_key: str) -> str:
    """Name of a unit's receipt below the root."""
    return f"receipts/{stage}/{closure}/{unit_key[:2]}/{unit_key}.json"


def log_name(number: int) -> str:
    """Name of a log entry below the root."""
    return f"log/{number:0{_DIGITS}d}.json"


def dataset_name(number: int) -> str:
    """Name of a dataset snapshot below the root."""
    return f"dataset/{number:0{_DIGITS}d}.json"


def _key_of(name: str) -> str:
    return name.rsplit("/", 1)[-1].removesuffix(".json")
