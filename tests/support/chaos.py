"""Runs that are killed and run again: the crash matrix, and kills at random times.

Every run is a process of its own on one shared Ray cluster. What counts as equal is in ``toy_runs.facts``:
the rows, every row's fate, and the shards by content.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ray

from curation import failpoints
from curation.root.leases import FOLDER as LEASES
from curation.root.store import Store
from curation.scratch import live_workers
from curation.upkeep.vacuum import vacuum
from curation.upkeep.verify import verify
from tests.chaos.driver import Settings, run
from tests.unit.curation.toy_runs import facts

REPO = Path(__file__).resolve().parents[2]
TEXTS = {
    "a.txt": "hello", "b.txt": "bad one", "c.txt": "short", "d.txt": "crash now",
    "e.txt": "a longer text", "f.txt": "hello", "g.txt": "and one more",
}  # fmt: skip
_LIMIT_S = 240


@dataclass(frozen=True)
class Cell:
    """One disturbance: who dies where."""

    point: str
    victim: str

    @property
    def action(self) -> str:
        """What the failpoint has to do to kill the victim from where it is."""
        is_own = self.point.startswith(self.victim)
        return "kill" if is_own else f"kill-{self.victim}"


def all_cells() -> list[Cell]:
    """Every failpoint, with the worker and with the driver as the victim."""
    return [Cell(point, victim) for point in failpoints.POINTS for victim in ("worker", "driver")]


@dataclass(frozen=True)
class CellResult:
    """What became of it."""

    cell: Cell
    has_fired: bool
    num_killed: int
    num_calls_again: int
    is_equal: bool
    num_duplicates: int
    num_missing: int
    num_problems: int
    seconds: float

    @property
    def is_ok(self) -> bool:
        """True if somebody died (or nobody was there to die) and nothing shows of it."""
        return (
            self.has_fired
            and self.is_equal
            and self.num_duplicates == self.num_missing == self.num_problems == 0
        )


def run_cell(cell: Cell, sources: str, root: str, reference: dict, scratch: Path) -> CellResult:
    """Run with a failpoint, run again without, compare with an undisturbed run."""
    begun = time.monotonic()
    latch = scratch / f"latch-{time.time_ns()}"
    spec = {
        "HANDLOOM_FAILPOINT": f"{cell.point}:{cell.action}",
        "HANDLOOM_FAILPOINT_LATCH": str(latch),
    }
    first = start_driver(sources, root, Settings(), spec)
    output, _ = first.communicate(timeout=_LIMIT_S)
    must_die = cell.victim == "driver"
    if must_die != (first.returncode == -signal.SIGKILL):
        raise AssertionError(f"{cell}: the driver ended with {first.returncode}:\n{output[-3000:]}")
    store = Store(root)
    again = run(sources, root, Settings())
    found = facts(store)
    vacuum(store, apply=True, min_age_h=0)
    ids = set(reference["clip_ids"])
    latch_text = latch.read_text() if latch.exists() else ""
    return CellResult(
        cell=cell,
        has_fired=latch.exists(),
        num_killed=int(latch_text.split()[0]) if latch_text else 1,
        num_calls_again=sum(again.num_stage_calls.values()),
        is_equal=found == reference,
        num_duplicates=found["num_duplicates"]
        + len(found["clip_ids"])
        - len(set(found["clip_ids"])),
        num_missing=len(ids - set(found["clip_ids"])),
        num_problems=len(verify(store).problems) + num_orphans(store),
        seconds=time.monotonic() - begun,
    )


def num_orphans(store: Store) -> int:
    """Objects that nothing refers to."""
    return len(vacuum(store, apply=False, min_age_h=0).garbage)


def start_driver(
    sources: str, root: str, settings: Settings, env: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a run as a process of its own on this process's Ray cluster."""
    address = ray.get_runtime_context().gcs_address
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.driver", sources, root, settings.model_dump_json()],
        env=os.environ | {"RAY_ADDRESS": address, "PYTHONPATH": str(REPO)} | (env or {}),
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def workers_of(store: Store) -> list[int]:
    """Pids of the workers of the runs that work on a root: no other run of this machine is harmed."""
    runs = {m.name.split("/")[2] for m in store.list(LEASES)}
    return sorted(pid for run_id in runs for pid in live_workers(run_id))


def kill_at_random(
    sources: str, root: str, settings: Settings, num_kills: int, seed: int = 0
) -> Iterator[str]:
    """Kill drivers and workers at random times on one root; yields each victim's kind.

    A run that ends by itself in between is followed by the next one.
    """
    choose = random.Random(seed)
    store, driver, done = Store(root), None, 0
    try:
        while done < num_kills:
            if driver is None or driver.poll() is not None:
                if driver is not None and driver.returncode not in (0, -signal.SIGKILL):
                    raise AssertionError(f"a driver failed:\n{driver.communicate()[0][-3000:]}")
                driver = start_driver(sources, root, settings)
                _wait_for_lease(store, driver)
            is_worker = choose.random() < 0.5
            if is_worker:
                _wait_for_worker(store, driver)
            time.sleep(choose.uniform(0, 5))
            workers = workers_of(store)
            if driver.poll() is not None or (is_worker and not workers):
                continue
            if is_worker:
                os.kill(choose.choice(workers), signal.SIGKILL)
            else:
                driver.kill()
                driver.wait()
            yield "worker" if is_worker else "driver"
            done += 1
    finally:
        if driver is not None:
            driver.kill()
            driver.wait()


def _wait_for_worker(store: Store, driver: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline and driver.poll() is None and not workers_of(store):
        time.sleep(0.2)


def _wait_for_lease(store: Store, driver: subprocess.Popen[str]) -> None:
    """Wait until the driver is at work: what dies before has touched nothing."""
    before = {m.name for m in store.list(LEASES)}
    deadline = time.monotonic() + _LIMIT_S
    while time.monotonic() < deadline and driver.poll() is None:
        if {m.name for m in store.list(LEASES)} - before:
            return
        time.sleep(0.2)
