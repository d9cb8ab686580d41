"""The shard schema is a contract: changing it is a decision, not an accident."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from schemas.sample import SAMPLE_SCHEMA, Sample, schema_text

GOLDEN = Path(__file__).with_name("dataset_schema.txt")
DOCS = Path(__file__).parents[2] / "docs" / "dataset.md"


def test_schema_is_the_golden_one(update_golden: bool) -> None:
    if update_golden:
        GOLDEN.write_text(schema_text())
    assert schema_text() == GOLDEN.read_text(), (
        "the shard schema changed: raise SCHEMA_VERSION if old readers would misread it, "
        "then run pytest --update-golden"
    )


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
