"""Models to Parquet and back: fixed writer options, so that equal rows give equal bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from curation.root.store import Store
from schemas.arrow import arrow_schema
from schemas.base import FileRef, Model
from schemas.errors import InvariantError

M = TypeVar("M", bound=Model)


def models_to_parquet(models: Sequence[M], kind: type[M]) -> bytes:
    """Write rows as one Parquet file; the same rows always give the same bytes."""
    table = pa.Table.from_pylist(
        [m.model_dump(mode="json") for m in models], schema=arrow_schema(kind)
    )
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        compression="zstd",
        version="2.6",
        write_statistics=False,
        store_schema=False,
        row_group_size=10_000,
    )
    return sink.getvalue().to_pybytes()


def models_from_parquet(data: bytes, kind: type[M]) -> list[M]:
    """Read what ``models_to_parquet`` wrote, validating every row.

    Columns that an older version did not write take their defaults.
    """
    rows = read_parquet(data).to_pylist()
    return [
        kind.model_validate({key: value for key, value in row.items() if value is not None})
        for row in rows
    ]


def read_models(store: Store, ref: FileRef, kind: type[M]) -> list[M]:
    """Read rows that a root's history refers to.

    Raises:
        InvariantError: The file is missing or damaged.
    """
    try:
        return models_from_parquet(store.read(ref.name), kind)
    except FileNotFoundError as error:
        raise InvariantError(
            f"{store.uri}/{ref.name} is missing, the history refers to it; run handloom verify, restore it"
        ) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvariantError(
            f"{store.uri}/{ref.name} is damaged; run handloom verify, restore it"
        ) from error


def read_parquet(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file that lies in memory, or some of its columns.

    Arrow gets a copy of its own and no thread: a thread of Arrow's that lets go of a Python buffer while the
    interpreter ends aborts the process.

    Raises:
        ArrowException, OSError: It is no Parquet file.
    """
    copy = pa.BufferOutputStream()
    copy.write(data)
    with pq.ParquetFile(pa.BufferReader(copy.getvalue()), pre_buffer=False) as file:
        return file.read(columns=list(columns) if columns else None, use_threads=False)


def put_blob_bytes(store: Store, data: bytes, suffix: str) -> FileRef:
    """Store bytes under their content's name."""
    ref = FileRef(sha256=hashlib.sha256(data).hexdigest(), suffix=suffix, num_bytes=len(data))
    store.put_new(ref.name, data)
    return ref
