"""Where the seconds of the sources went: in clips, or left out and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from schemas.outcome import SKIPPED, Decision, Outcome
from schemas.report import SecondsLine
from schemas.rows import Clip, SourceVideo

NOT_VIDEO = "not_video"
NOT_IN_A_CLIP = "not_in_a_clip"


def seconds_line(
    sources: Sequence[SourceVideo], clips: Iterable[Clip], decisions: Iterable[Decision]
) -> SecondsLine:
    """Account for every second of every source: found = in clips + left out.

    A source that was dropped whole counts under that reason. Files that are no video have no seconds.
    """
    spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for clip in clips:
        spans[clip.source_id].append((clip.motion_start_s, clip.end_s))
    ids = {s.row_id for s in sources}
    ends = {
        d.row_id: d.reason
        for d in decisions  # a copy has the row_id of its source, and no seconds of its own
        if d.outcome is not Outcome.KEPT and d.row_id in ids and d.reason not in SKIPPED
    }
    left_out: dict[str, float] = defaultdict(float)
    in_clips_s, num_unknown = 0.0, 0
    for source in sources:
        if source.probe is None:
            num_unknown += ends.get(source.row_id) != NOT_VIDEO
            continue
        for part in source.probe.left_out:
            left_out[part.reason] += part.seconds
        used_s = min(covered_s(spans[source.row_id]), source.probe.duration_s)
        in_clips_s += used_s
        left_out[ends.get(source.row_id, NOT_IN_A_CLIP)] += source.probe.duration_s - used_s
    return SecondsLine(
        found_s=in_clips_s + sum(left_out.values()),
        in_clips_s=in_clips_s,
        left_out_s={reason: s for reason, s in sorted(left_out.items()) if s > 0},
        num_unknown=num_unknown,
    )


def covered_s(spans: Sequence[tuple[float, float]]) -> float:
    """Seconds in at least one of some spans.

    >>> covered_s([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0)])
    4.0
    """
    total, reached = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, reached))
        reached = max(reached, stop)
    return total


def seconds_text(line: SecondsLine) -> str:
    """One line for the console."""
    parts = [f"{line.found_s:.1f} s of video found: {line.in_clips_s:.1f} s in clips"]
    parts += [f"{s:.1f} s {reason}" for reason, s in line.left_out_s.items()]
    unknown = f"; {line.num_unknown} sources of unknown length" if line.num_unknown else ""
    return ", ".join(parts) + unknown
