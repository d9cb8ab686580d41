"""Local folders of worker processes: who holds one is alive, the rest is swept away.

A worker that is killed cannot clean up after itself. Each scratch folder carries a file that its worker
keeps locked, so anybody can tell a dead worker's folder from a living one's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX = "handloom-worker-"
_LOCK = "pid"
_ours: dict[Path, int] = {}
"""Folders of this process, with the handles that lock them."""


def make_scratch(run_id: str) -> Path:
    """Make a folder for this process, marked with its pid and locked for as long as it lives."""
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{run_id}-"))
    handle = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR)  # closed by the kernel when we end
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.write(handle, str(os.getpid()).encode())
    os.set_inheritable(handle, False)
    _ours[folder] = handle
    return folder


def live_workers(run_id: str) -> list[int]:
    """Pids of a run's living workers on this machine."""
    found = []
    for folder in _folders(run_id):
        if _is_held(folder):
            text = (folder / _LOCK).read_text()
            found += [int(text)] if text else []
    return sorted(found)


def remove_scratch(run_id: str) -> None:
    """Remove everything that a run's workers left on this machine, when none is needed any more."""
    for folder in _folders(run_id):
        shutil.rmtree(folder, ignore_errors=True)
        handle = _ours.pop(folder, None)
        if handle is not None:
            os.close(handle)


def sweep_scratch() -> None:
    """Remove what dead workers of any run left on this machine."""
    for folder in _folders(""):
        if (folder / _LOCK).exists() and not _is_held(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _folders(run_id: str) -> list[Path]:
    pattern = f"{_PREFIX}{run_id}-*" if run_id else f"{_PREFIX}*"
    return sorted(Path(tempfile.gettempdir()).glob(pattern))


def _is_held(folder: Path) -> bool:
    try:
        handle = os.open(folder / _LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)
