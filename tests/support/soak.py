"""A long run of short clips while workers are killed, with the memory of all its processes over time."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib
import psutil

from curation.recipe import RunConfig
from curation.root.store import Store
from curation.upkeep.verify import verify
from schemas.outcome import Outcome
from tests.support.chaos import workers_of
from tests.unit.curation.toy_runs import decisions_of, facts, request

matplotlib.use("Agg")
from matplotlib import pyplot as plt


@dataclass
class Watch:
    """Kills a worker now and then and notes how much memory everything takes."""

    store: Store
    kill_every_s: float
    seed: int = 0
    sample_every_s: float = 2.0
    times_s: list[float] = field(default_factory=list)
    driver_mb: list[float] = field(default_factory=list)
    workers_mb: list[float] = field(default_factory=list)
    kills_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        self._begun = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        choose, next_kill = random.Random(self.seed), self.kill_every_s
        while not self._stop.wait(self.sample_every_s):
            now = time.monotonic() - self._begun
            workers = workers_of(self.store)
            self.times_s.append(now)
            self.driver_mb.append(_unique_mb(os.getpid()))
            self.workers_mb.append(sum(_unique_mb(pid) for pid in workers))
            if self.kill_every_s and now >= next_kill and workers:
                os.kill(choose.choice(workers), signal.SIGKILL)
                self.kills_s.append(now)
                next_kill = now + self.kill_every_s


def _unique_mb(pid: int) -> float:
    """Memory that only this process holds: shared objects of the store are not counted twice."""
    try:
        return psutil.Process(pid).memory_full_info().uss / 1e6
    except psutil.Error:
        return 0.0


@dataclass(frozen=True)
class SoakResult:
    """What the soak found."""

    num_sources: int
    num_clips: int
    seconds: float
    num_kills: int
    outcomes: dict[str, dict[str, int]]
    num_problems: int
    is_equal: bool | None
    """To an undisturbed run; None if there was none."""
    driver_mb: tuple[float, float]
    """Driver's memory: mean of the second and of the last quarter of the run."""
    peak_workers_mb: float


def soak(
    sources: str,
    root: Path,
    kill_every_s: float,
    config: RunConfig,
    clips_each: int,
    plot: Path | None,
) -> SoakResult:
    """Run to the end while workers are killed; raises if the books do not balance."""
    asked = request(sources, root, config, shards=True, segment={"num_clips": clips_each})
    begun = time.monotonic()
    with Watch(asked.store, kill_every_s) as watch:
        record = asked.run()
    seconds = time.monotonic() - begun
    decisions = decisions_of(asked.store, record)
    counts: dict[str, Counter[str]] = {}
    for d in decisions:
        counts.setdefault(d.stage, Counter())[str(d.outcome)] += 1
    if plot:
        draw(watch, plot)
    quarter = max(1, len(watch.driver_mb) // 4)
    return SoakResult(
        num_sources=len(asked.sources.rows),
        num_clips=sum(
            d.num_emitted for d in decisions if d.stage == "segment" and d.outcome is Outcome.KEPT
        ),
        seconds=seconds,
        num_kills=len(watch.kills_s),
        outcomes={stage: dict(count) for stage, count in counts.items()},
        num_problems=len(verify(asked.store).problems),
        is_equal=None,
        driver_mb=(
            _mean(watch.driver_mb[quarter : 2 * quarter]),
            _mean(watch.driver_mb[-quarter:]),
        ),
        peak_workers_mb=max(watch.workers_mb, default=0.0),
    )


def equal_to_undisturbed(
    sources: str, root: Path, other: Path, config: RunConfig, clips_each: int
) -> bool:
    """Run once more elsewhere, without kills, and compare rows, fates and shards."""
    request(sources, other, config, shards=True, segment={"num_clips": clips_each}).run()
    return facts(Store(str(root))) == facts(Store(str(other)))


def draw(watch: Watch, path: Path) -> None:
    """Memory over time, with a tick for every kill."""
    figure, axes = plt.subplots(figsize=(10, 4.5), layout="constrained")
    axes.plot(watch.times_s, watch.driver_mb, label="driver")
    axes.plot(watch.times_s, watch.workers_mb, label="workers, together", alpha=0.8)
    low = axes.get_ylim()[0]
    axes.plot(
        watch.kills_s,
        [low] * len(watch.kills_s),
        "|",
        color="crimson",
        ms=12,
        label="worker killed",
    )
    axes.set(xlabel="seconds", ylabel="unique memory, MB", title="Memory while workers are killed")
    axes.legend(loc="upper left")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0
