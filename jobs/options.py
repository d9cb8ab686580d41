"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curation.storage import Store, StoreOptions, is_remote
from schemas.errors import ConfigError
from schemas.manifest import RunRecord

RECIPES = Path(__file__).resolve().parent / "recipes"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Root = Annotated[str, typer.Argument(help="Output root: a folder or s3://, gs://, az:// address.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Change one recipe setting; may be repeated."),
]
Endpoint = Annotated[
    str | None, typer.Option("--endpoint-url", help="Endpoint of an S3-compatible store.")
]
Region = Annotated[str | None, typer.Option("--region", help="Region of the store.")]
Anon = Annotated[bool, typer.Option("--anon", help="Access the store without credentials.")]


def store_options(endpoint: str | None, region: str | None, anonymous: bool) -> StoreOptions:
    """Bundle the store options."""
    return StoreOptions(endpoint_url=endpoint, region=region, anonymous=anonymous)


def open_root(root: str, access: StoreOptions) -> tuple[Store, RunRecord]:
    """Open an existing output root and its latest run.

    Raises:
        ConfigError: It is no root, or no run has finished in it.
    """
    from curation.ledger import Ledger

    if not is_remote(root) and not (Path(root) / "_format.json").is_file():
        raise ConfigError(
            f"{root} is not a Handloom root; make one with: handloom curate SRC --out {root}"
        )
    store = Store(root, access)
    record = Ledger(store).latest_run()
    if record is None:
        raise ConfigError(f"{root} has no finished run yet; run handloom curate into it again")
    return store, record
