"""The checks of a run, made before it and without writing: its output root, its stages, its workers."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

from curation.planning.estimates import Estimate
from curation.resources import check_fit, this_machine
from curation.root.store import Store
from curation.run import Curation
from schemas.base import Model
from schemas.errors import HandloomError
from schemas.manifest import ROOT_MARKER


class Check(Model):
    """One check and what it found."""

    name: str
    is_ok: bool
    detail: str


@dataclass(frozen=True)
class Machine:
    """What workers would run on: this machine, or the cluster that the environment names."""

    name: str
    have: Mapping[str, float]
    """Amounts by Ray's names (``CPU``, ``GPU``, ``memory`` in bytes); empty if it cannot be reached."""
    problem: str = ""

    @property
    def num_cpus(self) -> int:
        """At least one."""
        return max(1, int(self.have.get("CPU", 0)))

    @staticmethod
    def find() -> Machine:
        """Ask the cluster of ``RAY_ADDRESS``, if there is one; Ray is not started for this machine."""
        address = os.environ.get("RAY_ADDRESS", "")
        if not address:
            return Machine("this machine", this_machine())
        import ray

        from curation.cluster import start_ray

        name = f"the cluster at {address}"
        try:
            start_ray()
            return Machine(name, ray.cluster_resources())
        except HandloomError as error:
            return Machine(name, {}, str(error))


def check_all(curation: Curation, written: Estimate | None, machine: Machine) -> tuple[Check, ...]:
    """All checks, those that hold too.

    Args:
        curation: The request; it was built, so that its stages have their weights and programs.
        written: Bytes that the run will write, if anything is known of it.
        machine: Where it would run.
    """
    stages = f"all {len(curation.chain.stages)} have what they need on this machine"
    return (
        _check_root(curation.store, written),
        Check(name="stages", is_ok=True, detail=stages),
        _check_workers(curation, machine),
    )


def _check_root(store: Store, written: Estimate | None) -> Check:
    name = "output root"
    if store.local_root is None:
        is_there = store.exists(ROOT_MARKER)
        detail = "a root of earlier runs" if is_there else "empty; writing is tried by the run only"
        return Check(name=name, is_ok=True, detail=f"can be read: {detail}")
    place = next(p for p in (store.local_root, *store.local_root.parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=place):  # has no name where the system can do so
            pass
    except OSError as error:
        return Check(name=name, is_ok=False, detail=f"{place} cannot be written: {error}")
    free = shutil.disk_usage(place).free
    needed = (written.high or written.value) if written else 0.0
    detail = f"{free / 1e9:.1f} GB free on its disk"
    if needed > free:
        return Check(name=name, is_ok=False, detail=f"{detail}, {needed / 1e9:.1f} needed")
    return Check(name=name, is_ok=True, detail=f"can be written, {detail}")


def _check_workers(curation: Curation, machine: Machine) -> Check:
    name, have = "workers", machine.have
    if machine.problem:
        return Check(name=name, is_ok=False, detail=machine.problem)
    try:
        check_fit(curation.chain.groups(), have)
    except HandloomError as error:
        return Check(name=name, is_ok=False, detail=str(error))
    told = ", ".join(
        (
            f"{have.get('CPU', 0):g} CPUs",
            f"{have.get('memory', 0) / 1e9:.0f} GB",
            f"{have.get('GPU', 0):g} GPUs",
        )
    )
    return Check(name=name, is_ok=True, detail=f"every group fits {machine.name}: {told}")
