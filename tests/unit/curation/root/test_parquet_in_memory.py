"""Arrow never holds a Python buffer: a thread of Arrow's that frees one at the interpreter's end aborts it."""

from __future__ import annotations

import ast
from pathlib import Path

import pyarrow as pa
import pytest

from curation.root.tables import models_from_parquet, models_to_parquet, read_parquet
from schemas.manifest import Retried

REPO = Path(__file__).resolve().parents[4]
LAYERS = ("schemas", "model", "stages", "curation", "jobs")
_ONLY_HERE = {"BufferReader": "curation/root/tables.py"}
_NEVER = {"BytesIO", "py_buffer", "PythonFile", "read_table"}


def risky_calls(source: str, name: str) -> list[str]:
    """Calls of a module that uses pyarrow which give Arrow a Python buffer or its threads a file."""
    tree = ast.parse(source)
    modules = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    modules |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    if not any(m.partition(".")[0] == "pyarrow" for m in modules):
        return []
    called = [
        (n.func.attr if isinstance(n.func, ast.Attribute) else getattr(n.func, "id", ""), n.lineno)
        for n in ast.walk(tree)
        if isinstance(n, ast.Call)
    ]
    return [
        f"{name}:{line} {call}"
        for call, line in called
        if call in _NEVER or (call in _ONLY_HERE and name != _ONLY_HERE[call])
    ]


def test_no_module_gives_arrow_a_python_buffer():
    found = [
        call
        for layer in LAYERS
        for path in sorted((REPO / layer).rglob("*.py"))
        for call in risky_calls(path.read_text(), str(path.relative_to(REPO)))
    ]
    assert found == []


@pytest.mark.parametrize(
    "call",
    [
        "pq.read_table(io.BytesIO(data))",
        "pq.ParquetFile(BytesIO(data))",
        "pq.read_table(path)",
        "pa.BufferReader(data)",
        "pa.py_buffer(data)",
    ],
)
def test_the_search_finds_what_it_is_for(call):
    assert risky_calls(f"import pyarrow.parquet as pq\nx = {call}", "curation/other.py")
    assert not risky_calls(f"x = {call}", "curation/other.py")


def test_a_file_in_memory_is_read_whole_or_by_column():
    rows = [Retried(unit_key=f"{i:02x}") for i in range(20_001)]  # three row groups
    data = models_to_parquet(rows, Retried)
    assert models_from_parquet(data, Retried) == rows
    table = read_parquet(data, ["unit_key"])
    assert table.column_names == ["unit_key"]
    assert table.column("unit_key").to_pylist() == [r.unit_key for r in rows]
    with pytest.raises((pa.ArrowException, OSError)):
        read_parquet(data[:-5])
