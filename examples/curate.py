"""Curate videos and say what became of every clip.

    python examples/curate.py my-videos/ my-root [RECIPE]

It may be interrupted and called again: finished work is found, nothing is overwritten.
"""

from __future__ import annotations

import sys

import handloom


def main(videos: str, out: str, recipe: str = "default") -> None:
    """Curate a folder, then read the run's books."""
    root = handloom.curate(
        videos, out, recipe=recipe, settings={"speech.gate.require_speech": False}
    )
    report = root.report()
    for stage in report.stages:
        reasons = ", ".join(f"{count} {reason}" for reason, count in stage.reasons.items())
        print(f"{stage.name:<12}{stage.num_in:>6} in{stage.num_kept:>6} kept  {reasons}")

    kept = set(report.kept_clip_ids)
    for clip in root.clips():
        fate = "kept" if clip.clip_id in kept else "dropped"
        sharpness = f"{clip.quality.sharpness:.1f}" if clip.quality else "not measured"
        print(
            f"{clip.clip_id} {clip.start_s:6.2f} .. {clip.end_s:6.2f} s {fate}, sharpness {sharpness}"
        )
    print(f"{report.verdict}: {len(kept)} clips of run {root.run_id}")


if __name__ == "__main__":
    main(*sys.argv[1:])
