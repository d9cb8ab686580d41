"""Print the crash matrix: every failpoint x {worker, driver} x {local, S3}, killed, run again, compared.

    python benchmarks/crash.py [--only TEXT] [--stores local,s3] [--out crash.json] [--random 50]

Each cell: a run of the toy chain (three groups of stages, shards, a report) with SIGKILL at the failpoint, a
second run without, then vacuum and verify. ``equal`` means: rows, fates and shard hashes are those of an
undisturbed run.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # noqa: TID251 - a script, not a package

from curation.cluster import start_ray
from curation.root.store import Store
from tests.chaos.driver import Settings, run
from tests.support import chaos, s3
from tests.unit.curation import toy
from tests.unit.curation.toy_runs import facts

HEAD = (
    f"{'failpoint':<26}{'victim':<8}{'store':<7}{'killed':>7}{'equal':>7}{'twice':>7}"
    f"{'missing':>8}{'orphans':>8}{'redone':>7}{'s':>7}"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="cells whose failpoint contains this")
    parser.add_argument("--stores", default="local,s3")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--random", type=int, default=0, help="kills at random times instead")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="handloom-crash-")))
        if "s3" in given.stores:
            (folder / "weed").mkdir()
            bucket = stack.enter_context(s3.bucket(folder / "weed"))
        start_ray()
        if given.random:
            kill_at_random(folder, given.random)
            return
        roots = {"local": str(folder), "s3": bucket if "s3" in given.stores else ""}
        matrix(folder, {k: roots[k] for k in given.stores.split(",")}, given.only, given.out)


def matrix(folder: Path, roots: dict[str, str], only: str, out: Path | None) -> None:
    sources = str(toy.write_sources(folder / "raw", chaos.TEXTS))
    run(sources, str(folder / "undisturbed"), Settings())
    reference = facts(Store(str(folder / "undisturbed")))
    print(HEAD, flush=True)
    results = []
    for kind, base in roots.items():
        for index, cell in enumerate(c for c in chaos.all_cells() if only in c.point):
            r = chaos.run_cell(cell, sources, f"{base}/root-{index}", reference, folder)
            results.append({"store": kind, "is_ok": r.is_ok} | dataclasses.asdict(r))
            fired = r.num_killed if r.has_fired else "never"
            print(
                f"{cell.point:<26}{cell.victim:<8}{kind:<7}{fired:>7}{r.is_equal!s:>7}"
                f"{r.num_duplicates:>7}{r.num_missing:>8}{r.num_problems:>8}{r.num_calls_again:>7}"
                f"{r.seconds:>7.1f}",
                flush=True,
            )
            if out:
                out.write_text(json.dumps(results, indent=1))
    num_ok = sum(r["is_ok"] for r in results)
    num_killed = sum(bool(r["num_killed"]) and r["has_fired"] for r in results)
    print(
        f"{num_ok} of {len(results)} cells equal an undisturbed run; somebody died in {num_killed}"
    )


def kill_at_random(folder: Path, num_kills: int) -> None:
    texts = {f"{i:03d}.txt": f"text number {i}" for i in range(60)}
    sources = str(toy.write_sources(folder / "raw", texts))
    settings = Settings(seconds=0.2, max_attempts=20, max_workers=2)
    root, calm = str(folder / "root"), str(folder / "undisturbed")
    begun = time.monotonic()
    victims: Counter[str] = Counter()
    for victim in chaos.kill_at_random(sources, root, settings, num_kills):
        victims[victim] += 1
        print(
            f"{sum(victims.values()):>3} {victim} at {time.monotonic() - begun:.0f} s", flush=True
        )
    run(sources, root, settings)
    run(sources, calm, settings)
    found, wanted = facts(Store(root)), facts(Store(calm))
    print(
        f"{dict(victims)} killed in {time.monotonic() - begun:.0f} s; equal to an undisturbed run: "
        f"{found == wanted}; {len(found['clip_ids'])} of {len(wanted['clip_ids'])} clips, "
        f"{found['num_duplicates']} twice, {len(found['shards'])} shards"
    )


if __name__ == "__main__":
    main()
