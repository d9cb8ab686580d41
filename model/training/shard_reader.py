"""Reading shards from outside: checked at start, hostile until proven otherwise.

A shard is refused, never repaired: another schema version, a missing or differently typed column, an
extension type, an implausible size, or a content that differs from its name all end the run with a message.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.base import ID_PATTERN
from schemas.errors import ConfigError, DataError
from schemas.facets import ChannelStatistics
from schemas.manifest import DatasetManifest, ShardEntry
from schemas.sample import Sample, sample_from_record
from schemas.shard_columns import METADATA_VERSION_KEY, SAMPLE_SCHEMA, SCHEMA_VERSION

MAX_ROWS_PER_SHARD = 1_000_000
MAX_ROW_GROUP_BYTES = 4 << 30
MAX_FOOTER_BYTES = 64 << 20
_SCAN_COLUMNS = (
    "clip_id",
    "source_id",
    "picture_hash",
    "rgb_statistics",
    "hoi_statistics",
    "codec",
    "text_encoder",
    "audio_encoder",
    "width_px",
    "height_px",
    "rgb_latent.shape",
    "rgb_motion_latent.shape",
    "text_features.shape",
    "hoi_text_features.shape",
    "audio_features.shape",
)


@dataclass(frozen=True, slots=True)
class SampleIndex:
    """Where a sample lies and what shape it has, without its tensors.

    Shapes are those of the sample schema; None where the tensor is absent.
    """

    shard: int
    row_group: int
    row: int
    clip_id: str
    source_id: str
    picture_hash: str | None
    rgb_statistics: ChannelStatistics
    hoi_statistics: ChannelStatistics
    codec: str
    text_encoder: str
    audio_encoder: str
    size_px: tuple[int, int]
    rgb_shape: tuple[int, ...]
    motion_shape: tuple[int, ...] | None
    text_shape: tuple[int, ...]
    hoi_text_shape: tuple[int, ...]
    audio_shape: tuple[int, ...] | None


def shard_paths(source: Path | Sequence[Path]) -> list[Path]:
    """Resolve a dataset to its shard files.

    Args:
        source: An output root (its latest snapshot is read), a snapshot's json, or a list of shards.

    Raises:
        ConfigError: There is none, or a snapshot of another schema version.
    """
    if not isinstance(source, Path):
        paths = list(source)
        if not paths:
            raise ConfigError("the list of shards is empty: curate some clips first")
        return _existing(paths)
    if source.is_dir():
        snapshots = sorted((source / "dataset").glob("*.json"))
        if not snapshots:
            raise ConfigError(
                f"{source} has no dataset snapshot: run `handloom curate ... --out {source}` until it "
                "publishes shards"
            )
        source = snapshots[-1]
    manifest = read_manifest(source)
    root = source.parent.parent
    paths = _existing([root / entry.file.name for entry in manifest.shards])
    for path, entry in zip(paths, manifest.shards, strict=True):
        check_clip_ids(path, entry)
    return paths


def check_clip_ids(path: Path, entry: ShardEntry) -> None:
    """Refuse a shard that holds other clips than its snapshot says.

    Raises:
        ConfigError: Ids are missing, foreign or there twice.
    """
    with _open(path) as file:
        if "clip_id" not in file.schema_arrow.names:
            return  # no shard at all: check_shard says what is wrong
        found = Counter(file.read(columns=["clip_id"], use_threads=False)["clip_id"].to_pylist())
    wrong = sorted(map(str, (found - Counter(entry.clip_ids)) + (Counter(entry.clip_ids) - found)))
    if wrong:
        raise ConfigError(
            f"{path} does not hold the clips that the snapshot names, {len(wrong)} differ, first {wrong[0]!r}: "
            "run `handloom verify`"
        )


def read_manifest(path: Path) -> DatasetManifest:
    """Read a snapshot.

    Raises:
        ConfigError: Not there, not a snapshot, or of another schema version.
    """
    try:
        manifest = DatasetManifest.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ConfigError(f"no dataset snapshot {path}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not a dataset snapshot: {error}") from error
    check_snapshot(manifest, str(path))
    return manifest


def check_snapshot(manifest: DatasetManifest, where: str) -> None:
    """Refuse a snapshot whose samples have other columns than this version reads.

    Raises:
        ConfigError: It is of another schema version.
    """
    if manifest.schema_version != SCHEMA_VERSION:
        raise ConfigError(f"{where} has samples of {_other_version(manifest.schema_version)}")


def _other_version(found: str) -> str:
    return (
        f"schema version {found}, this Handloom reads {SCHEMA_VERSION}: curate again with this version "
        "(what did not change is not computed again), or train with the one that wrote it"
    )


def _existing(paths: Sequence[Path]) -> list[Path]:
    missing = [str(p) for p in paths if not p.is_file()]
    if missing:
        raise ConfigError(f"{len(missing)} shards are missing, first {missing[0]}")
    return list(paths)


class ShardReader:
    """Random access to the samples of checked shards.

    Args:
        paths: Shard files.
        verify_names: Check that a content-named file has the sha256 of its name.

    Raises:
        ConfigError: A shard does not keep the contract; see the module's text.
    """

    def __init__(self, paths: Sequence[Path], *, verify_names: bool = True) -> None:
        self.paths = tuple(paths)
        for path in self.paths:
            check_shard(path, verify_name=verify_names)
        self.index = tuple(entry for n in range(len(paths)) for entry in self._scan(n))
        ids = [entry.clip_id for entry in self.index]
        if len(set(ids)) != len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise ConfigError(f"clip {twice} is in the dataset twice")
        self._cache: OrderedDict[tuple[int, int], pa.Table] = OrderedDict()

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> Sample:
        """Read one sample.

        Raises:
            DataError: ``sample_invalid``: its values break the contract.
        """
        entry = self.index[number]
        record = self._row_group(entry.shard, entry.row_group).slice(entry.row, 1).to_pylist()[0]
        return sample_from_record(record, f"{self.paths[entry.shard].name} row {entry.row}")

    def _row_group(self, shard: int, row_group: int) -> pa.Table:
        key = (shard, row_group)
        if key not in self._cache:
            with _open(self.paths[shard]) as file:
                table = file.read_row_group(row_group, columns=SAMPLE_SCHEMA.names)
            _validate(table, self.paths[shard])
            self._cache[key] = table
            while len(self._cache) > 1:
                self._cache.popitem(last=False)
        return self._cache[key]

    def _scan(self, shard: int) -> list[SampleIndex]:
        entries: list[SampleIndex] = []
        with _open(self.paths[shard]) as file:
            for row_group in range(file.num_row_groups):
                table = file.read_row_group(row_group, columns=list(_SCAN_COLUMNS))
                _validate(table, self.paths[shard])
                entries += [
                    _index_entry(record, shard, row_group, row)
                    for row, record in enumerate(table.to_pylist())
                ]
        return entries


def _index_entry(record: dict[str, Any], shard: int, row_group: int, row: int) -> SampleIndex:
    def shape(name: str) -> tuple[int, ...] | None:
        value = record[name]
        return tuple(value["shape"]) if value is not None and value["shape"] is not None else None

    def required(name: str) -> tuple[int, ...]:
        value = shape(name)
        if value is None:
            raise DataError("sample_invalid", f"clip {record['clip_id']}: {name} is null")
        return value

    def statistics(name: str) -> ChannelStatistics:
        try:
            return ChannelStatistics.model_validate(record[name])
        except ValueError as error:
            raise DataError(
                "sample_invalid", f"clip {record['clip_id']}: {name}: {error}"
            ) from error

    if not re.fullmatch(ID_PATTERN, record["clip_id"] or ""):
        raise DataError("sample_invalid", f"{record['clip_id']!r} is no clip id")
    return SampleIndex(
        shard,
        row_group,
        row,
        record["clip_id"],
        record["source_id"],
        record["picture_hash"],
        statistics("rgb_statistics"),
        statistics("hoi_statistics"),
        record["codec"],
        record["text_encoder"],
        record["audio_encoder"],
        (record["height_px"], record["width_px"]),
        required("rgb_latent"),
        shape("rgb_motion_latent"),
        required("text_features"),
        required("hoi_text_features"),
        shape("audio_features"),
    )


def check_shard(path: Path, *, verify_name: bool = True) -> None:
    """Refuse a file that is not a shard of this version.

    Raises:
        ConfigError: With what was found and what was expected.
    """
    if verify_name:
        _check_name(path)
    with _open(path) as file:
        _check_schema(file.schema_arrow, path)
        _check_sizes(file.metadata, path)


def _check_name(path: Path) -> None:
    if len(path.stem) != 64:
        return
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    if digest != path.stem:
        raise ConfigError(
            f"{path} is damaged: its content has sha256 {digest}; run `handloom verify`"
        )


def _check_schema(schema: pa.Schema, path: Path) -> None:
    version = (schema.metadata or {}).get(METADATA_VERSION_KEY, b"none").decode(errors="replace")
    if version != SCHEMA_VERSION:
        raise ConfigError(f"{path} has samples of {_other_version(version)}")
    wanted = {f.name: (f.type, f.nullable) for f in SAMPLE_SCHEMA}
    found = {f.name: (f.type, f.nullable) for f in schema}
    missing, foreign = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    wrong = [n for n in wanted if n in found and found[n] != wanted[n]]
    if missing or foreign or wrong or len(found) != len(schema):
        detail = "; ".join(f"{n} is {found[n][0]}, expected {wanted[n][0]}" for n in wrong)
        raise ConfigError(
            f"{path} does not keep the sample schema: missing columns {missing}, unknown columns "
            f"{foreign}, wrong types [{detail}]"
        )


def _check_sizes(metadata: pq.FileMetaData, path: Path) -> None:
    groups = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    largest = max(groups, default=0)
    if not 0 < metadata.num_rows <= MAX_ROWS_PER_SHARD or largest > MAX_ROW_GROUP_BYTES:
        raise ConfigError(
            f"{path} claims {metadata.num_rows} rows and a row group of {largest} bytes; a shard has 1 to "
            f"{MAX_ROWS_PER_SHARD} rows and at most {MAX_ROW_GROUP_BYTES} bytes per group"
        )


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(
            path,
            memory_map=True,
            thrift_string_size_limit=MAX_FOOTER_BYTES,
            thrift_container_size_limit=MAX_FOOTER_BYTES,
        )
    except (pa.ArrowException, OSError) as error:
        raise ConfigError(f"{path} is not a readable Parquet file: {error}") from error


def _validate(table: pa.Table, path: Path) -> None:
    try:
        table.validate(full=True)
    except pa.ArrowException as error:
        raise DataError("sample_invalid", f"{path}: {error}") from error
