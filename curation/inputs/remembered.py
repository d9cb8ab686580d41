"""What a root remembers of the objects it has read: (address, state) -> content, so that none is read twice for its name.

A state is what a store says of an object without reading it: a bucket's entity tag and size, a file's times, inode and
size. It is a fact of that address alone; nothing computed depends on it, and what is worked on is hashed again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from pydantic import Field

from curation.root.store import Store
from curation.root.tables import models_from_parquet, models_to_parquet
from schemas.base import Model
from schemas.errors import HandloomError

FOLDER = "identities"
_SETTLED_NS = 2_000_000_000
"""A file that was written just before it was hashed could be written again within the clock's step."""


class Identity(Model):
    """One object as it was when it was hashed."""

    uri: str
    state: str
    num_bytes: int = Field(ge=0)
    content_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


Known = Mapping[tuple[str, str], Identity]


def file_state(status: os.stat_result) -> str:
    """The state of a file. The time of its inode's change cannot be set back, as that of its content can."""
    return f"{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_dev}-{status.st_ino}-{status.st_size}"


def is_settled(state: str, now_ns: int) -> bool:
    """Whether a file's state is old enough that a later change must show in it; always for a bucket's tag.

    >>> is_settled("1000-1000-1-2-3", 1500), is_settled("etag", 0)
    (False, True)
    """
    times = state.split("-")[:2]
    if len(times) < 2 or not all(t.isdigit() for t in times):
        return True
    return max(map(int, times)) < now_ns - _SETTLED_NS


def recall(store: Store) -> dict[tuple[str, str], Identity]:
    """Everything that a root remembers; a damaged list is as good as none, its objects are hashed again."""
    known: dict[tuple[str, str], Identity] = {}
    for meta in store.list(FOLDER):
        try:
            rows = models_from_parquet(store.read(meta.name), Identity)
        except (HandloomError, OSError, ValueError):
            continue
        known |= {(row.uri, row.state): row for row in rows}
    return known


def remember(store: Store, run_id: str, fresh: Sequence[Identity]) -> None:
    """Add what was learnt to the root."""
    if fresh:
        data = models_to_parquet(sorted(fresh, key=lambda i: i.uri), Identity)
        store.put_new(f"{FOLDER}/{run_id}.parquet", data)
