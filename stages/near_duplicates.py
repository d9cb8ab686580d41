"""Which clips show the same pictures as another one? Transcodes, re-uploads, crops of the sound alone.

Windows of one shot of one source are different moments by construction and are never compared: a person who
hardly moves would lose all but one of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

from schemas.errors import InvariantError
from schemas.rows import Clip
from stages.picture import hash_distance

Twins = dict[str, tuple[str, int]]
"""Per dropped clip: the clip that stands for it, and the bits that differ."""


def near_duplicates(clips: Sequence[Clip], max_bits: int) -> Twins:
    """Find clips within ``max_bits`` of a better one; the same for any order of ``clips``.

    The best come first (fewest repeated frames, sharpest, then by content), each takes in what is near it.
    Two hashes that differ in at most ``max_bits`` bits agree in one of ``max_bits + 1`` bands (pigeonhole), so
    only clips that share a band are compared.
    """
    kept: dict[tuple[int, str], list[Clip]] = defaultdict(list)
    twins: Twins = {}
    for clip in sorted(clips, key=_preference):
        bands = list(enumerate(_bands(_hash(clip), max_bits + 1)))
        seen = (other for band in bands for other in kept[band])
        best = _nearest(clip, seen, max_bits)
        if best:
            twins[clip.clip_id] = best
            continue
        for band in bands:
            kept[band].append(clip)
    return twins


def _nearest(clip: Clip, others: Iterable[Clip], max_bits: int) -> tuple[str, int] | None:
    best: tuple[str, int] | None = None
    for other in others:
        if _same_shot(clip, other):
            continue
        bits = hash_distance(_hash(clip), _hash(other))
        if bits <= max_bits and (best is None or (bits, other.clip_id) < (best[1], best[0])):
            best = (other.clip_id, bits)
    return best


def _same_shot(a: Clip, b: Clip) -> bool:
    return a.source_id == b.source_id and a.media.shot_index == b.media.shot_index


def _bands(phash: str, count: int) -> list[str]:
    """The hash's bits in ``count`` nearly equal pieces."""
    bits = f"{int(phash, 16):0{4 * len(phash)}b}"
    edges = [round(i * len(bits) / count) for i in range(count + 1)]
    return [bits[a:b] for a, b in pairwise(edges)]


def _hash(clip: Clip) -> str:
    if clip.quality is None:
        raise InvariantError("near duplicates are looked for before quality")
    return clip.quality.phash


def _preference(clip: Clip) -> tuple[float, float, str, float, str]:
    if clip.quality is None:
        raise InvariantError("near duplicates are looked for before quality")
    q = clip.quality
    # rounded: coding noise must not decide between two copies
    return (
        round(q.freeze_share, 1), -float(f"{q.sharpness:.1g}"), clip.source_id, clip.start_s, clip.clip_id,
    )  # fmt: skip
