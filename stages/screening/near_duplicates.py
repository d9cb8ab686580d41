"""Which clips show the same pictures as another one?

Transcodes, re-uploads and copies with other sound have near hashes; takes that come again mirrored, cropped or under a
caption move in the same rhythm (stages/screening/same_take.py).

Windows of one shot of one source are different moments by construction and are never compared: a person who
hardly moves would lose all but one of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from schemas.errors import InvariantError
from schemas.rows import Clip
from stages.screening.picture import hash_distance
from stages.screening.same_take import candidates, same_moments

_MAX_LOOKS = 16
"""Of the clips that stay, so many with the most alike rhythm are looked at: a copy is among the first."""


@dataclass(frozen=True, slots=True)
class Twin:
    """Why a clip is not needed."""

    kept_id: str
    """The clip that stands for it."""
    num_bits: int
    """Bits of the two hashes that differ."""
    same_moments: float | None = None
    """How alike the two takes change; None where the hashes are near enough."""

    @property
    def detail(self) -> str:
        """For people."""
        if self.same_moments is None:
            return f"{self.num_bits} of 256 bits from clip {self.kept_id}"
        return (
            f"the take of clip {self.kept_id} made over (mirrored, cropped or captioned): "
            f"they change alike to {self.same_moments:.2f}"
        )


def near_duplicates(
    clips: Sequence[Clip], max_bits: int, min_same_moments: float | None = None
) -> dict[str, Twin]:
    """Find clips that a better one stands for; the same for any order of ``clips``.

    The best come first (fewest repeated frames, sharpest, then by content), each takes in what is near it: within
    ``max_bits``, or of a take that changes alike to ``min_same_moments`` (None: hashes alone).
    Two hashes that differ in at most ``max_bits`` bits agree in one of ``max_bits + 1`` bands (pigeonhole), so
    only clips that share a band are compared.
    """
    kept: dict[tuple[int, str], list[Clip]] = defaultdict(list)
    stay: set[str] = set()
    alike = {} if min_same_moments is None else _alike(clips)
    twins: dict[str, Twin] = {}
    for clip in sorted(clips, key=_preference):
        bands = list(enumerate(_bands(_hash(clip), max_bits + 1)))
        best = _nearest(clip, (other for band in bands for other in kept[band]), max_bits)
        if best is None and min_same_moments is not None:
            others = [o for o in alike.get(clip.clip_id, ()) if o.clip_id in stay]
            best = _same_take(clip, others[:_MAX_LOOKS], min_same_moments)
        if best is not None:
            twins[clip.clip_id] = best
            continue
        stay.add(clip.clip_id)
        for band in bands:
            kept[band].append(clip)
    return twins


def _nearest(clip: Clip, others: Iterable[Clip], max_bits: int) -> Twin | None:
    distances = {
        other.clip_id: hash_distance(_hash(clip), _hash(other))
        for other in others
        if not _same_shot(clip, other)
    }
    near = [(bits, clip_id) for clip_id, bits in distances.items() if bits <= max_bits]
    return Twin(min(near)[1], min(near)[0]) if near else None


def _alike(clips: Sequence[Clip]) -> dict[str, list[Clip]]:
    """Clips that move in one rhythm, by id, the most alike first."""
    ordered = sorted(clips, key=lambda c: c.clip_id)  # sums are rounded alike for any order
    found = candidates([c.quality.take if c.quality else None for c in ordered])
    return {
        ordered[i].clip_id: [ordered[k] for k in sorted(others, key=lambda k: (-others[k], k))]
        for i, others in found.items()
    }


def _same_take(clip: Clip, others: Iterable[Clip], least: float) -> Twin | None:
    found = []
    for other in others:
        ours, theirs = clip.quality and clip.quality.take, other.quality and other.quality.take
        if ours and theirs and not _same_shot(clip, other):
            found.append((-same_moments(ours, theirs), other.clip_id, other))
    if not found or -min(found)[0] < least:
        return None
    moments, clip_id, other = min(found)
    return Twin(clip_id, hash_distance(_hash(clip), _hash(other)), -moments)


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
