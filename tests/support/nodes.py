"""A Ray cluster of two nodes on this machine, one of which has some folders on a disk of its own.

python -m tests.support.nodes start ARGUMENTS...       what ``ray start`` does, patient with a busy machine
python -m tests.support.nodes curate SOURCES ROOT      a run of the toy chain with the command line's exit codes
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

REPO = Path(__file__).resolve().parents[2]
_WAIT_S = 480


def cannot_unshare() -> str:
    """Why this machine cannot give a process its own mounts; empty if it can."""
    if shutil.which("unshare") is None:
        return "no unshare here"
    done = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else f"unshare -m is not allowed: {done.stderr.strip()}"


@contextlib.contextmanager
def two_nodes(own_disks: Sequence[Path], log: Path) -> Iterator[str]:
    """Start a head and a node that sees empty disks where ``own_disks`` are.

    Yields the address. The nodes' environment has no credentials of any store.
    """
    from curation.ray_processes import free_ports

    (port,) = free_ports(1)
    address = f"127.0.0.1:{port}"
    head = ["--head", f"--port={port}", "--include-dashboard=false"]
    mounts = "".join(f"mount -t tmpfs tmpfs '{disk}' && " for disk in own_disks)
    with log.open("wb") as out, contextlib.ExitStack() as stack:
        stack.callback(lambda: [_stop(p) for p in reversed(started)])
        started = [_start(["env"], head, out)]
        _wait(address, 1, log)
        inside = ["unshare", "-m", "bash", "-c", f'{mounts}exec "$@"', "bash"]
        started.append(_start(inside, [f"--address={address}"], out))
        _wait(address, 2, log)
        yield address


def curate(address: str, sources: str, root: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the toy chain on a cluster in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tests.support.nodes", "curate", sources, root],
        env=_environment() | {"RAY_ADDRESS": address} | env,
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=_WAIT_S,
        check=False,
    )


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "RAY_"))}
    return kept | {"PYTHONPATH": str(REPO), "RAY_AUTH_MODE": "disabled"}


def _start(before: list[str], arguments: list[str], out) -> subprocess.Popen[bytes]:
    argv = [
        *before,
        sys.executable,
        "-m",
        "tests.support.nodes",
        "start",
        *arguments,
        "--num-cpus=2",
        "--object-store-memory=100000000",
        "--disable-usage-stats",
        "--block",
        "--node-ip-address=127.0.0.1",
    ]
    return subprocess.Popen(
        argv, env=_environment(), cwd=REPO, stdout=out, stderr=out, process_group=0
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(20)


def _wait(address: str, count: int, log: Path) -> None:
    code = (
        "import sys, ray; ray.init(sys.argv[1], log_to_driver=False); "
        "print('alive', sum(n['Alive'] for n in ray.nodes()))"
    )
    deadline = time.monotonic() + _WAIT_S
    said = ""
    while time.monotonic() < deadline:
        done = subprocess.run(
            [sys.executable, "-c", code, address],
            env=_environment(),
            cwd=REPO,
            capture_output=True,
            text=True,
            check=False,
        )
        said = done.stdout + done.stderr
        if f"alive {count}" in said:
            return
        time.sleep(1)
    raise TimeoutError(f"{count} nodes: {said[-1000:]}\n{log.read_text(errors='replace')[-3000:]}")


def _ray_start(arguments: list[str]) -> None:
    from ray.scripts.scripts import cli

    from curation.ray_processes import Started, adapted_ray

    with adapted_ray(Started()):
        cli(["start", *arguments])


def _curate(sources: str, root: str) -> None:
    from jobs.console import guarded
    from tests.chaos.driver import Settings, run

    try:
        guarded(lambda: run(sources, root, Settings(max_workers=2)) and None)()
    except typer.Exit as exit_:
        sys.exit(exit_.exit_code)


if __name__ == "__main__":
    if sys.argv[1] == "start":
        _ray_start(sys.argv[2:])
    else:
        _curate(*sys.argv[2:])
