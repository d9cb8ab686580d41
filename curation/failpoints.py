"""Named places where a test can make a run die: the list of what may be interrupted.

    HANDLOOM_FAILPOINT=name:action[:nth]     at the nth time (per process, default 1) that name is passed
    HANDLOOM_FAILPOINT_LATCH=path            fire once over all processes: whoever creates the file first;
                                             ``kill-worker`` writes into it whether there was one

Actions: ``kill`` SIGKILLs the process that passes the point, ``kill-driver`` the run's driver,
``kill-worker`` one live worker of the run on this machine, ``fail`` raises a TransientError. Without the
variable a point costs one look-up in the environment.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from schemas.errors import ConfigError, TransientError

POINTS = {
    "worker.attempt.marked": "a row's attempt is counted, its stage has not begun",
    "worker.blob.before": "a stage has a file, nothing of it is in the root",
    "worker.blob.after": "a stage's file is in the root, no receipt names it",
    "worker.receipt.before": "a unit is computed, its files are stored, its receipt is not",
    "worker.receipt.after": "a unit's receipt is stored, the driver does not know",
    "worker.row.done": "a row leaves a worker with all its receipts",
    "driver.begin": "the lease is held, known results are loaded",
    "driver.row": "the driver has a row's results, not committed",
    "driver.commit.before": "results wait, their Parquet file is not written",
    "driver.commit.blob": "the results' Parquet file is written, no log entry names it",
    "driver.commit.logged": "the log entry is written",
    "driver.group.done": "a group of stages is committed",
    "driver.snapshot.before": "all shards are written, no snapshot names them",
    "driver.snapshot.manifest": "the snapshot is there, the log does not mention it",
    "driver.snapshot.logged": "the snapshot is published and logged",
    "driver.run.rows": "the run's rows and decisions are stored, no record names them",
    "driver.run.logged": "the log mentions the run, its record is not there",
    "driver.run.record": "the run's record is there",
    "driver.report.partial": "some of the report's files are stored, report.json is not",
}
ACTIONS = ("kill", "kill-driver", "kill-worker", "fail")
_SPEC, _LATCH, _DRIVER = "HANDLOOM_FAILPOINT", "HANDLOOM_FAILPOINT_LATCH", "HANDLOOM_FAILPOINT_PIDS"
_passed: Counter[str] = Counter()


def hit(name: str) -> None:
    """Pass a failpoint."""
    spec = os.environ.get(_SPEC)
    if spec is not None:
        _maybe_fire(name, spec)


def check() -> None:
    """Refuse a misspelt failpoint, which would make a crash test pass for nothing.

    Raises:
        ConfigError: Unknown name or action, or a count that is no number above 0.
    """
    spec = os.environ.get(_SPEC)
    if spec is not None:
        _parse(spec)


def export(run_id: str) -> dict[str, str]:
    """What workers of a run need to know: empty unless a failpoint is set."""
    if _SPEC not in os.environ:
        return {}
    os.environ[_DRIVER] = f"{os.getpid()}/{run_id}"
    return {k: os.environ[k] for k in (_SPEC, _LATCH, _DRIVER) if k in os.environ}


def adopt(exported: Mapping[str, str]) -> None:
    """Take over the driver's failpoint in a worker."""
    os.environ.update(exported)


def _parse(spec: str) -> tuple[str, str, int]:
    name, _, rest = spec.partition(":")
    action, _, nth = rest.partition(":")
    count = int(nth) if nth.isdigit() else 1 if not nth else 0
    if name not in POINTS or action not in ACTIONS or count < 1:
        raise ConfigError(
            f"{_SPEC}={spec!r}: expected name:action[:nth] with a name of {sorted(POINTS)} and an "
            f"action of {ACTIONS}"
        )
    return name, action, count


def _maybe_fire(name: str, spec: str) -> None:
    wanted, action, nth = _parse(spec)
    if name != wanted:
        return
    _passed[name] += 1
    if _passed[name] != nth or not _first():
        return
    driver, _, run_id = os.environ.get(_DRIVER, "").partition("/")
    if action == "fail":
        raise TransientError(f"failpoint {name}")
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "kill-driver":
        os.kill(int(driver or os.getpid()), signal.SIGKILL)
        time.sleep(60)  # our own end follows the driver's
    else:
        _kill_worker(run_id)


def _kill_worker(run_id: str) -> None:
    from curation.scratch import live_workers

    victims = live_workers(run_id)[:1]
    if latch := os.environ.get(_LATCH):
        Path(latch).write_text(f"{len(victims)} workers")
    for pid in victims:
        os.kill(pid, signal.SIGKILL)


def _first() -> bool:
    latch = os.environ.get(_LATCH)
    if latch is None:
        return True
    try:
        Path(latch).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
