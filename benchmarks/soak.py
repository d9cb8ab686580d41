"""Many short clips in one run while a worker is killed every few seconds: ends, balanced, memory flat.

    python benchmarks/soak.py [--sources 200] [--clips-each 10] [--kill-every 5] [--plot soak.png]
                              [--compare]

The stages are the toy chain's: what is tested is the engine. ``--compare`` runs a second time without kills and
compares rows, fates and shards.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # noqa: TID251 - a script, not a package

from curation.cluster import start_ray
from curation.recipe import RunConfig
from tests.support.soak import equal_to_undisturbed, soak
from tests.unit.curation import toy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=200)
    parser.add_argument("--clips-each", type=int, default=10)
    parser.add_argument("--kill-every", type=float, default=5.0, help="seconds")
    parser.add_argument("--plot", type=Path, default=Path("soak.png"))
    parser.add_argument("--compare", action="store_true")
    given = parser.parse_args()
    config = RunConfig(max_workers=2, max_attempts_per_row=50, max_samples_per_shard=256)
    with tempfile.TemporaryDirectory(prefix="handloom-soak-") as name:
        folder = Path(name)
        texts = {f"{i:05d}.txt": f"text number {i}" for i in range(given.sources)}
        sources = str(toy.write_sources(folder / "raw", texts))
        start_ray()
        root = folder / "root"
        result = soak(sources, root, given.kill_every, config, given.clips_each, given.plot)
        if given.compare:
            is_equal = equal_to_undisturbed(
                sources, root, folder / "undisturbed", config, given.clips_each
            )
            result = dataclasses.replace(result, is_equal=is_equal)
    print(json.dumps(dataclasses.asdict(result), indent=1))
    print(f"plot: {given.plot}")


if __name__ == "__main__":
    main()
