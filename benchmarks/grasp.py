"""Whether fingers reach the product that they hold, on studio clips, without and with ``body.backend.grasp``.

    python benchmarks/grasp.py [--clip NAME ...] [--found] [--sink] [--scratch DIR]

The truth is the studio's own hand and product in three dimensions. A fitted tip is compared where its pixel and its depth
relative to the palm put it in the true scene. Per clip, medians over tips that truly touch (closer than 1.5 cm), or shares:
``off`` error of the distance to the product's true surface in cm, ``near`` within 2 cm of it, ``in`` 5 mm or more inside,
``miss`` distance to the true tip in cm; ``hand`` reprojection error in head heights; ``sunk`` share of vertices behind the
trunk; then the structure stream's own scores, and CPU seconds of the body stage.

Masks are the true ones; ``--found`` takes those of ``objects``. ``--sink`` has the detector say that elbows and wrists are
15 and 30 cm farther away than it found them.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # noqa: TID251 - a script, not a package

import numpy as np
import torch

from curation.chain import build_chain
from curation.recipe import Recipe
from jobs.bench.accuracy import windows_of
from jobs.studio.acting import Actor
from jobs.studio.drawing import Shot, frame_camera
from jobs.studio.generate import generate
from jobs.studio.products import make_product
from jobs.studio.scripts import SCRIPTS
from schemas.clock import FPS
from stages.body.body import BodyConfig, BodyStage
from stages.body.front import trunk_vertices
from stages.body.solve import Pinhole, project
from stages.body.structure import StructureConfig, StructureStage
from stages.body_models.anny import load_anny
from stages.body_models.rendering import Camera, MeshRenderer
from stages.body_models.rig import SIDES, anny_roles
from stages.files import Files, FolderBlobs
from stages.kit.landmarks import Landmarks
from stages.kit.masks import decode_masks, encode_masks

CLIPS = ("clean", "box_left", "jar_both", "bag_both", "card_right", "tube_right")
SIZE_PX = (480, 832)
SEED = 0


@dataclass(frozen=True)
class Truth:
    """Hands and product of the first take of a clip, camera axes: T frames."""

    hands: dict[str, np.ndarray]
    """(T,21,3)."""
    holds: np.ndarray
    """(T,2)."""
    turn: np.ndarray
    place: np.ndarray
    product: object
    camera: Pinhole

    def distance(self, points: np.ndarray) -> np.ndarray:
        """Signed distance (T,K) of points (T,K,3) to the product."""
        local = (points - self.place[:, None]) @ self.turn
        return self.product.distance(local.astype(np.float32))


def hand_points(body, rotations, translation, shape) -> dict[str, np.ndarray]:
    """Per side (T,21,3) in the detector's order."""
    roles, names = anny_roles(body.bone_names), list(body.tables.landmark_names)
    args = [torch.from_numpy(np.asarray(a, np.float32)) for a in (rotations, translation, shape)]
    with torch.inference_mode():
        _, joints = body.pose_joints(*args)
        marks = body.landmarks(*args).numpy()
    joints, out = joints.numpy(), {}
    for side in SIDES:
        points = [joints[:, roles.wrist[side]]]
        for finger in range(1, 6):
            first = (
                joints[:, roles.fingers[side][1][0]]
                if finger == 1
                else marks[:, names.index(f"knuckle{finger}.{side}")]
            )
            points += [first, *(joints[:, j] for j in roles.fingers[side][finger][1:])]
            points.append(marks[:, names.index(f"finger{finger}.tip.{side}")])
        out[side] = np.stack(points, 1)
    return out


def true_scene(name: str, first: int, count: int) -> Truth:
    """Act the clip's only take again."""
    take, body = SCRIPTS[name].takes[0], load_anny()
    person = take.person
    shape = body.shape_of(
        gender=person.gender, height=person.height, weight=person.weight, muscle=person.muscle
    )
    product = make_product(take.product, take.base, take.accent, SEED)
    actor = Actor(body, shape)
    acted = actor.act(take, product, SEED)
    lens, origin = frame_camera(Shot(take, float(actor.chest[1]), SIZE_PX))
    when = slice(first, first + count)
    rotations = acted.rotations[when]
    still = np.zeros((len(rotations), 3), np.float32)
    hands = hand_points(body, rotations, still, shape.numpy())
    return Truth(
        {s: h + origin for s, h in hands.items()},
        acted.holds[when],
        acted.turn[when],
        acted.place[when] + origin,
        product,
        Pinhole(lens.focal_px / 2, (SIZE_PX[0] / 2, SIZE_PX[1] / 2)),
    )


def in_true_scene(
    hand: np.ndarray, fitted: Pinhole, true: np.ndarray, camera: Pinhole
) -> np.ndarray:
    """Fitted points (T,21,3) where their pixels and depths relative to the palm put them beside the true hand."""
    palm = [0, 5, 9, 13, 17]
    scale = (true[:, palm, 2].mean(1) / camera.focal_px) / (
        hand[:, palm, 2].mean(1) / fitted.focal_px
    )
    rise = (hand[..., 2] - hand[:, palm, 2].mean(1, keepdims=True)) * scale[:, None]
    z = true[:, palm, 2].mean(1, keepdims=True) + rise
    pixel = project(hand, fitted)
    x = (pixel[..., 0] - camera.principal_px[0]) / camera.focal_px * -z
    y = -(pixel[..., 1] - camera.principal_px[1]) / camera.focal_px * -z
    return np.stack([x, y, z], -1)


def compare(truth: Truth, body, arrays, landmarks: Landmarks) -> SimpleNamespace:
    """Tips against the true product."""
    fitted = Pinhole(float(arrays["focal_px"][0]), tuple(map(float, arrays["principal_px"])))
    hands = hand_points(body, arrays["rotations"], arrays["translation_m"], arrays["shape"])
    off, miss, error = [], [], []
    for odd, side in enumerate(("L", "R")):
        when = truth.holds[:, odd] & landmarks.hands[odd].is_seen
        tips = [4, 8, 12, 16, 20]
        placed = in_true_scene(hands[side], fitted, truth.hands[side], truth.camera)[:, tips]
        true_gap, gap = truth.distance(truth.hands[side][:, tips]), truth.distance(placed)
        touches = (true_gap < 0.015) & when[:, None]
        off.append(gap[touches])
        error.append(np.abs(gap - true_gap)[touches])
        miss.append(np.linalg.norm(placed - truth.hands[side][:, tips], axis=-1)[touches])
    gap, away = np.concatenate(off), np.concatenate(miss)
    return SimpleNamespace(
        off=100 * np.median(np.concatenate(error)),
        near=(np.abs(gap) < 0.02).mean(),
        inside=(gap < -0.005).mean(),
        miss=100 * np.median(away),
        count=len(gap),
    )


def sunk_share(body, arrays, holds: np.ndarray) -> float:
    """Share of the holding hands' vertices that lie over 1 cm behind trunk and head; every fourth frame."""
    roles, tables = anny_roles(body.bone_names), body.tables
    trunk = trunk_vertices(tables, roles, spacing_m=0)
    is_trunk = np.isin(np.arange(body.num_vertices), trunk)
    faces = body.faces[is_trunk[body.faces].all(axis=1)]
    camera = Camera(
        *SIZE_PX, float(arrays["focal_px"][0]), tuple(map(float, arrays["principal_px"]))
    )
    pinhole = Pinhole(camera.focal_px, camera.principal_px)
    renderer, sunk = MeshRenderer(faces, tables.part_labels, camera), []
    frames = np.arange(0, len(holds), 4)
    args = [torch.from_numpy(arrays[k][frames]) for k in ("rotations", "translation_m")]
    with torch.inference_mode():
        vertices = body.forward(*args, torch.from_numpy(arrays["shape"]))[0].numpy()
    for shown, t in zip(vertices, frames, strict=True):
        depth = renderer.render(shown).depth_m
        for odd in np.flatnonzero(holds[t]):
            hand = shown[tables.part_labels == odd + 1]
            x, y = project(hand, pinhole).round().astype(int).T
            is_in = (x >= 0) & (x < SIZE_PX[0]) & (y >= 0) & (y < SIZE_PX[1])
            there = depth[y[is_in], x[is_in]]
            sunk.append(((there > 0) & (-hand[is_in, 2] > there + 0.01)).mean())
    renderer.close()
    return float(np.mean(sunk))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", action="append", choices=CLIPS)
    parser.add_argument("--found", action="store_true")
    parser.add_argument("--sink", action="store_true")
    parser.add_argument("--scratch", type=Path, default=Path("/tmp/handloom-grasp"))
    given = parser.parse_args()
    files = Files(FolderBlobs(given.scratch / "root"), given.scratch / "scratch")
    chain = build_chain(Recipe(name="grasp", stages={}))
    for name in ("probe", "segment", "detect", "objects"):
        chain[name].setup()
    body = load_anny()
    print(
        "clip         grasp  off  near   in  miss   hand   sunk penetr. conflict contact matte  jerk CPU s"
    )
    for name in given.clip or CLIPS:
        (clip,) = generate(given.scratch / "studio", clips=[name], seed=SEED, size_px=SIZE_PX)
        row = windows_of(chain, files, clip)[0]
        for stage in ("detect", "objects"):
            with files.row_scope():
                row = chain[stage].process(row, files).rows[0]
        if given.sink:
            row = sunk(row, files)
        show(name, row, clip, files, body, found=given.found)


def sunk(row, files: Files):
    """The row with arms that seem to be farther away."""
    with files.row_scope():
        landmarks = Landmarks.read(files.arrays(row.detect.arrays))
        world = landmarks.pose_world_m.copy()
        world[:, 13:15, 2] += 0.15
        world[:, 15:23, 2] += 0.30
        return row.with_facet(
            "detect",
            row.detect.replace(
                arrays=files.put_arrays(replace(landmarks, pose_world_m=world).arrays())
            ),
        )


def show(name: str, row, clip, files: Files, body, *, found: bool) -> None:
    """Fit one window without and with grasp and print both."""
    first, count = round(row.motion_start_s * FPS), row.media.num_frames
    if not found:
        with np.load(clip.truth_arrays) as packed, files.row_scope():
            masks = decode_masks(packed, "product", *SIZE_PX[::-1])[first : first + count]
            arrays = {**files.arrays(row.objects.arrays), **encode_masks(masks, "mask")}
            row = row.with_facet("objects", row.objects.replace(arrays=files.put_arrays(arrays)))
    truth = true_scene(name, first, count)
    for grasp in (False, True):
        stage = BodyStage(BodyConfig(grasp=grasp))
        stage.setup()
        with files.row_scope():
            stage.process(row, files)
            begun = time.process_time()
            done = stage.process(row, files).rows[0]
            cpu_s = time.process_time() - begun
            drawn = StructureStage(StructureConfig()).process(done, files).rows[0].structure
            arrays = files.arrays(done.body.arrays)
            landmarks = Landmarks.read(files.arrays(row.detect.arrays))
        c = compare(truth, body, arrays, landmarks)
        print(
            f"{name:12} {grasp!s:5} {c.off:5.2f} {c.near:5.2f} {c.inside:5.2f} {c.miss:5.2f} "
            f"{done.body.hand_reprojection_error_head:6.4f} {sunk_share(body, arrays, truth.holds):6.3f} "
            f"{drawn.penetration:7.3f} {drawn.depth_conflict:8.3f} {drawn.any_contact_share:7.2f} "
            f"{drawn.matte_iou:5.2f} {done.body.jerk:6.4f} {cpu_s:5.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
