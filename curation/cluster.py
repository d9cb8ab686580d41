"""Starting the embedded Ray on a machine that may be busy, or joining the cluster that the environment names.

Left alone, Ray waits 30 s for its node, and its raylet gives up after 15 s when one of its helpers is slow to tell
the port it chose. Here the ports are chosen beforehand, the dashboard stays out, the wait is longer, and of a start
that failed nothing is left running before the second one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import re
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray._private import services
from ray._private import worker as ray_worker

from curation.held_stderr import held_back_stderr
from schemas.errors import ConfigError, HandloomError

START_WAIT_S = 180.0
_log = logging.getLogger(__name__)
_KNOCK_S = 10.0
_AGENT_WAIT_MS = 600_000
_OBJECT_STORE_BYTES = 1 << 30
_PORTS = ("metrics_agent_port", "dashboard_agent_listen_port", "metrics_export_port",
          "runtime_env_agent_port")  # fmt: skip
_FIRST_PORT, _LAST_PORT = 20_000, 32_767
_CHATTY = (
    "ray._private.authentication.authentication_token_setup",  # "token authentication is enabled"
    "ray.data._internal.progress",  # "progress bars disabled": we asked for it
    "ray.data._internal.execution.streaming_executor_state",  # says what it then raises
)


def start_ray(*, needs_api_server: bool = False) -> None:
    """Connect to the cluster that the environment names, or start a private one on this machine.

    Args:
        needs_api_server: Start Ray's own as well: Ray Train asks it how its actors are.

    Raises:
        ConfigError: A variable that makes Ray unpickle foreign files is set.
        HandloomError: Ray does not start, or no cluster answers at RAY_ADDRESS.
    """
    if ray.is_initialized():
        return
    _check_environment()
    with _own_sigterm():
        _join_or_start(needs_api_server)


def check_ray(timeout_s: float) -> str:
    """Start or join Ray as a run would, have a worker answer, and leave again.

    Args:
        timeout_s: For the worker's answer; starting has its own limit.

    Returns:
        What there is, for people.

    Raises:
        HandloomError: Ray does not start, or no worker answers.
    """
    start_ray()
    try:
        where = ray.get(ray.remote(_host_name).remote(), timeout=timeout_s)
        have = ray.cluster_resources()
    except Exception as error:
        raise HandloomError(
            f"Ray started, but no worker answered in {timeout_s:.0f} s ({error}); memory may be short, or "
            "another Ray's leftovers in the way: ray stop --force ends them all"
        ) from error
    finally:
        ray.shutdown()
    return f"{have.get('CPU', 0):g} CPUs, {have.get('GPU', 0):g} GPUs, a worker answered on {where}"


def _host_name() -> str:
    return socket.gethostname()


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keep who minds SIGTERM: Ray's own handler would end the driver without a word, its lease left behind."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not the main thread: Ray set none either
            signal.signal(signal.SIGTERM, before)


def _join_or_start(needs_api_server: bool) -> None:
    # or Ray prints what its raylets say on standard output, where a document of --json may be
    ray_worker.print_to_stdstream = _to_log
    options: dict[str, object] = {"log_to_driver": False, "logging_level": logging.WARNING}
    if address := os.environ.get("RAY_ADDRESS"):
        _join(options, address)
        return
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:  # ours lives and dies with the cluster
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    _start(
        options
        | {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
        },
        needs_api_server,
    )


def _to_log(data: Mapping[str, Any], ignore_prefix: bool = False) -> None:  # noqa: ARG001 - Ray's
    for line in data["lines"]:
        _log.info("ray: %s", line)


def _check_environment() -> None:
    # the variables that would let Ray unpickle foreign Parquet metadata
    for name in (
        "RAY_DATA_AUTOLOAD_CLOUDPICKLE_TENSOR_METADATA",
        "RAY_DATA_AUTOLOAD_PICKLE_OBJECT_SCALAR",
        "RAY_DATA_AUTOLOAD_PYEXTENSIONTYPE",
    ):
        if os.environ.get(name):
            raise ConfigError(f"{name} is set: Ray would run code from Parquet files; unset it")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # it writes past our progress bars
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_agent_register_timeout_ms", str(_AGENT_WAIT_MS))
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _join(options: dict[str, object], address: str) -> None:
    try:
        _knock(address)
        with held_back_stderr():
            ray.init(**options)
    except Exception as error:
        ray.shutdown()
        raise HandloomError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({error}); check the address and that Ray "
            "and Python have the same versions there, or unset it to run on this machine alone"
        ) from error


def _knock(address: str) -> None:
    """Find out in seconds that nobody listens: Ray itself would try for minutes.

    Raises:
        OSError: Nobody does.
    """
    found = re.fullmatch(r"(?:ray://)?\[?([^\[\]/]+?)\]?:(\d+)", address)
    if found is None:
        return  # "auto" and the like: Ray knows where that is
    for is_last in (False, False, True):
        try:
            socket.create_connection((found[1], int(found[2])), timeout=_KNOCK_S).close()
        except OSError:
            if is_last:
                raise
            time.sleep(1)
        else:
            return


def _start(options: dict[str, object], needs_api_server: bool) -> None:
    """Start a cluster, twice at most."""
    for is_last in (False, True):
        begun = Started()
        try:
            with held_back_stderr(), adapted_ray(begun, needs_api_server):
                ray.init(**options)
        except Exception as error:
            ray.shutdown()
            stop_processes(begun)
            if is_last:
                raise HandloomError(_why_ray_does_not_start(error, begun)) from error
        else:
            return


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


def _why_ray_does_not_start(error: BaseException, begun: Started) -> str:
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
