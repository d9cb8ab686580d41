"""How well the stages see what studio clips really show. Thresholds are not applied: every clip counts."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from curation.chain import Chain, build_chain
from curation.recipe import Recipe
from jobs.bench.pictures import strip
from jobs.bench.scores import boundary_f, box_iou, error_after_dropping, f1, mask_iou
from jobs.studio.generate import StudioClip
from schemas.rows import Clip, SourceVideo
from stages.base import Kept
from stages.files import Files, FolderBlobs
from stages.kit.arrays import F32, F64, Flags
from stages.kit.landmarks import PARTS, Landmarks, box_key
from stages.kit.masks import decode_masks

SEEING = ("detect", "objects", "body", "structure")
TARGETS: dict[str, tuple[str, float]] = {
    "face box IoU": (">=", 0.75), "face recall at 0.5": (">=", 0.95), "hand box IoU": (">=", 0.60),
    "hand recall at 0.5": (">=", 0.90), "product mask J": (">=", 0.70), "joints PCK at 0.1 head": (">=", 0.90),
    "mesh on person IoU": (">=", 0.80), "contact F1": (">=", 0.85),
}  # fmt: skip
_PCK_BONES = ("upperarm01", "lowerarm01", "wrist", "finger2-1", "finger5-1")
_PCK_MIDDLE = ("neck01", "head", "spine01")


@dataclass
class ClipScores:
    """Per-frame scores of one window of one clip; NaN where truth has nothing to say."""

    name: str
    values: dict[str, F64] = field(default_factory=dict)
    contact: Flags | None = None
    true_contact: Flags | None = None
    confidence: F64 | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    lost_at: str = ""
    """The stage that could not go on, with its reason; later scores are then missing (masks count 0)."""


def measure(
    clips: Sequence[StudioClip],
    progress: Callable[[str, int, int], None],
    pictures: Path | None = None,
    stages: dict[str, Any] | None = None,
) -> list[ClipScores]:
    """Run the seeing stages on every window of the clips and score them.

    Args:
        clips: With their truth.
        progress: Told what is done, how much, of how much.
        pictures: Folder for a strip of frames per window.
        stages: Settings per stage, as in a recipe.
    """
    chain = build_chain(Recipe(name="accuracy", stages=stages or {}))
    for name in ("probe", "segment", *SEEING):
        chain[name].setup()
    scores = []
    with tempfile.TemporaryDirectory(prefix="handloom-bench-") as folder:
        files = Files(FolderBlobs(Path(folder) / "root"), Path(folder) / "scratch")
        for index, clip in enumerate(clips):
            progress(f"accuracy: {clip.name}", index, len(clips))
            scores += [
                _score(chain, files, clip, row, pictures) for row in windows_of(chain, files, clip)
            ]
        progress("accuracy", len(clips), len(clips))
    return scores


def windows_of(chain: Chain, files: Files, clip: StudioClip) -> list[Clip]:
    """The windows that probe and segment cut from a studio clip."""
    data = clip.video.read_bytes()
    rows: list[Any] = [
        SourceVideo(
            uri=str(clip.video.absolute()),
            num_bytes=len(data),
            content_sha256=sha256(data).hexdigest(),
        )
    ]
    for name in ("probe", "segment"):
        following: list[Any] = []
        for row in rows:
            with files.row_scope():
                done = chain[name].process(row, files)
            following += done.rows if isinstance(done, Kept) else []
        rows = following
    return rows


def _score(
    chain: Chain, files: Files, clip: StudioClip, row: Clip, pictures: Path | None
) -> ClipScores:
    truth = json.loads(clip.truth_json.read_text())
    with np.load(clip.truth_arrays, allow_pickle=False) as packed:
        arrays = dict(packed)
    score = ClipScores(f"{clip.name} {row.start_s:.2f}s")
    for name in SEEING:
        begun = time.perf_counter()
        with files.row_scope():
            done = chain[name].process(row, files)
        score.seconds[name] = time.perf_counter() - begun
        if not isinstance(done, Kept):
            score.lost_at = f"{name}: {done.reason}"
            break
        row = done.rows[0]
        dropped = chain[name].gate(row)
        if dropped and not score.lost_at:
            score.lost_at = f"{name}: {dropped.reason}"
    _compare(score, files, row, truth, arrays)
    if pictures is not None and row.objects is not None:
        _draw(pictures / f"{clip.name}-{row.start_s:.2f}s.jpg", files, row, truth, arrays)
    return score


def _draw(
    path: Path, files: Files, row: Clip, truth: dict[str, Any], arrays: dict[str, Any]
) -> None:
    assert row.objects is not None
    size = (truth["height_px"], truth["width_px"])
    first = round(row.motion_start_s * truth["fps"])
    target = slice(row.media.num_motion_frames, None)
    true = decode_masks(arrays, "product", *size)[first : first + row.media.num_frames][target]
    found = decode_masks(files.arrays(row.objects.arrays), "mask", *size)[target]
    joints = None if row.body is None else files.arrays(row.body.arrays)["joints_px"][target]
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = strip(files.frames(row.media.video)[target], found, true, joints)
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])


def _compare(
    score: ClipScores, files: Files, row: Clip, truth: dict[str, Any], arrays: dict[str, Any]
) -> None:
    size = (truth["height_px"], truth["width_px"])
    if size != (row.media.height_px, row.media.width_px):
        raise ValueError(
            f"{score.name}: the clip is not at the truth's size {size}; render it at a bucket's size"
        )
    first = round(row.motion_start_s * truth["fps"]) + row.media.num_motion_frames
    count = row.media.num_frames - row.media.num_motion_frames
    when, target = slice(first, first + count), slice(row.media.num_motion_frames, None)
    if row.detect is not None:
        for part, track in Landmarks.read(files.arrays(row.detect.arrays)).parts.items():
            score.values[part] = box_iou(track.box_xyxy_px[target], arrays[box_key(part)][when])
    product = decode_masks(arrays, "product", *size)[when]
    if row.objects is None:
        score.values["J"], score.values["F"] = np.zeros(count), np.zeros(count)
        score.confidence = np.zeros(count)
        return
    objects = files.arrays(row.objects.arrays)
    mask = decode_masks(objects, "mask", *size)[target]
    score.values["J"], score.values["F"] = mask_iou(mask, product), boundary_f(mask, product)
    score.confidence = objects["confidence"][target].astype(np.float64)
    if row.body is not None:
        fitted = files.arrays(row.body.arrays)["joints_px"][target]
        score.values["PCK"] = _pck(fitted, arrays["joints_px"][when], arrays, when, truth)
    if row.structure is not None:
        table = files.arrays(row.structure.arrays)
        hoi = files.frames(row.structure.video)[target]
        person = decode_masks(arrays, "person", *size)[when]
        score.values["mesh"] = mask_iou(np.asarray((hoi > 100).any(-1)), person | product)
        score.contact = table["contact"][target].astype(bool)
        score.true_contact = arrays["contact"][when].astype(bool)


def _pck(found: F32, true: F32, arrays: dict[str, Any], when: slice, truth: dict[str, Any]) -> F64:
    """Share per frame of the named joints inside the picture that are within 0.1 head of the truth."""
    names = truth["joint_names"]
    wanted = [names.index(f"{b}.{s}") for b in _PCK_BONES for s in "LR"]
    wanted += [names.index(b) for b in _PCK_MIDDLE]
    face = arrays[box_key("face")][when]
    head = 1.25 * np.nanmedian(face[:, 3] - face[:, 1])  # the face box ends at the hairline
    miss = np.linalg.norm(found[:, wanted] - true[:, wanted], axis=-1)
    size = np.array([truth["width_px"], truth["height_px"]])
    seen = ((true[:, wanted] >= 0) & (true[:, wanted] < size)).all(-1)
    near = np.where(seen, miss <= 0.1 * head, np.nan)
    return np.asarray(np.nanmean(near, axis=1))


def summarise(scores: Sequence[ClipScores]) -> dict[str, float]:
    """The table's figures over all frames of all windows."""
    face, hand = _all(scores, "face"), np.concatenate([_all(scores, k) for k in PARTS[1:]])
    j = _all(scores, "J")
    confidence = np.concatenate([s.confidence for s in scores if s.confidence is not None])
    before, after = error_after_dropping(j, confidence)
    pairs = [(s.contact, s.true_contact) for s in scores if s.contact is not None]
    contact = f1(
        np.concatenate([a for a, _ in pairs]),
        np.concatenate([b for _, b in pairs if b is not None]),
    )
    return {
        "face box IoU": float(np.nanmean(face)),
        "face recall at 0.5": _recall(face),
        "hand box IoU": float(np.nanmean(hand)),
        "hand recall at 0.5": _recall(hand),
        "product mask J": float(np.nanmean(j)),
        "product mask J, clips that the gates keep": float(
            np.nanmean(_all([s for s in scores if not s.lost_at], "J"))
        ),
        "product boundary F": float(np.nanmean(_all(scores, "F"))),
        "joints PCK at 0.1 head": float(np.nanmean(_all(scores, "PCK"))),
        "mesh on person IoU": float(np.nanmean(_all(scores, "mesh"))),
        "contact F1": contact,
        "mask error, all frames": before,
        "mask error, surest 80 %": after,
    }


def _all(scores: Sequence[ClipScores], key: str) -> F64:
    parts = [s.values[key] for s in scores if key in s.values]
    return np.concatenate(parts) if parts else np.full(1, np.nan)


def _recall(iou: F64) -> float:
    known = iou[np.isfinite(iou)]
    return float((known >= 0.5).mean()) if len(known) else float("nan")


def render(scores: Sequence[ClipScores], figures: dict[str, float]) -> str:
    """Markdown: the figures with their targets, then each window."""
    lines = ["| measure | value | wanted | |", "|---|---|---|---|"]
    for name, value in figures.items():
        sign, limit = TARGETS.get(name, ("", float("nan")))
        verdict = "" if not sign else ("met" if value >= limit else "missed")
        lines.append(
            f"| {name} | {value:.3f} | {f'{sign} {limit:g}' if sign else ''} | {verdict} |"
        )
    keys = ("face", "left_hand", "right_hand", "J", "F", "PCK", "mesh")
    lines += [
        "",
        f"| window | {' | '.join(keys)} | contact F1 | dropped by |",
        "|---" * (len(keys) + 3) + "|",
    ]
    for s in scores:
        cells = [
            f"{np.nanmean(s.values[k]):.2f}"
            if k in s.values and np.isfinite(s.values[k]).any()
            else ""
            for k in keys
        ]
        touch = (
            f"{f1(s.contact, s.true_contact):.2f}"
            if s.contact is not None and s.true_contact is not None
            else ""
        )
        lines.append(f"| {s.name} | {' | '.join(cells)} | {touch} | {s.lost_at} |")
    medians = {n: np.median([s.seconds[n] for s in scores if n in s.seconds]) for n in SEEING}
    lines += [
        "",
        "Median seconds per window (81 frames and up to 73 before): "
        + ", ".join(f"{n} {v:.1f}" for n, v in medians.items()),
    ]
    return "\n".join(lines)
