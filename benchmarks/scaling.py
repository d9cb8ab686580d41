"""Cost of the engine per row: listing, a first run, a second run with nothing to do, vacuum and verify.

    python benchmarks/scaling.py [--sizes 100,1000] [--store local|s3]

Sources are tiny text files and stages do nothing, so what is timed is listing, receipts, log and Ray.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # noqa: TID251 - a script, not a package

import psutil

from curation.cluster import start_ray
from curation.recipe import RunConfig
from curation.root.store import Store
from curation.upkeep.vacuum import vacuum
from curation.upkeep.verify import verify
from tests.support import s3
from tests.unit.curation import toy
from tests.unit.curation.toy_runs import request

T = TypeVar("T")


def timed(call: Callable[[], T]) -> tuple[T, float]:
    begun = time.perf_counter()
    result = call()
    return result, time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="100,1000")
    parser.add_argument("--store", choices=["local", "s3"], default="local")
    given = parser.parse_args()
    head = (
        "sources",
        "units",
        "list s",
        "first s",
        "ms/unit",
        "again s",
        "vacuum s",
        "verify s",
        "driver MB",
    )
    print("".join(f"{h:>10}" for h in head), flush=True)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="handloom-scaling-")))
        base = str(folder)
        if given.store == "s3":
            (folder / "weed").mkdir()
            base = stack.enter_context(s3.bucket(folder / "weed"))
        start_ray()
        for size in map(int, given.sizes.split(",")):
            texts = {f"{i:06d}.txt": f"text number {i}" for i in range(size)}
            sources = str(toy.write_sources(folder / f"raw-{size}", texts))
            root, config = f"{base}/root-{size}", RunConfig(max_workers=2)
            asked, list_s = timed(lambda: request(sources, root, config, shards=True))  # noqa: B023 - called here
            record, first_s = timed(asked.run)
            num_units = sum(record.num_stage_calls.values())
            again, again_s = timed(asked.run)
            assert sum(again.num_stage_calls.values()) == 0
            _, vacuum_s = timed(lambda: vacuum(Store(root), apply=True, min_age_h=0))  # noqa: B023
            result, verify_s = timed(lambda: verify(Store(root)))  # noqa: B023
            assert result.problems == ()
            memory = psutil.Process().memory_full_info().uss / 1e6
            print(
                f"{size:>10}{num_units:>10}{list_s:>10.2f}{first_s:>10.1f}{1e3 * first_s / num_units:>10.1f}"
                f"{again_s:>10.2f}{vacuum_s:>10.2f}{verify_s:>10.2f}{memory:>10.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
