"""Does ``handloom verify`` always end well? Runs it many times on a healthy root and counts exit codes.

    python -m benchmarks.verify_exit [ROOT] [--times 60]

Without ROOT a small one is made by a run of the tests' toy chain. An abort at the interpreter's end (134) shows
only now and then, so one run proves nothing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path


def main() -> int:
    """Print the exit codes; 0 if all were 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", nargs="?", help="a healthy root; default: one made for this")
    parser.add_argument("--times", type=int, default=60)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="handloom-verify-") as scratch:
        root = args.root or make_root(Path(scratch))
        begun = time.monotonic()
        codes = Counter(verify_once(root) for _ in range(args.times))
    seconds = (time.monotonic() - begun) / args.times
    print(f"{args.times} runs of verify, {seconds:.1f} s each; exit codes {dict(codes)}")
    return 0 if set(codes) == {0} else 1


def make_root(scratch: Path) -> str:
    """Curate some toy sources; the run has a process of its own, so that no Ray stays with us."""
    from tests.unit.curation import toy

    texts = {f"{i:02d}.txt": f"text number {i}" for i in range(20)}
    sources, root = toy.write_sources(scratch / "raw", texts), str(scratch / "root")
    command = [sys.executable, "-m", "tests.chaos.driver", str(sources), root]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return root


def verify_once(root: str) -> int:
    """The exit code of one verify; negative for a signal."""
    done = subprocess.run(["handloom", "verify", root], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"exit {done.returncode}: {(done.stdout + done.stderr).strip()[-300:]}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
