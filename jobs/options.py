"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import ConfigError

if TYPE_CHECKING:  # pydantic and pyarrow wait until a store is opened
    from curation.root.store import Store, StoreOptions
    from schemas.manifest import RunRecord

_RECIPES = Path(__file__).resolve().parent / "recipes"
CURATE_RECIPES, TRAIN_RECIPES = _RECIPES / "curate", _RECIPES / "train"
"""Folders of the recipes that can be called by name."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Root = Annotated[str, typer.Argument(help="Output root: a folder or s3://, gs://, az:// address.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change one recipe setting; may be repeated."),
]
Run = Annotated[str, typer.Option("--run", help="A run's id (handloom runs); default: the newest.")]
Endpoint = Annotated[
    str | None, typer.Option("--endpoint-url", help="Endpoint of an S3-compatible store.")
]
Region = Annotated[str | None, typer.Option("--region", help="Region of the store.")]
Anon = Annotated[bool, typer.Option("--anon", help="Access the store without credentials.")]


def store_options(endpoint: str | None, region: str | None, anonymous: bool) -> StoreOptions:
    """Bundle the store options."""
    from curation.root.store import StoreOptions

    return StoreOptions(endpoint_url=endpoint, region=region, anonymous=anonymous)


def open_store(root: str, access: StoreOptions) -> Store:
    """Open an existing output root; creates nothing.

    Raises:
        ConfigError: It is none.
    """
    from curation.root.store import Store, redact
    from schemas.manifest import ROOT_MARKER

    store = Store(root, access)
    if not store.exists(ROOT_MARKER):
        raise ConfigError(
            f"{redact(root)} is not a Handloom root; make one with: handloom curate SRC --out "
            f"{redact(root)}"
        )
    return store


def open_root(root: str, access: StoreOptions) -> tuple[Store, RunRecord]:
    """Open an existing output root and its latest run.

    Raises:
        ConfigError: It is no root, or no run has finished in it.
        InvariantError: Its history is not whole.
    """
    from curation.root.ledger import Ledger

    store = open_store(root, access)
    ledger = Ledger(store)
    ledger.check_history()
    record = ledger.latest_run()
    if record is None:
        raise ConfigError(f"{root} has no finished run yet; run handloom curate into it again")
    return store, record


def open_run(root: str, access: StoreOptions, run_id: str = "") -> tuple[Store, RunRecord]:
    """Open an existing output root and one of its finished runs, the newest by default.

    Raises:
        ConfigError: It is no root, or has no such run.
    """
    from curation.root.ledger import Ledger
    from curation.root.store import redact

    store, newest = open_root(root, access)
    if not run_id:
        return store, newest
    runs = {r.run_id: r for r in Ledger(store).runs()}
    if run_id not in runs:
        raise ConfigError(f"{redact(root)} has no finished run {run_id!r}; it has {sorted(runs)}")
    return store, runs[run_id]
