"""Following a training run's metrics file."""

from __future__ import annotations

import json
import threading
import time

from jobs.training import follow


def wait_for(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_progress_goes_on_when_a_resumed_run_writes_the_file_anew(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"

    def lines(*steps: int) -> str:
        return "".join(json.dumps({"step": s, "pad": "x" * s}) + "\n" for s in steps)

    path.write_text(lines(1, 2, 3, 4, 5) + '{"step": 6, "to')  # killed in the middle of a line
    got: list[int] = []
    finished = threading.Event()
    thread = threading.Thread(target=follow, args=(path, lambda x: got.append(x["step"]), finished))
    thread.start()
    try:
        wait_for(lambda: got == [1, 2, 3, 4, 5])
        anew = tmp_path / "metrics.partial"
        anew.write_text(lines(1, 2, 3))
        anew.replace(path)
        time.sleep(0.7)
        for step in (4, 5, 6, 7):
            with path.open("a") as out:
                out.write(lines(step))
        wait_for(lambda: got[-1] == 7)
    finally:
        finished.set()
        thread.join(10)
    assert not thread.is_alive()
    assert got == [1, 2, 3, 4, 5, 4, 5, 6, 7]
