"""Who is at work on a root: runs may share it, vacuum must have it alone.

    leases/run/<run_id>/<beat>.json          renewed every minute by the driver
    leases/vacuum/<id>/<beat>.json

Each side writes its own lease first and looks for the other's afterwards, so that of two that start together
at least one sees the other. A lease without a sign of life for ten minutes on the store's clock is
dead; on its own machine it is dead as soon as its process is.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Literal

from curation.root.store import Store
from schemas.errors import ConfigError, HandloomError, InvariantError, TransientError

FOLDER = "leases"
BEAT_S = 60.0
DEAD_AFTER_S = 600.0
Kind = Literal["run", "vacuum"]


class Lease:
    """One holder's lease, renewed by a thread while the block runs.

    Args:
        store: The root.
        kind: ``run`` gives way to vacuum, ``vacuum`` to both.
        holder: The run's id, or any unique text.

    Raises:
        ConfigError: On entry: somebody is at work who must not be disturbed.
    """

    def __init__(self, store: Store, kind: Kind, holder: str) -> None:
        self._store, self._kind, self._holder = store, kind, holder
        self._base = f"{FOLDER}/{kind}/{holder}"
        self._beat, self._last_ok, self._error = 0, time.monotonic(), ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Lease:
        """Take the lease."""
        self._put_beat()
        try:
            self._give_way()
        except BaseException:
            self._release()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give the lease back."""
        self._stop.set()
        self._thread.join()
        self._release()

    def _give_way(self) -> None:
        others: tuple[Kind, ...] = ("vacuum",) if self._kind == "run" else ("run", "vacuum")
        alive = [h for kind in others for h in living(self._store, kind, self._beat_name())]
        alive = [h for h in alive if not h.startswith(f"{self._holder} ")]
        if alive:
            raise ConfigError(
                f"{self._store.uri} is in use by {', '.join(alive)}: wait until it has ended"
            )

    def check(self) -> None:
        """Call before what must not happen without the lease.

        Raises:
            TransientError: The lease could not be renewed for too long.
        """
        if time.monotonic() - self._last_ok > DEAD_AFTER_S / 2:
            raise TransientError(
                f"the lease on {self._store.uri} could not be renewed for "
                f"{DEAD_AFTER_S / 2:.0f} s: {self._error}; run again"
            )

    @property
    def folder(self) -> str:
        """Where this lease lies below the root."""
        return self._base

    def store_time_s(self) -> float:
        """The store's clock at the latest renewal, seconds since 1970: compare it with its own times."""
        meta = self._store.head(self._beat_name())
        if meta is None:
            raise InvariantError(f"{self._beat_name()} is gone: somebody removed a living lease")
        return meta.modified_s

    def _renew(self) -> None:
        while not self._stop.wait(BEAT_S):
            try:
                self._put_beat()
            except HandloomError as error:
                self._error = str(error)  # check() tells when it has gone on for too long

    def _beat_name(self) -> str:
        return f"{self._base}/{self._beat:08d}.json"

    def _put_beat(self) -> None:
        before = self._beat_name()
        self._beat += 1
        self._store.put_new(self._beat_name(), json.dumps(_here()).encode())
        self._last_ok = time.monotonic()
        if self._beat > 1:
            self._store.delete(before)

    def _release(self) -> None:
        try:
            for meta in list(self._store.list(self._base)):
                self._store.delete(meta.name)
        except HandloomError as error:
            self._error = str(error)  # a lease left behind dies by itself


def living(store: Store, kind: Kind, clock_name: str) -> list[str]:
    """Holders of a kind that give signs of life.

    Args:
        store: The root.
        kind: Whose leases to look at.
        clock_name: An object just written: what the store's clock says now.
    """
    now = store.head(clock_name)
    assert now is not None
    newest: dict[str, float] = {}
    names: dict[str, str] = {}
    for meta in store.list(f"{FOLDER}/{kind}"):
        if meta.name == clock_name:
            continue
        holder = meta.name.split("/")[2]
        newest[holder], names[holder] = meta.modified_s, meta.name
    alive = []
    for holder, modified_s in sorted(newest.items()):
        age_s = now.modified_s - modified_s
        if age_s > DEAD_AFTER_S or _is_dead_here(store, names[holder]):
            continue
        alive.append(f"{holder} (a {kind}, last sign of life {max(age_s, 0):.0f} s ago)")
    return alive


def _here() -> dict[str, object]:
    """This process, in words that only processes of the same machine and pid space share."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    space = Path("/proc/self/ns/pid")
    machine = [
        socket.gethostname(),
        boot.read_text().strip() if boot.exists() else "",
        str(space.readlink()) if space.is_symlink() else "",
    ]
    return {"machine": machine, "pid": os.getpid(), "started": _started(os.getpid())}


def _started(pid: int) -> str:
    """Start time of a process in clock ticks since boot; empty when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _is_dead_here(store: Store, name: str) -> bool:
    try:
        lease = json.loads(store.read(name))
        machine, pid, started = lease["machine"], int(lease["pid"]), lease["started"]
    except FileNotFoundError:
        return False  # renewed or released between the listing and the look
    except (ValueError, TypeError, KeyError, RecursionError):
        return False  # not in our words: its age decides
    return bool(machine == _here()["machine"] and _started(pid) != started)
