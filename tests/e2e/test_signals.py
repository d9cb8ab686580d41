"""Ctrl-C and SIGTERM: a word on what is kept, within seconds, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from curation.root.store import Store
from tests.unit.curation import toy

pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(400)]
_WORD_S = 10.0  # five on a quiet machine


def of_this_run(mark: str) -> list[psutil.Process]:
    """Every process that carries the mark in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HANDLOOM_TEST_MARK") == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_what_is_kept_and_leaves_nothing(tmp_path, number, code):
    sources = toy.write_sources(
        tmp_path / "raw", {f"{i}.txt": f"text number {i}" for i in range(40)}
    )
    mark = f"{os.getpid()}-{number}"
    command = [sys.executable, "-m", "tests.support.slow_run", str(sources), str(tmp_path / "root")]
    child = subprocess.Popen(
        command, env=os.environ | {"HANDLOOM_TEST_MARK": mark}, stderr=subprocess.PIPE, text=True
    )
    receipts = tmp_path / "root" / "receipts"
    deadline = time.monotonic() + 240
    while not any(receipts.rglob("*.json")):
        assert time.monotonic() < deadline, "no work was begun"
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.1)
    child.send_signal(number)
    begun = time.monotonic()
    _, told = child.communicate(timeout=60)
    assert time.monotonic() - begun < _WORD_S
    assert child.returncode == code, told
    assert "is kept" in told
    assert "Traceback" not in told
    time.sleep(2)
    assert of_this_run(mark) == []
    store = Store(str(tmp_path / "root"))
    assert list(store.list("leases")) == []
