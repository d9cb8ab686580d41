"""Handloom from Python: curate videos, read what a root holds, sample a checkpoint.

    root = handloom.open("my-root")        # a folder or s3://bucket/prefix
    for clip in root.clips(): ...          # every clip of a run, with what each stage found
    sample = root.samples()[0]             # what a trainer reads: latents, features, boxes, scores
    shown = root.decode(sample)            # frames (T,H,W,3) u8, the structure stream, sound
    print(root.report().verdict)

What is used from here keeps its meaning between versions; modules below ``curation``, ``stages``, ``model``,
``schemas`` and ``jobs`` may change. ``docs/python.md`` has all of it. Importing this loads neither torch nor
Ray, nor anything else that takes time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from handloom.root import Root
from handloom.root import open_root as open  # noqa: A004 -- handloom.open(root), as one opens a file
from handloom.work import curate, sample, write_mp4

if TYPE_CHECKING:
    from handloom.decoding import Decoded
    from handloom.samples import Samples
    from model.sample_types import SampleResult
    from schemas.errors import ConfigError, DataError, HandloomError
    from schemas.report import RunReport
    from schemas.rows import Clip
    from schemas.sample import Sample
    from schemas.sample import Tensor as StoredTensor

__all__ = [
    "Clip",
    "ConfigError",
    "DataError",
    "Decoded",
    "HandloomError",
    "Root",
    "RunReport",
    "Sample",
    "SampleResult",
    "Samples",
    "StoredTensor",
    "curate",
    "open",
    "sample",
    "write_mp4",
]

_HOMES = {
    "Clip": "schemas.rows",
    "ConfigError": "schemas.errors",
    "DataError": "schemas.errors",
    "Decoded": "handloom.decoding",
    "HandloomError": "schemas.errors",
    "RunReport": "schemas.report",
    "Sample": "schemas.sample",
    "SampleResult": "model.sample_types",
    "Samples": "handloom.samples",
    "StoredTensor": "schemas.sample",
}
"""Types that are imported when they are asked for: their models take half a second to build."""


def __getattr__(name: str) -> Any:
    """Import a type at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'handloom' has no attribute {name!r}")
    own = "Tensor" if name == "StoredTensor" else name
    return getattr(importlib.import_module(_HOMES[name]), own)
