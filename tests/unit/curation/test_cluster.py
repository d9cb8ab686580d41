"""A busy machine gets its Ray; one that does not start is a clear error, after a second try."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

from curation import held_stderr
from curation.cluster import start_ray
from schemas.errors import HandloomError


@pytest.fixture
def stopped(monkeypatch):
    """No Ray in this process, and a record of the attempts to start one."""
    tries: list[dict[str, object]] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)

    def fail_times(count):
        def init(**options):
            tries.append(options)
            if len(tries) <= count:
                raise Exception("The current node timed out during startup.")  # noqa: TRY002

        monkeypatch.setattr(ray, "init", init)

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return fail_times, tries


def test_one_slow_start_is_tried_again(stopped):
    fail_times, tries = stopped
    fail_times(1)
    start_ray()
    assert len(tries) == 2


def test_a_ray_that_never_starts_is_a_clear_error(stopped):
    fail_times, tries = stopped
    fail_times(99)
    with pytest.raises(HandloomError, match=r"did not start on this machine.*timed out.*doctor"):
        start_ray()
    assert len(tries) == 2


def test_a_named_cluster_is_not_tried_twice(stopped, monkeypatch):
    fail_times, tries = stopped
    fail_times(99)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(HandloomError, match=f"no Ray cluster answers at RAY_ADDRESS={address}"):
            start_ray()
    assert len(tries) == 1
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(HandloomError, match=r"RAY_ADDRESS=127\.0\.0\.1:1 .*refused"):
        start_ray()
    assert len(tries) == 1, "Ray would have tried for minutes"


LATE_HELPERS = """
import os, time
command = open("/proc/self/cmdline").read()
if "dashboard/agent.py" in command or "runtime_env/agent/main.py" in command:
    time.sleep(60)
"""
START = """
import ray
from curation.cluster import start_ray

start_ray()
print("answer", ray.get(ray.remote(lambda: 40 + 2).remote()))
"""
FAILS = """
import sys
import ray._private.services as services
from curation.cluster import start_ray
from schemas.errors import HandloomError

services.RAYLET_EXECUTABLE = sys.argv[1]
try:
    start_ray()
except HandloomError as error:
    print(error)
"""
DYING_RAYLET = """#!/bin/bash
for word in "$@"; do case $word in --log_dir=*) logs=${word#--log_dir=};; esac; done
echo "$logs" >> "$0.seen"
cat >> "$logs/raylet.out" <<'END'
[2026-11-26 01:00:00,000 I 1 1] (raylet) main.cc:1: hello
[2026-11-26 01:00:00,001 C 1 1] (raylet) main.cc:2: no room for me
*** StackTrace Information ***
/lib/libc.so.6(+0x2724a)
END
exit 3
"""


def python(code: str, *args: str, **env: str) -> str:
    """Run some code in a process of its own; what it printed."""
    repo = str(Path(__file__).resolve().parents[3])
    paths = [*filter(None, [env.pop("PYTHONPATH", "")]), repo]
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)} | env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_helpers_that_are_a_minute_late_do_not_keep_ray_from_starting(tmp_path):
    """Left alone, the raylet gives up on them after 15 s."""
    (tmp_path / "sitecustomize.py").write_text(LATE_HELPERS)
    assert "answer 42" in python(START, PYTHONPATH=str(tmp_path))


@pytest.mark.slow
def test_a_raylet_that_ends_is_quoted_and_nothing_of_either_try_goes_on(tmp_path):
    raylet = tmp_path / "raylet"
    raylet.write_text(DYING_RAYLET)
    raylet.chmod(0o755)
    said = python(FAILS, str(raylet))
    assert "twice: its raylet ended with 3; the raylet's last line: [2026" in said
    assert "main.cc:2: no room for me; `handloom doctor`" in said
    sessions = {Path(p).parent.name for p in Path(f"{raylet}.seen").read_text().splitlines()}
    assert len(sessions) == 2
    commands = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists()]
    assert not [c for c in commands if any(s.encode() in c for s in sessions)]


DYING = """
import os, sys, time
import ray
from curation.cluster import start_ray

class Dying:
    def work(self, mark):
        if not os.path.exists(mark):
            open(mark, "w").close()
            os._exit(1)
        return 42

start_ray()
actor = ray.remote(Dying).options(max_restarts=1, max_task_retries=-1).remote()
print("answer", ray.get(actor.work.remote(sys.argv[1])))
time.sleep(2)
"""


@pytest.mark.slow
def test_what_raylets_say_of_dying_workers_is_not_on_standard_output(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", DYING, str(tmp_path / "mark")],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert (tmp_path / "mark").exists()
    assert done.stdout == "answer 42\n"


def test_a_long_wait_is_told_where_the_user_looks(monkeypatch):
    monkeypatch.setattr(held_stderr, "_FIRST_WORD_S", 0.01)
    monkeypatch.setattr(held_stderr, "_NEXT_WORD_S", 0.01)
    reads, writes = os.pipe()
    with held_stderr.told_waiting(writes):
        time.sleep(0.2)
    told = os.read(reads, 10_000).decode().splitlines()
    assert len(told) > 2
    assert set(told) == {"starting Ray: 0 s so far"}


@pytest.mark.slow
def test_doctor_starts_ray_and_a_worker_answers():
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    checks = {c["name"]: c for c in json.loads(done.stdout)["checks"]}
    assert done.returncode == 0, done.stdout
    assert "a worker answered on" in checks["ray starts"]["found"]
    assert checks["free memory"]["found"].endswith("GB")


@pytest.mark.slow
def test_doctor_says_what_to_do_where_ray_and_ffmpeg_are_missing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=os.environ | {"RAY_ADDRESS": "127.0.0.1:1", "PATH": str(tmp_path)},
    )
    assert done.returncode == 2
    assert "apt-get install ffmpeg" in done.stdout
    assert "no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1" in done.stdout
