"""The processes of a private Ray: started with ports of ours, watched while they come up, ended when they do not."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray._private import services

from schemas.errors import HandloomError

START_WAIT_S = 180.0
_PORTS = (
    "metrics_agent_port",
    "dashboard_agent_listen_port",
    "metrics_export_port",
    "runtime_env_agent_port",
)
_FIRST_PORT, _LAST_PORT = 20_000, 32_767


@dataclass
class Started:
    """What one try to start Ray has begun."""

    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    raylet: subprocess.Popen[bytes] | None = None
    session: Path | None = None
    """Ray's folder of this try; its name is in the command line of every process but the workers'."""


class _NoNodeError(Exception):
    """The node did not come up; unlike a RuntimeError it ends Ray's own waiting at once."""


@contextmanager
def adapted_ray(begun: Started, needs_api_server: bool = False) -> Iterator[None]:
    """Change, while Ray starts, what ``ray.init`` has no options for. The names are private ones of Ray's.

    A test starts a real Ray with helpers that are a minute late.
    """
    originals: dict[str, Callable[..., Any]] = {
        name: getattr(services, name)
        for name in ("start_ray_process", "start_raylet", "start_api_server", "get_node")
    }
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))

    def start_ray_process(command: list[str], kind: str, *args: Any, **options: Any) -> Any:
        if kind == "raylet":  # Ray tells it to the helper alone, and the raylet would wait for it
            listen = ports["dashboard_agent_listen_port"]
            command = [*command, f"--dashboard_agent_listen_port={listen}"]
        info = originals["start_ray_process"](command, kind, *args, **options)
        _note(begun, command, kind, info.process)
        return info

    def start_raylet(*args: Any, **options: Any) -> Any:
        return originals["start_raylet"](*args, **(options | ports))

    def start_api_server(*args: Any, **options: Any) -> Any:
        if needs_api_server:
            return originals["start_api_server"](*args, **options)
        return None, None  # as when it fails; it takes long to come up

    def get_node(gcs_address: str, node_id: str) -> Any:
        return _wait_for_node(lambda: originals["get_node"](gcs_address, node_id), begun)

    changed = (start_ray_process, start_raylet, start_api_server, get_node)
    for function in changed:
        setattr(services, function.__name__, function)
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(services, name, original)


def _note(begun: Started, command: list[str], kind: str, process: subprocess.Popen[bytes]) -> None:
    begun.processes.append(process)
    begun.raylet = process if kind == "raylet" else begun.raylet
    found = re.search(r"(/[^\s=]*/session_[0-9_-]+)", " ".join(command))
    begun.session = Path(found.group(1)) if found else begun.session


def _wait_for_node(look: Callable[[], Any], begun: Started) -> Any:
    deadline = time.monotonic() + START_WAIT_S
    while True:
        try:
            return look()
        except RuntimeError as error:
            if begun.raylet and begun.raylet.poll() is not None:
                raise _NoNodeError(f"its raylet ended with {begun.raylet.returncode}") from error
            if time.monotonic() > deadline:
                raise _NoNodeError(f"its node did not come up in {START_WAIT_S:.0f} s") from error
            time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses, below those that the kernel gives to whoever asks for any."""
    found: list[int] = []
    candidates = random.SystemRandom().sample(range(_FIRST_PORT, _LAST_PORT), 200)
    while len(found) < count and candidates:
        port = candidates.pop()
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            found.append(port)
    if len(found) < count:
        raise HandloomError(f"no free ports from {_FIRST_PORT} to {_LAST_PORT}: Ray needs {count}")
    return found


def stop_processes(begun: Started) -> None:
    """End everything that a try has started, also what it started in turn."""
    name = begun.session.name if begun.session else None
    for _ in range(20):
        alive = _tree({p.pid for p in begun.processes if p.poll() is None}, name)
        if not alive:
            return
        for pid in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _tree(roots: set[int], session_name: str | None) -> set[int]:
    """Living processes that descend from the roots or name the session in their command line."""
    parents: dict[int, int] = {}
    found = set(roots)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        pid = int(folder.name)
        if state == "Z":
            found.discard(pid)
            continue
        parents[pid] = int(parent)
        if session_name and session_name.encode() in command and pid != os.getpid():
            found.add(pid)
    size = -1
    while size != len(found):
        size = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found


def why_ray_does_not_start(error: BaseException, begun: Started) -> str:
    """What to tell of a start that failed twice: the error, the raylet's last words, and where to look."""
    said = last_words(begun.session) if begun.session else ""
    quoted = f"; the raylet's last line: {said}" if said else ""
    logs = begun.session / "logs" if begun.session else "/tmp/ray"  # noqa: S108 - where Ray puts them
    return (
        f"Ray did not start on this machine, twice: {error}{quoted}; `handloom doctor` shows memory and "
        f"disk; Ray's own logs are in {logs}"
    )


def last_words(session: Path) -> str:
    """The last line of a raylet's log that is no stack trace; lines about an error go before others."""
    lines: list[str] = []
    for name in ("raylet.out", "raylet.err"):
        with contextlib.suppress(OSError):
            lines += (session / "logs" / name).read_text(errors="replace").splitlines()
    told = [line.strip() for line in lines if re.match(r"\[[^\]]* [CEFIW] ", line)]
    grave = [line for line in told if re.match(r"\[[^\]]* [CEF] ", line)]
    return (grave or told or [""])[-1][:500]
