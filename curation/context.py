"""What all workers of a run share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from curation.nodes import RootProof
from curation.root.store import Store, StoreOptions


@dataclass(frozen=True, slots=True)
class RunContext:
    """What a worker has to know of its run; it travels to Ray's actors.

    Args:
        run_id: Scope of attempt markers and scratch folders.
        store: The output root.
        source_options: How to reach remote sources.
        proof: Shows that a process sees the driver's root.
        closures: Closure fingerprint per stage.
        generations: Units that are done again: how often ``retry`` asked for each.
        max_attempts: A row whose worker died this often is quarantined.
        failpoint: What the driver's environment says about failpoints.
    """

    run_id: str
    store: Store
    source_options: StoreOptions
    proof: RootProof
    closures: Mapping[str, str]
    generations: Mapping[str, int]
    max_attempts: int
    failpoint: Mapping[str, str] = field(default_factory=dict)
