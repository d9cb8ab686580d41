"""What a group of stages needs at the same time, and whether a machine or cluster has it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from curation.chain import AnyStage, plan_spans
from schemas.errors import ConfigError

_SHARE_OF_MEMORY = 0.7
"""What Ray gives to workers of a machine's memory; the rest is its object store's and the system's."""


def this_machine() -> dict[str, float]:
    """About what a private Ray would have here, told without starting it; GPUs are not counted without a driver."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "CPU": float(os.cpu_count() or 1),
        "memory": _SHARE_OF_MEMORY * memory,
        "GPU": float(_num_gpus()),
    }


def this_cluster() -> dict[str, float]:
    """What the Ray that this process has joined or started has in all."""
    import ray  # where all is known, a run needs none of it

    return dict(ray.cluster_resources())


def check_fit(groups: Sequence[Sequence[AnyStage]], have: Mapping[str, float]) -> None:
    """Check that one worker of every operator of every group fits at the same time.

    Raises:
        ConfigError: The cluster is too small; Ray Data would wait forever.
    """
    for group in groups:
        heads = [group[start] for start, _ in plan_spans(group)]
        for kind, need in (
            ("CPU", sum(h.resources.num_cpus for h in heads)),
            ("GPU", sum(h.resources.num_gpus for h in heads)),
            ("memory", float(sum(h.resources.memory_bytes for h in heads))),
        ):
            if need > have.get(kind, 0.0) + 1e-9:
                raise ConfigError(
                    f"stages {[s.name for s in group]} need {need:g} {kind} at once, the cluster "
                    f"has {have.get(kind, 0.0):g}: add nodes, or lower the stages' resources"
                )


def _num_gpus() -> int:
    """NVIDIA devices, as their driver shows them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([d for d in visible.split(",") if d.strip() not in {"", "-1"}])
    try:
        return sum(1 for _ in Path("/proc/driver/nvidia/gpus").iterdir())
    except FileNotFoundError:
        return 0
