"""CPU seconds that commands cost before and beside their work.

    python benchmarks/startup.py [--videos demo/studio/videos --root demo/root] [--against GIT_REF
        [--against-root ROOT]] [--repeats 3]

``--root`` is a finished root of ``--videos`` (``make demo`` leaves one); a copy is used. Without it only commands
that need none are measured. ``--against`` measures another commit in the same run; ``--against-root`` is a root of the
same videos that this commit finished (it may not read the newer one). CPU seconds are those of the
command and of the children it waited for, the smallest of the repeats; processes that Ray leaves in the background
are not among them, so that the column "Ray" says whether it was started.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
_TIMEOUT_S = 600


def main() -> None:
    given = _arguments()
    with (
        tempfile.TemporaryDirectory(prefix="handloom-startup-") as name,
        _trees(given.against) as trees,
    ):
        folder = Path(name)
        ten = _ten_files(folder)
        print(f"{'command':<34}" + "".join(f"{label:>22}" for label in trees))
        for title, argv in _commands(given, folder, ten).items():
            cells = []
            for label, tree in trees.items():
                finished = given.root if tree == REPO else given.against_root
                root = _fresh_copy(finished, folder / f"root-{label}")
                command = [str(root) if a == "{root}" else a for a in argv]
                cells.append(_measure(tree, command, given.repeats))
            print(f"{title:<34}" + "".join(f"{cell:>22}" for cell in cells), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--videos", type=lambda text: Path(text).resolve())
    parser.add_argument("--root", type=lambda text: Path(text).resolve())
    parser.add_argument("--against", default="")
    parser.add_argument("--against-root", type=lambda text: Path(text).resolve())
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


@contextmanager
def _trees(against: str) -> Iterator[dict[str, Path]]:
    """Labelled source trees to measure: another commit's, and this one."""
    if not against:
        yield {"now": REPO}
        return
    with tempfile.TemporaryDirectory(prefix="handloom-tree-") as name:
        tree = Path(name) / "tree"
        git = ["git", "-C", str(REPO), "worktree"]
        subprocess.run([*git, "add", "--detach", "-q", str(tree), against], check=True)
        try:
            yield {against[:12]: tree, "now": REPO}
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def _commands(given: argparse.Namespace, folder: Path, ten: Path) -> dict[str, list[str]]:
    new_root = str(folder / "new-root")
    commands = {
        "--help": ["--help"],
        "curate, wrong path": ["curate", "/nope", "--out", new_root],
        "doctor": ["doctor"],
        "curate --dry-run, 10 files": ["curate", str(ten), "--out", new_root, "--dry-run"],
    }
    if given.root:
        videos = str(given.videos)
        commands |= {
            "report of an existing page": ["report", "{root}"],
            "curate again, nothing changed": ["curate", videos, "--out", "{root}"],
            "curate again, another threshold": [
                "curate",
                videos,
                "--out",
                "{root}",
                "--set",
                "quality.gate.min_sharpness=1",
            ],
        }
    return commands


def _ten_files(folder: Path) -> Path:
    raw = folder / "ten"
    raw.mkdir()
    for index in range(10):
        (raw / f"{index}.mp4").write_bytes(os.urandom(1_000_000))
    return raw


def _fresh_copy(root: Path | None, target: Path) -> Path:
    if root is not None:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(root, target)
    return target


def _measure(tree: Path, argv: list[str], repeats: int) -> str:
    costs = []
    env = os.environ | {"PYTHONPATH": str(tree)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # or every command compiles its libraries again
    for _ in range(repeats):
        before = _ray_starts()
        child = subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", *argv],
            cwd=tree,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(child.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        costs.append((usage.ru_utime + usage.ru_stime, _ray_starts() > before, code))
    cpu_s, used_ray, code = min(costs)
    return f"{cpu_s:.2f} s{' Ray' if used_ray else ''} exit {code}"


def _ray_starts() -> int:
    """How often Ray was started on this machine: each start makes a folder."""
    return len(list(Path(tempfile.gettempdir()).glob("ray/session_*")))


if __name__ == "__main__":
    main()
