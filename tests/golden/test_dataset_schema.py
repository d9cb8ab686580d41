"""The shard schema is a contract: changing it is a decision, not an accident."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pyarrow as pa

from schemas.sample import Sample
from schemas.shard_columns import SAMPLE_SCHEMA, SCHEMA_VERSION, schema_text
from stages.packing.shards import ShardsStage

GOLDEN = Path(__file__).with_name("dataset_schema.txt")
DOCS = Path(__file__).parents[2] / "docs" / "dataset.md"


def test_schema_is_the_golden_one(update_golden: bool) -> None:
    if update_golden:
        GOLDEN.write_text(schema_text())
    assert schema_text() == GOLDEN.read_text(), (
        "the shard schema changed: raise SCHEMA_VERSION if old readers would misread it and "
        "ShardsStage.version in any case, then run pytest --update-golden"
    )


def test_a_new_schema_is_a_new_version_of_the_stage() -> None:
    """Else an old root would publish the shards that it remembers as if they were of the new schema."""
    assert (SCHEMA_VERSION, ShardsStage.version) == ("3", 4), "raise both, and this line"


def test_no_column_is_of_a_type_that_a_common_reader_lacks() -> None:
    def kinds(kind: pa.DataType) -> set[int]:
        return {kind.id}.union(*(kinds(kind.field(i).type) for i in range(kind.num_fields)))

    found = set().union(*(kinds(field.type) for field in SAMPLE_SCHEMA))
    plain = {pa.string(), pa.binary(), pa.int32(), pa.float32(), pa.float64()}
    assert found <= {k.id for k in plain} | {pa.list_(pa.string()).id, pa.struct([]).id}


def test_model_and_schema_have_the_same_columns_in_the_same_order() -> None:
    assert list(Sample.model_fields) == SAMPLE_SCHEMA.names
    optional = {
        name
        for name, field in Sample.model_fields.items()
        if type(None) in get_args(field.annotation)
    }
    assert optional == {f.name for f in SAMPLE_SCHEMA if f.nullable}


def test_docs_describe_every_column() -> None:
    text = DOCS.read_text()
    assert [name for name in SAMPLE_SCHEMA.names if f"`{name}`" not in text] == []
