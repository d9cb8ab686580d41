"""A request to curate, checked before anything is begun: what commands, benches and ``handloom.curate`` share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs import options
from jobs.progress import RunProgress

if TYPE_CHECKING:
    from curation.root.store import StoreOptions
    from curation.run import Curation


@dataclass(frozen=True)
class Looks:
    """How sources are looked at: read or only listed, trusting what the root remembers or not, how many."""

    read: bool = True
    rehash: bool = False
    limit: int | None = None


def prepare(
    src: list[str],
    out: str,
    recipe_name: str,
    changes: list[str],
    access: StoreOptions,
    looks: Looks,
) -> Curation:
    """Check the whole request before Ray starts.

    Args:
        src: Addresses of sources.
        out: The output root.
        recipe_name: Name or path.
        changes: ``--set`` changes.
        access: How to reach stores.
        looks: How sources are looked at.

    Raises:
        ConfigError: Anything about it is wrong.
    """
    from curation.chain import build_chain
    from curation.inputs.remembered import recall
    from curation.inputs.sources import list_sources
    from curation.recipe import load_recipe
    from curation.root.store import Store
    from curation.run import Curation
    from curation.stage_list import STAGE_CLASSES
    from schemas.manifest import ROOT_MARKER

    recipe = load_recipe(recipe_name, changes, list(STAGE_CLASSES), options.CURATE_RECIPES)
    chain = build_chain(recipe)
    store = Store(out, access)
    is_root = store.exists(ROOT_MARKER)
    with RunProgress() as progress:
        sources = list_sources(
            src,
            access,
            lambda done, total: progress.step("listing sources", done, total),
            out=out,
            known=recall(store) if is_root and not looks.rehash else {},
            read=looks.read,
            limit=looks.limit,
        )
    return Curation(recipe, chain, sources, store, access)
