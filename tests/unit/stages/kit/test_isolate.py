"""The child process: answers, crashes, time, memory, noise, orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from schemas.errors import ChildCrashError, DecodeError
from stages.kit.isolate import CHILD_REASONS, ChildBudget, run_isolated

HERE = "tests.unit.stages.kit.misbehave"
BUDGET = ChildBudget(wall_s=60, memory_bytes=4_000_000_000)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until_gone(pids: list[int], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(is_alive, pids))


def test_answer_comes_back_from_another_process_although_it_prints():
    answer = run_isolated(f"{HERE}:echo", {"a": [1, "ü"]}, BUDGET)
    assert answer["got"] == {"a": [1, "ü"]}
    assert answer["pid"] != os.getpid()


def test_a_payload_larger_than_a_pipe_arrives():
    text = "y" * 3_000_000
    assert run_isolated(f"{HERE}:echo", {"t": text}, BUDGET)["got"]["t"] == text


def test_bad_data_keeps_its_code_and_loses_control_characters():
    with pytest.raises(DecodeError) as caught:
        run_isolated(f"{HERE}:bad_data", {"why": "header"}, BUDGET)
    assert caught.value.code == "not_video"
    assert caught.value.detail == "bad  [31m header"


@pytest.mark.parametrize(
    ("function", "payload", "code"),
    [
        ("die", {"signal": "SIGSEGV"}, "crash_SIGSEGV"),
        ("die", {"signal": "SIGABRT"}, "crash_SIGABRT"),
        ("die", {"signal": "SIGUSR1"}, "crash_other"),
        ("leave", {"code": 7}, "crash_exit"),
        ("leave", {"code": 0}, "child_error"),
        ("bug", {}, "child_error"),
        ("no_such_function", {}, "child_error"),
    ],
)
def test_every_death_has_a_code(function, payload, code):
    with pytest.raises(ChildCrashError) as caught:
        run_isolated(f"{HERE}:{function}", payload, BUDGET)
    assert caught.value.code == code
    assert code in CHILD_REASONS
    assert "\n" not in caught.value.detail
    assert not any(
        word in caught.value.detail for word in ("Traceback", 'File "', "Current thread")
    )


def test_memory_is_bounded():
    small = ChildBudget(wall_s=60, memory_bytes=400_000_000)
    assert run_isolated(f"{HERE}:eat_memory", {"num_bytes": 10_000_000}, small) == {"n": 10_000_000}
    with pytest.raises(ChildCrashError) as caught:
        run_isolated(f"{HERE}:eat_memory", {"num_bytes": 900_000_000}, small)
    assert caught.value.code == "out_of_memory"


def test_output_is_bounded():
    with pytest.raises(ChildCrashError) as caught:
        run_isolated(
            f"{HERE}:talk_too_much", {"count": 3_000_000}, ChildBudget(60, 4_000_000_000, 1_000_000)
        )
    assert caught.value.code == "child_output_too_large"


def test_timeout_kills_the_whole_group(tmp_path):
    pid_file = tmp_path / "pids"
    started = time.monotonic()
    with pytest.raises(ChildCrashError) as caught:
        run_isolated(
            f"{HERE}:hang_with_grandchild",
            {"pid_file": str(pid_file)},
            ChildBudget(4, 4_000_000_000),
        )
    assert caught.value.code == "timeout"
    assert time.monotonic() - started < 30
    pids = [int(p) for p in pid_file.read_text().split()]
    assert len(pids) == 2
    assert wait_until_gone(pids)


def test_the_child_dies_with_its_parent(tmp_path):
    pid_file = tmp_path / "pids"
    code = (
        "from stages.kit.isolate import *;"
        f"run_isolated('{HERE}:hang_with_grandchild', {{'pid_file': {str(pid_file)!r}}},"
        "ChildBudget(600, 4_000_000_000))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        deadline = time.monotonic() + 20
        while not (pid_file.exists() and len(pid_file.read_text().split()) == 2):
            assert time.monotonic() < deadline, "the child never started"
            time.sleep(0.05)
        child, _ = (int(p) for p in pid_file.read_text().split())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert wait_until_gone([child])
    finally:
        parent.kill()
        parent.wait()
        if pid_file.exists():
            os.kill(int(pid_file.read_text().split()[1]), signal.SIGKILL)
