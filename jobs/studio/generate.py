"""Writes studio clips: ``OUT/videos/NAME.mp4`` with sound, ``OUT/truth/NAME.json`` and ``NAME.npz``."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.studio.acting import Actor
from jobs.studio.casting import cast_empty, cast_object, product_for
from jobs.studio.catalogue import Object3D
from jobs.studio.drawing import CODES, Drawn, Shot, Stage
from jobs.studio.looks import dress
from jobs.studio.meshes import held_size_m
from jobs.studio.scripts import ClipScript, Take, find_scripts
from jobs.studio.voice import Speech, speak
from schemas.clock import FPS, SAMPLES_PER_FRAME
from schemas.errors import ConfigError
from stages.body_models.anny import AnnyBody, load_anny
from stages.body_models.body_tables import PART_LEFT_HAND, PART_RIGHT_HAND
from stages.body_models.rendering import check_renderer
from stages.kit import media
from stages.kit.arrays import F32, Arrays, Flags
from stages.kit.boxes import box_of
from stages.kit.landmarks import box_key
from stages.kit.masks import encode_masks

TRUTH_VERSION = 1
Progress = Callable[[str, int, int], None]
_MIN_INSIDE = 0.5
"""A box counts where at least so much of what it surrounds lies in the picture."""


@dataclass(frozen=True, slots=True)
class StudioClip:
    """Where one clip and its truth were written."""

    name: str
    video: Path
    truth_json: Path
    truth_arrays: Path


def generate(
    out_dir: Path,
    *,
    clips: list[str] | None = None,
    objects: Sequence[Object3D] = (),
    num_empty: int = 0,
    seed: int = 0,
    size_px: tuple[int, int] = (480, 832),
    progress: Progress | None = None,
) -> list[StudioClip]:
    """Render clips. The same names, objects, seed and size give the same frames, sound and truth.

    Args:
        out_dir: Target folder; a clip that is already there with its truth is kept.
        clips: Names of ``scripts.SCRIPTS``, ``["all"]`` for all; None renders the default two, or none where
            objects or empty hands are asked for.
        objects: Of a catalogue: a clip with each of them in somebody's hands.
        num_empty: Clips in which somebody talks with empty hands.
        seed: Varies people, prints, rooms, grips, sway and speech.
        size_px: Width and height, even; 480x832 unless told otherwise.
        progress: Called with a text, frames done and frames in all.

    Raises:
        ConfigError: Unknown clip, an object that cannot be read, odd size, or no offscreen OpenGL.
    """
    scripts = [cast_object(item, seed) for item in objects]
    scripts += [cast_empty(index, seed) for index in range(num_empty)]
    scripts += find_scripts(clips) if clips or not scripts else []
    if any(side % 2 or side < 64 for side in size_px):
        raise ConfigError(f"studio size {size_px}: expected even sides of at least 64 pixels")
    check_renderer()
    made = [_paths(out_dir, script.name) for script in scripts]
    for clip in made:
        clip.video.parent.mkdir(parents=True, exist_ok=True)
        clip.truth_json.parent.mkdir(parents=True, exist_ok=True)
    todo = [(s, c) for s, c in zip(scripts, made, strict=True) if not _is_there(c)]
    total, done = sum(s.num_frames for s, _ in todo), 0
    body = load_anny() if todo else None
    for script, clip in todo:
        assert body is not None

        def tick(frame: int, before: int = done, name: str = script.name) -> None:
            if progress:
                progress(f"studio: {name}", before + frame, total)

        _make(body, script, clip, seed, size_px, tick)
        done += script.num_frames
    return made


def _paths(out_dir: Path, name: str) -> StudioClip:
    return StudioClip(
        name,
        out_dir / "videos" / f"{name}.mp4",
        out_dir / "truth" / f"{name}.json",
        out_dir / "truth" / f"{name}.npz",
    )


def _is_there(clip: StudioClip) -> bool:
    # the JSON goes last: a clip without it is made again
    return all(p.is_file() for p in (clip.video, clip.truth_arrays, clip.truth_json))


def _make(
    body: AnnyBody,
    script: ClipScript,
    clip: StudioClip,
    seed: int,
    size_px: tuple[int, int],
    tick: Callable[[int], None],
) -> None:
    speech = speak(
        script.num_frames / FPS, seed + len(script.name), pitch_hz=script.takes[0].pitch_hz
    )
    opening = speech.opening[::SAMPLES_PER_FRAME][: script.num_frames] * script.speaks
    drawn: list[Drawn] = []
    holds: list[Flags] = []
    for index, take in enumerate(script.takes):
        start = len(drawn)
        stage, held = _stage(body, take, seed + index + take.variant, size_px)
        for frame in stage.frames(opening[start : start + take.num_frames]):
            drawn.append(frame)
            tick(len(drawn))
        holds.append(held)
    if script.frozen:
        first, stop = script.frozen
        drawn[first:stop] = [drawn[first]] * (stop - first)
    arrays = _truth_arrays(body, drawn, np.concatenate(holds), size_px, script)
    _write(script, clip, drawn, arrays, speech, seed, size_px)


def _stage(body: AnnyBody, take: Take, seed: int, size_px: tuple[int, int]) -> tuple[Stage, Flags]:
    person = take.person
    shape = body.shape_of(
        gender=person.gender, height=person.height, weight=person.weight, muscle=person.muscle
    )
    product = product_for(take, seed)
    actor = Actor(body, shape)
    acted = actor.act(take, product, seed)
    looks = dress(body, shape, person, seed)
    shot = Shot(take, float(actor.chest[1]), size_px)
    return Stage(body, shape, looks, product, acted, shot, seed), acted.holds


def _truth_arrays(
    body: AnnyBody,
    drawn: Sequence[Drawn],
    holds: Flags,
    size_px: tuple[int, int],
    script: ClipScript,
) -> Arrays:
    """Truth per frame, as docs/studio.md says."""
    shows = np.stack([d.shows for d in drawn])
    person = np.isin(shows, [CODES[n] for n in ("body", "left_hand", "right_hand", "face")])
    arrays: Arrays = {
        **encode_masks(shows == CODES["product"], "product"),
        **encode_masks(person, "person"),
        "joints_px": np.stack([d.joints_px for d in drawn]).astype(np.float32),
        "contact": holds,
    }
    faces = [box_of(d.shows == CODES["face"]) for d in drawn]
    arrays[box_key("face")] = np.stack(faces)
    for kind, part in (("left_hand", PART_LEFT_HAND), ("right_hand", PART_RIGHT_HAND)):
        chosen = body.part_labels == part
        boxes = [_box_round(d.vertices_px[chosen], size_px) for d in drawn]
        arrays[box_key(kind)] = np.stack(boxes)
    if script.frozen:  # what is shown is the first frozen frame's truth
        first, stop = script.frozen
        arrays["contact"][first:stop] = arrays["contact"][first]
    return arrays


def _box_round(points: F32, size_px: tuple[int, int]) -> F32:
    """Corners round projected points, cut to the picture; NaN where most lie outside."""
    inside = (points >= 0).all(1) & (points < np.array(size_px)).all(1)
    if inside.mean() < _MIN_INSIDE:
        return np.full(4, np.nan, np.float32)
    low, high = points.min(0), points.max(0)
    limit = np.array([*size_px, *size_px], np.float32)
    return np.clip(np.concatenate([low, high]), 0, limit).astype(np.float32)


def _write(
    script: ClipScript,
    clip: StudioClip,
    drawn: Sequence[Drawn],
    arrays: Arrays,
    speech: Speech,
    seed: int,
    size_px: tuple[int, int],
) -> None:
    samples = speech.samples if script.speaks else np.zeros_like(speech.samples)
    pictures = np.stack([d.picture for d in drawn])
    with tempfile.TemporaryDirectory(dir=clip.video.parent, prefix=".studio-") as folder:
        sound, video, packed = (Path(folder) / n for n in ("a.wav", "v.mp4", "t.npz"))
        media.write_wav(sound, samples)
        media.write_video(video, pictures, crf=17, audio=sound)
        np.savez_compressed(packed, allow_pickle=False, **arrays)
        video.replace(clip.video)
        packed.replace(clip.truth_arrays)
        text = Path(folder) / "t.json"
        text.write_text(json.dumps(_truth(script, speech, seed, size_px), indent=1))
        text.replace(clip.truth_json)


def _truth(
    script: ClipScript, speech: Speech, seed: int, size_px: tuple[int, int]
) -> dict[str, Any]:
    return {
        "truth_version": TRUTH_VERSION,
        "name": script.name,
        "seed": seed,
        "width_px": size_px[0],
        "height_px": size_px[1],
        "fps": FPS,
        "num_frames": script.num_frames,
        "cut_frames": list(script.cut_frames),
        "frozen_frames": list(script.frozen) if script.frozen else None,
        "speech_s": [list(i) for i in speech.intervals_s] if script.speaks else [],
        "joint_names": list(load_anny().bone_names),
        "takes": [_take_truth(take) for take in script.takes],
    }


def _take_truth(take: Take) -> dict[str, Any]:
    truth: dict[str, Any] = {
        "num_frames": take.num_frames,
        "product": take.product,
        "grip": take.grip,
        "framing": take.framing,
        "put_down_frame": take.put_down_frame,
        "person": asdict(take.person),
    }
    if isinstance(take.product, Object3D):
        item = take.product
        truth |= {
            "product": item.key,
            "object": {
                "name": item.name,
                "author": item.creator,
                "licence": item.licence,
                "longest_m": round(item.longest_cm / 100, 4),
                "held_longest_m": round(held_size_m(item.longest_cm / 100), 4),
            },
        }
    return truth
