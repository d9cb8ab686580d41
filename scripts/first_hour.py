"""Play a new user's first hour, every command with its seconds: what docs/first-hour.md is made from.

    python -m scripts.first_hour [--demo] [--work DIR] [--out docs/first-hour.md]

``--demo`` begins with ``make demo`` (minutes). The commands run in a shell in DIR, as printed. A command that ends
otherwise than a first hour should ends the play with its output and code 1. What was played is noted in DIR: the same
command goes on behind it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
_TIMEOUT_S = 1100
_MAX_LINES = 24
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_DUCKDB = """python - <<'END'
import duckdb, json, subprocess
told = json.loads(subprocess.check_output(["handloom", "shards", "my-root", "--json"]))
paths = [shard["path"] for shard in told["shards"]]
print(duckdb.sql(f"SELECT clip_id, num_frames, prompt FROM read_parquet({paths})"))
END"""


@dataclass(frozen=True)
class Step:
    """One command of the hour."""

    why: str
    command: str
    code: int = 0
    shown: str = ""
    """What the page shows in place of the command."""
    stop_when: str = ""
    """Send SIGINT, as Ctrl-C does, once the output holds this."""


STEPS = (
    Step("What can this machine run?", "handloom doctor"),
    Step("Something to curate: two rendered clips. Your own videos do as well.",
         "handloom studio --out my --clip clean --clip cut_and_freeze"),
    Step("What would a run do, and what would it cost? One video is tried aside.",
         "handloom curate my/videos --out my-root --dry-run --sample 1"),
    Step("Begin, and change your mind: Ctrl-C after the first stages.",
         "handloom curate my/videos --out my-root", code=130, stop_when="quality, speech: 1/"),
    Step("What is left?", "handloom curate my/videos --out my-root --dry-run"),
    Step("The same command goes on where it stopped.", "handloom curate my/videos --out my-root"),
    Step("What became of one video, and how narrowly?",
         "handloom explain my-root cut_and_freeze.mp4"),
    Step("A stricter threshold re-decides; nothing is computed again, Ray is not started.",
         "handloom curate my/videos --out my-root --set objects.gate.min_confidence=0.7"),
    Step("What did it change? The newest run beside the one before it.", "handloom diff my-root"),
    Step("Back again: the first answer is still known.", "handloom curate my/videos --out my-root"),
    Step("Look at a clip: video, boxes, product mask and HOI structure, with sound.",
         "handloom show my-root $(handloom report my-root --json"
         " | python -c 'import json, sys; print(json.load(sys.stdin)[\"kept_clip_ids\"][0])') --out clip.mp4"),
    Step("The shards in DuckDB.", _DUCKDB),
    Step("Train a few steps on them.",
         "handloom train my-root --recipe smoke --out run --set steps_full=6 --set steps_asymmetric=4"),
    Step("Sample a film: noise after ten steps, and meant so.",
         "handloom sample run --root my-root --out sample.mp4 --set steps=4"),
)  # fmt: skip
_DEMO = Step(
    "The demo: studio clips to shards, report, training, a sampled film.",
    f"make -C {REPO} demo DEMO=$PWD/demo",
    shown="make demo",
)


@dataclass(frozen=True)
class Played:
    """What came of a step."""

    step: Step
    seconds: float
    code: int
    output: str


def play(step: Step, work: Path) -> Played:
    """Run one step in a shell of its own process group."""
    env = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "COLUMNS": "100",
    }
    env["PYTHONPATH"] = str(REPO)
    started = time.monotonic()
    child = subprocess.Popen(
        ["bash", "-c", f"exec {step.command}" if step.stop_when else step.command],
        cwd=work,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert child.stdout is not None
    lines: list[str] = []
    is_stopped = False
    for line in child.stdout:
        lines.append(line)
        if step.stop_when and not is_stopped and step.stop_when in line:
            child.send_signal(signal.SIGINT)
            is_stopped = True
        if time.monotonic() - started > _TIMEOUT_S:
            child.kill()
    code = child.wait(timeout=60)
    return Played(step, time.monotonic() - started, code, _ANSI.sub("", "".join(lines)))


def page(played: Sequence[Played], work: Path) -> str:
    """The transcript in Markdown."""
    machine = (
        f"{os.cpu_count()} cores, no GPU, {platform.system()}, Python {platform.python_version()}"
    )
    total_s = sum(p.seconds for p in played)
    parts = [
        "# A first hour\n",
        f"Every command below was run in this order on {machine}; the seconds are by the clock, {total_s:.0f} in all.\n"
        "Made by `python -m scripts.first_hour --demo --out docs/first-hour.md`, and played without the demo by\n"
        "`tests/e2e/test_first_hour.py`.\n",
    ]
    for p in played:
        end = "" if p.code == 0 else f", exit code {p.code}"
        shown, output = p.step.shown or p.step.command, _short(p.output, work)
        parts.append(
            f"## {p.step.why}\n\n```console\n$ {shown}\n{output}```\n\n{p.seconds:.1f} s{end}\n"
        )
    return "\n".join(parts)


def _short(output: str, work: Path) -> str:
    """The last lines, without the progress of long stages between its first and last line."""
    places = output.replace(str(work), "/home/me").replace(str(REPO), "/home/me/handloom")
    lines = [line.rstrip() for line in places.splitlines() if not line.startswith("make: ")]
    kept = [
        line
        for line, after in zip(lines, [*lines[1:], ""], strict=True)
        if not (":" in line and line.split(":")[0] == after.split(":")[0] and "/" in line)
    ]
    cut = [f"... ({len(kept) - _MAX_LINES} lines before)"] if len(kept) > _MAX_LINES else []
    return "".join(f"{line}\n" for line in [*cut, *kept[-_MAX_LINES:]])


def _play_all(steps: Sequence[Step], work: Path) -> list[Played] | None:
    """Play what was not played yet; None if a step ended otherwise than it should."""
    notes, played = work / "played.json", []
    known = json.loads(notes.read_text()) if notes.exists() else []
    for step, (seconds, output) in zip(steps, known, strict=False):
        played.append(Played(step, seconds, step.code, output))
    for step in steps[len(played) :]:
        played.append(play(step, work))
        first = step.command.splitlines()[0]
        sys.stdout.write(f"{played[-1].seconds:7.1f} s  {first}\n")
        sys.stdout.flush()
        if played[-1].code != step.code:
            sys.stdout.write(f"{played[-1].output}\ncode {played[-1].code}, not {step.code}\n")
            return None
        notes.write_text(json.dumps([(p.seconds, p.output) for p in played]))
    return played


def main() -> int:
    """Play all steps, and write the page if it is wanted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="first-hour-") as name:
        work = given.work or Path(name)
        work.mkdir(parents=True, exist_ok=True)
        played = _play_all(((_DEMO,) if given.demo else ()) + STEPS, work)
    if played is None:
        return 1
    if given.out:
        given.out.write_text(page(played, work.resolve()), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
