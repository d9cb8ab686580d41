"""How well the product is found on real videos with hand-made masks. Gates are applied as in a run.

Reads ``held_products/frames.csv`` (clip, frame_index, video, holding_hands ...) with one mask a row, and the clips of
empty hands beside it. Each video is cut into parts as long as a window; a part is what the stages see.
"""

from __future__ import annotations

import csv
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.chain import Chain, build_chain
from curation.recipe import Recipe
from jobs.bench.pictures import strip
from jobs.bench.rows import row_of
from jobs.bench.scores import calibration_error, mask_iou
from schemas.errors import ConfigError
from stages.base import Kept
from stages.files import Files, FolderBlobs
from stages.kit.arrays import Frames, Mask
from stages.kit.masks import decode_masks

PART_FRAMES, SHORT_SIDE_PX = 81, 480
_GOOD, _BAD = 0.7, 0.5


@dataclass(frozen=True)
class Part:
    """Frames of one video and what is known of them."""

    clip: str
    first: int
    """Number of its first frame in the video."""
    frames: Frames
    """(T,H,W,3) RGB."""
    masks: dict[int, Mask]
    """Index inside the part: mask at the frames' size. Empty for hands that hold nothing."""


@dataclass
class PartScores:
    """What the stages made of a part."""

    part: str
    clip: str
    lost_at: str
    overlap: list[float]
    """J of each annotated frame."""
    confidence: list[float]
    masked_share: float
    """Share of all frames that have a mask."""
    cpu_s: dict[str, float]


def measure_real(
    data: Path,
    stages: dict[str, Any],
    progress: Callable[[str, int, int], None],
    pictures: Path | None = None,
    clips: Sequence[str] = (),
) -> tuple[list[PartScores], list[PartScores]]:
    """Scores of parts that hold a product, and of parts that hold nothing.

    Args:
        data: Holds ``held_products`` and ``empty_hands``.
        stages: Settings per stage, as in a recipe.
        progress: Told what is done, how much, of how much.
        pictures: Folder for a strip of the annotated frames per part.
        clips: Names to measure; all when empty.

    Raises:
        ConfigError: There are no annotated frames, or none of a clip that is named.
    """
    videos = annotated_videos(data)
    if unknown := sorted(set(clips) - set(videos)):
        raise ConfigError(
            f"{data}: no annotated clip {unknown[0]!r}; there are {', '.join(videos)}"
        )
    videos = {clip: videos[clip] for clip in videos if not clips or clip in clips}
    chain = build_chain(Recipe(name="accuracy", stages=stages))
    for name in ("detect", "objects"):
        chain[name].setup()
    empty = sorted((data / "empty_hands").glob("*.mkv")) if not clips else []
    held, none, num_films = [], [], len(videos) + len(empty)
    with tempfile.TemporaryDirectory(prefix="handloom-bench-") as folder:
        files = Files(FolderBlobs(Path(folder) / "root"), Path(folder) / "scratch")
        for n, (clip, (path, masks)) in enumerate(videos.items()):
            progress(f"real: {clip}", n, num_films)
            for part in parts_of(clip, path, masks):
                held += [_measure(chain, files, part, pictures)] if part.masks else []
        for n, path in enumerate(empty):
            progress(f"real: {path.stem}", len(videos) + n, num_films)
            parts = parts_of(path.stem, path, {})
            none += [_measure(chain, files, part, pictures) for part in parts]
    progress("real", num_films, num_films)
    return held, none


def annotated_videos(data: Path) -> dict[str, tuple[Path, dict[int, Path]]]:
    """By clip: its video, and its masks by frame index.

    Raises:
        ConfigError: There are none.
    """
    table = data / "held_products" / "frames.csv"
    if not table.is_file():
        raise ConfigError(f"{data}: no annotated frames; held_products/frames.csv is missing")
    masks: dict[str, dict[int, Path]] = defaultdict(dict)
    paths = {}
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            index = int(row["frame_index"])
            masks[row["clip"]][index] = table.parent / f"{row['clip']}__{index:06}.png"
            paths[row["clip"]] = data / row["video"]
    return {clip: (paths[clip], masks[clip]) for clip in masks}


def parts_of(clip: str, path: Path, masks: dict[int, Path]) -> Iterator[Part]:
    """A video in parts of 81 frames; a rest shorter than a quarter of that joins the part before."""
    frames = list(_decode(path))
    size = frames[0].shape[1::-1]
    starts = list(range(0, max(len(frames) - PART_FRAMES // 4, 1), PART_FRAMES))
    for first, stop in zip(starts, [*starts[1:], len(frames)], strict=True):
        known = {
            index - first: cv2.resize(
                np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)),
                size,
                interpolation=cv2.INTER_AREA,
            )
            > 127
            for index, file in masks.items()
            if first <= index < stop
        }
        yield Part(clip, first, np.stack(frames[first:stop]), known)


def _decode(path: Path) -> Iterator[Frames]:
    import av

    with av.open(str(path)) as file:
        for frame in file.decode(video=0):
            scale = SHORT_SIDE_PX / min(frame.width, frame.height)
            width, height = (round(v * scale / 2) * 2 for v in (frame.width, frame.height))
            image = frame.to_ndarray(format="rgb24")
            yield np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def _measure(chain: Chain, files: Files, part: Part, pictures: Path | None) -> PartScores:
    with files.row_scope():
        row = row_of(part.frames, files, f"{part.first:016x}")
    lost_at, cpu_s = "", {}
    for name in ("detect", "objects"):
        begun = time.process_time()
        with files.row_scope():
            done = chain[name].process(row, files)
        cpu_s[name] = time.process_time() - begun
        if not isinstance(done, Kept):
            lost_at = lost_at or f"{name}: {done.reason}"
            break
        row = done.rows[0]
        if (dropped := chain[name].gate(row)) and not lost_at:
            lost_at = f"{name}: {dropped.reason}"
    length, height, width = part.frames.shape[:3]
    masks = np.zeros((length, height, width), bool)
    confidence = np.zeros(len(masks), np.float32)
    if row.objects is not None:
        arrays = files.arrays(row.objects.arrays)
        masks, confidence = (
            decode_masks(arrays, "mask", height, width),
            arrays["confidence"],
        )
    known = sorted(part.masks)
    name = f"{part.clip}-{part.first:04}"
    if known:
        true = np.stack([part.masks[t] for t in known])
        overlap = mask_iou(masks[known], true).tolist()
        if pictures is not None:
            _draw(pictures / f"{name}.png", part, masks, true, known)
    else:
        overlap = []
    shown = float(masks.any(axis=(1, 2)).mean())
    return PartScores(name, part.clip, lost_at, overlap, confidence[known].tolist(), shown, cpu_s)


def _draw(path: Path, part: Part, masks: Mask, true: Mask, known: Sequence[int]) -> None:
    """A strip of the annotated frames with masks (T,H,W) and true masks (N,H,W) of these frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = strip(part.frames[known], masks[known], true, None)
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def summarise_real(held: Sequence[PartScores], none: Sequence[PartScores]) -> dict[str, float]:
    """The table's figures."""
    overlap = np.array([j for s in held for j in s.overlap])
    confidence = np.array([c for s in held for c in s.confidence])
    kept = [s for s in held if not s.lost_at]
    masked = [s.masked_share for s in none]
    return {
        "product mask J": float(overlap.mean()),
        "frames with J >= 0.7": float((overlap >= _GOOD).mean()),
        "parts kept": len(kept) / len(held),
        "clips with a kept part": len({s.clip for s in kept}),
        "clips": len({s.clip for s in held}),
        "kept parts with J < 0.5": float(sum(np.mean(s.overlap) < _BAD for s in kept)),
        "nothing held: frames with a mask": float(np.mean(masked)) if masked else float("nan"),
        "nothing held: parts kept": float(sum(not s.lost_at for s in none)),
        "expected calibration error": calibration_error(confidence, overlap),
        "CPU s a part, detect": float(np.mean([s.cpu_s.get("detect", 0) for s in held])),
        "CPU s a part, objects": float(np.mean([s.cpu_s.get("objects", 0) for s in held])),
    }


def render_real(
    held: Sequence[PartScores], none: Sequence[PartScores], figures: dict[str, float]
) -> str:
    """Markdown: figures, then each part."""
    lines = ["| measure | value |", "|---|---|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in figures.items()]
    lines += [
        "",
        "| part | J per annotated frame (confidence) | mean J | dropped by |",
        "|---|---|---|---|",
    ]
    for s in held:
        each = " ".join(f"{j:.2f} ({c:.2f})" for j, c in zip(s.overlap, s.confidence, strict=True))
        lines.append(f"| {s.part} | {each} | {np.mean(s.overlap):.2f} | {s.lost_at} |")
    if none:
        lines += ["", "| nothing held | frames with a mask | dropped by |", "|---|---|---|"]
        lines += [f"| {s.part} | {s.masked_share:.2f} | {s.lost_at} |" for s in none]
    return "\n".join(lines)
