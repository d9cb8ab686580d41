"""The HOI structure stream: the body's mesh and the held object, frame by frame.

Two styles, both on black. ``silhouette`` (default) has no texture and no light: the red channel is the body,
green the hands, blue the object, each 255. ``shaded`` is the published look: one cream material lit from the
front, the object's own pixels on top. The object's mask leaves out fingers that lie in front of it, so the
mesh shows there; where the mask is set, the object covers the mesh.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import cv2
import numpy as np
from pydantic import Field

from schemas.backend import Resources
from schemas.base import BackendRef
from schemas.errors import ConfigError, ModelOutputError
from schemas.facets import StructureFacet
from schemas.rows import Clip
from schemas.settings import PLACE
from stages.base import Dropped, GateConfig, Kept, Stage, StageConfig
from stages.body.detections import HEAD_M
from stages.body.hoi_metrics import (
    BODY,
    LEFT_HAND,
    RIGHT_HAND,
    FrameMetrics,
    count_onsets,
    frame_metrics,
)
from stages.body_models.open_body import BodyModel, SmplxSource, stored_body
from stages.body_models.rendering import (
    Camera,
    MeshRenderer,
    Rendered,
    check_renderer,
    renderer_ref,
)
from stages.files import Files
from stages.gates import AtLeast, AtMost, first_failure
from stages.kit.arrays import Arrays, Flags, Frames, Mask
from stages.kit.landmarks import Landmarks
from stages.kit.masks import decode_masks
from stages.kit.scores import known_median

Style = Literal["silhouette", "shaded"]
CREAM_RGB = (232, 216, 200)
AMBIENT = 0.42
"""Brightness of a surface turned away from the light, against 1 facing it."""
_CHUNK = 27
"""Frames that are skinned at once: 27 x 13718 vertices are 4.5 MB."""
_MEASURE_EVERY = 2
"""Metrics look at every second pixel of every second row: distances there are tens of pixels."""


class StructureGate(GateConfig):
    """When a structure stream teaches nothing."""

    min_body_visible_share: float = Field(default=0.9, ge=0, le=1)
    min_matte_iou: float = Field(default=0.6, ge=0, le=1)
    min_any_contact_share: float = Field(default=0.2, ge=0, le=1)
    min_object_visible_share: float = Field(default=0.5, ge=0, le=1)
    min_hand_visible_share: float = Field(default=0.3, ge=0, le=1)
    max_depth_conflict: float = Field(default=0.5, ge=0, le=1)
    """More of the product over what the mesh has in front of it: the arm was fitted behind the body."""
    max_object_cut_share: float = Field(default=0.8, ge=0, le=1)
    """A product that is hardly ever whole in the picture."""


class StructureConfig(StageConfig):
    """How the stream looks and what counts as touching."""

    style: Style = "silhouette"
    contact_reach_head: float = Field(default=0.08, gt=0, le=1)
    """A hand within this many head heights of the object touches it (about 2 cm)."""
    band_head: float = Field(default=0.10, ge=0, le=1)
    """Clothes and hair may stand this far out of the mesh (head heights)."""
    max_gap_frames: int = Field(default=12, ge=0)
    """The body is drawn at most this far from a frame in which its pose was seen."""
    max_hand_gap_frames: int = Field(default=4, ge=0)
    """A hand is drawn as one at most this far from a frame in which it was seen."""
    min_area_share: float = Field(default=0.0005, ge=0, le=1)
    """A part counts as visible from this share of the picture on."""
    smplx_model_file: Annotated[str, PLACE] = ""
    """Where body.backend is smplx: the same file as body.backend.model_file."""
    crf: int = Field(default=12, ge=0, le=40)
    gate: StructureGate = Field(default_factory=StructureGate)


@dataclass(frozen=True, slots=True)
class Scene:
    """What the frames of one clip are drawn from."""

    body: Arrays
    """Of the ``body`` facet."""
    object_masks: Mask
    """(T,H,W)."""
    mattes: Mask
    """(T,H,W) the person."""
    rgb: Frames
    """(T,H,W,3)."""
    num_motion_frames: int
    hands_seen: Mask
    """(T,2) the left, the right hand was seen; one that was not is drawn as a part of the arm."""


class StructureStage(Stage[StructureConfig, Clip, Clip]):
    """Renders the body, fuses the object, measures contact."""

    name: ClassVar[str] = "structure"
    version: ClassVar[int] = 3
    facet: ClassVar[str] = "structure"
    config_type: ClassVar[type[StageConfig]] = StructureConfig
    row_in: ClassVar[type[Clip]] = Clip
    row_out: ClassVar[type[Clip]] = Clip
    needs: ClassVar[tuple[str, ...]] = ("segment", "detect", "objects", "body")
    reasons: ClassVar[frozenset[str]] = frozenset(
        {
            "empty_structure",
            "mesh_off_person",
            "no_contact",
            "object_missing",
            "object_cut_off",
            "depth_conflict",
            "hands_missing",
            "bad_mesh",
        }
    )
    _renderer: MeshRenderer | None = None
    _renderer_key: tuple[Any, ...] = ()

    @property
    def needed(self) -> Resources:
        """Software rendering is one busy core."""
        return Resources(num_cpus=0.5, memory_bytes=2_000_000_000)

    def check(self) -> None:
        """Raise ConfigError if nothing can render offscreen here."""
        check_renderer()
        if self.config.smplx_model_file:
            SmplxSource(self.config.smplx_model_file).check()

    def process(self, row: Clip, files: Files) -> Kept[Clip] | Dropped:
        """Draw every frame, motion context too, and measure the target frames.

        Raises:
            DataError: ``bad_mesh`` if the body's parameters do not give a finite mesh.
            ConfigError: See ``check_same_model``.
        """
        check_same_model(row.need("body").backend, self.config.smplx_model_file)
        scene = self._scene(row, files)
        model = stored_body(row.need("body").backend.name, self.config.smplx_model_file, scene.body)
        renderer = self._open_renderer(model, row, scene.body)
        frames, metrics = draw(model, renderer, scene, self.config)
        video = files.put_video(frames, fps=row.media.fps, crf=self.config.crf)
        table = metric_arrays(metrics)
        facet = StructureFacet(
            video=video,
            arrays=files.put_arrays(table),
            style=self.config.style,
            renderer=renderer_ref(),
            **structure_scores(table, row.media.num_motion_frames, self.config.min_area_share),
            **seen_shares(scene.hands_seen[row.media.num_motion_frames :]),
        )
        return Kept((row.with_facet("structure", facet),))

    def _scene(self, row: Clip, files: Files) -> Scene:
        size = (row.media.height_px, row.media.width_px)
        landmarks = Landmarks.read(files.arrays(row.need("detect").arrays))
        return Scene(
            body=files.arrays(row.need("body").arrays),
            object_masks=decode_masks(files.arrays(row.need("objects").arrays), "mask", *size),
            mattes=landmarks.matte(*size),
            rgb=files.frames(row.media.video),
            num_motion_frames=row.media.num_motion_frames,
            hands_seen=hands_seen(landmarks, self.config.max_hand_gap_frames),
        )

    def _open_renderer(self, model: BodyModel, row: Clip, body: Arrays) -> MeshRenderer:
        """Keep one renderer as long as size, lens and mesh stay the same."""
        focal, principal = float(body["focal_px"][0]), body["principal_px"]
        camera = Camera(
            row.media.width_px,
            row.media.height_px,
            focal,
            (float(principal[0]), float(principal[1])),
        )
        mesh = hashlib.sha256(model.faces.tobytes() + model.part_labels.tobytes()).digest()
        key = (mesh, camera)
        if self._renderer is None or key != self._renderer_key:
            if self._renderer is not None:
                self._renderer.close()
            self._renderer = MeshRenderer(model.faces, model.part_labels, camera)
            self._renderer_key = key
        return self._renderer

    def gate(self, row: Clip) -> Dropped | None:
        """Judge the stream; an empty one is never kept."""
        facet, gate = row.need("structure"), self.config.gate
        return first_failure([
            AtLeast("empty_structure", "body_visible_share", facet.body_visible_share,
                    max(gate.min_body_visible_share, 1e-9)),
            AtLeast("mesh_off_person", "matte_iou", facet.matte_iou, gate.min_matte_iou),
            AtLeast("object_missing", "object_visible_share", facet.object_visible_share,
                    gate.min_object_visible_share),
            AtLeast("hands_missing", "hand_visible_share", facet.hand_visible_share,
                    gate.min_hand_visible_share),
            AtLeast("no_contact", "any_contact_share", facet.any_contact_share, gate.min_any_contact_share),
            AtMost("object_cut_off", "object_cut_share", facet.object_cut_share, gate.max_object_cut_share),
            AtMost("depth_conflict", "depth_conflict", facet.depth_conflict, gate.max_depth_conflict),
        ])  # fmt: skip


def check_same_model(fitted: BackendRef, smplx_model_file: str) -> None:
    """Check that an SMPL-X body is drawn with the file that it was fitted with.

    Raises:
        ConfigError: It is not: the mesh would be another one than the fit's.
    """
    if fitted.name != "smplx":
        return
    is_same = smplx_model_file and (
        SmplxSource(smplx_model_file).ref.weights_sha256 == fitted.weights_sha256
    )
    if not is_same:
        raise ConfigError(
            f"structure.smplx_model_file={smplx_model_file!r} is not the file of body.backend.model_file (sha256 "
            f"{fitted.weights_sha256}); name the same file in both"
        )


def draw(
    model: BodyModel, renderer: MeshRenderer, scene: Scene, config: StructureConfig
) -> tuple[Frames, list[FrameMetrics]]:
    """Render, fuse and measure every frame: (T,H,W,3) u8 RGB and T metrics."""
    num_frames = len(scene.rgb)
    drawn = near_valid(scene.body["is_valid"].astype(bool), config.max_gap_frames)
    frames = np.empty_like(scene.rgb)
    metrics: list[FrameMetrics] = []
    head_px = renderer.camera.focal_px * HEAD_M / body_distance_m(scene.body)
    for start in range(0, num_frames, _CHUNK):
        stop = min(start + _CHUNK, num_frames)
        vertices = model.vertices(scene.body, start, stop)
        if not np.isfinite(vertices).all():
            raise ModelOutputError("bad_mesh", f"frames {start} to {stop}: vertices not finite")
        for index in range(start, stop):
            here = vertices[index - start]
            rendered = renderer.render(here) if drawn[index] else renderer.empty()
            for label, is_seen in zip(
                (LEFT_HAND, RIGHT_HAND), scene.hands_seen[index], strict=True
            ):
                if not is_seen:
                    rendered.part[rendered.part == label] = BODY
            mask = scene.object_masks[index]
            frames[index] = fuse(rendered, mask, scene.rgb[index], config.style)
            every = slice(None, None, _MEASURE_EVERY)
            metrics.append(
                frame_metrics(
                    rendered.part[every, every],
                    rendered.depth_m[every, every],
                    mask[every, every],
                    scene.mattes[index][every, every],
                    reach_px=config.contact_reach_head * head_px / _MEASURE_EVERY,
                    band_px=config.band_head * head_px / _MEASURE_EVERY,
                )
            )
    return frames, metrics


def body_distance_m(body: Arrays) -> float:
    """Median distance of the root from the camera."""
    return float(max(np.median(-body["translation_m"][:, 2]), 0.1))


def near_valid(is_valid: Flags, max_gap: int) -> Flags:
    """(T,) frames at most ``max_gap`` away from a valid one.

    >>> near_valid(np.array([1, 0, 0, 0], bool), 1).astype(int).tolist()
    [1, 1, 0, 0]
    """
    kernel = np.ones(2 * max_gap + 1, np.int64)
    return np.asarray(np.convolve(is_valid.astype(np.int64), kernel, "same")[: len(is_valid)] > 0)


def hands_seen(landmarks: Landmarks, max_gap: int) -> Flags:
    """(T,2) frames at most ``max_gap`` away from one with landmarks of the left, the right hand."""
    return np.stack([near_valid(one, max_gap) for one in landmarks.hands_seen.T], axis=1)


def fuse(rendered: Rendered, object_mask: Mask, rgb: Frames, style: Style) -> Frames:
    """One frame (H,W,3) u8 RGB: mesh first, the object over it."""
    if style == "silhouette":
        body = ((rendered.part == 1) & ~object_mask).view(np.uint8) * np.uint8(255)
        hands = ((rendered.part >= 2) & ~object_mask).view(np.uint8) * np.uint8(255)
        thing = object_mask.view(np.uint8) * np.uint8(255)
        return np.asarray(cv2.merge([body, hands, thing]), np.uint8)
    lit = cv2.LUT(cv2.merge([rendered.shade] * 3), _CREAM_BY_LIGHT)
    frame = cv2.copyTo(lit, rendered.part)
    return np.asarray(cv2.copyTo(rgb, object_mask.view(np.uint8), frame), np.uint8)


def _cream_by_light() -> Frames:
    """(1,256,3): cream from ambient to full light."""
    light = AMBIENT + (1 - AMBIENT) * np.arange(256)[None, :, None] / 255
    return np.asarray((light * np.array(CREAM_RGB)).round(), np.uint8)


_CREAM_BY_LIGHT = _cream_by_light()


def metric_arrays(metrics: list[FrameMetrics]) -> Arrays:
    """Per-frame arrays as stored."""
    floats = (
        "matte_iou", "penetration", "depth_conflict", "body_area", "hand_area", "object_area",
    )  # fmt: skip
    table: Arrays = {
        name: np.array([getattr(m, name) for m in metrics], np.float32) for name in floats
    }
    table["contact"] = np.array([m.contact for m in metrics], np.uint8)
    table["is_cut"] = np.array([m.is_cut for m in metrics], np.uint8)
    return table


def structure_scores(
    table: Arrays, num_motion_frames: int, min_area_share: float
) -> dict[str, Any]:
    """The facet's numbers over the target frames."""
    target = {name: values[num_motion_frames:] for name, values in table.items()}
    contact = target["contact"].astype(bool)
    return {
        "matte_iou": float(np.median(target["matte_iou"])),
        "left_contact_share": float(contact[:, 0].mean()),
        "right_contact_share": float(contact[:, 1].mean()),
        "any_contact_share": float(contact.any(1).mean()),
        "num_contact_onsets": count_onsets(contact),
        "penetration": known_median(target["penetration"]),
        "depth_conflict": known_median(target["depth_conflict"]),
        "object_cut_share": float(target["is_cut"].mean()),
        "object_visible_share": float((target["object_area"] >= min_area_share).mean()),
        "body_visible_share": float((target["body_area"] >= min_area_share).mean()),
        "hand_visible_share": float((target["hand_area"] >= min_area_share).mean()),
    }


def seen_shares(seen: Flags) -> dict[str, float]:
    """Of target frames (T,2): how many show the left, the right hand."""
    left, right = seen.mean(axis=0).tolist()
    return {"left_hand_seen_share": left, "right_hand_seen_share": right}
