"""Time the structure stage and its renderer: python benchmarks/structure.py VIDEO [--frames 81].

Detection and fit run first and are not counted. The object is a disc in the right hand. Compares the
persistent renderer with a new pyrender scene and context for every frame.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # noqa: TID251 - a script, not a package

import cv2
import numpy as np
import torch

from benchmarks.body import arguments, detected, timed
from schemas import facets as f
from schemas.base import BackendRef
from stages.body.body import BodyConfig, BodyStage
from stages.body.structure import StructureConfig, StructureStage
from stages.body_models.anny import load_anny
from stages.body_models.rendering import Camera, MeshRenderer, choose_platform
from stages.files import Files, FolderBlobs
from stages.kit.landmarks import Landmarks
from stages.kit.masks import encode_masks


def with_disc(files: Files, row):
    """The row with a made-up object in the right hand."""
    hands = Landmarks.read(files.arrays(row.detect.arrays)).hands[1].points_px
    masks = np.zeros((len(hands), row.media.height_px, row.media.width_px), np.uint8)
    for mask, hand in zip(masks, hands, strict=True):
        if np.isfinite(hand).all():
            x, y = hand[[4, 8], :2].mean(0)
            cv2.circle(mask, (int(x), int(y)), 40, 1, -1)
    arrays = files.put_arrays(encode_masks(masks.astype(bool), "mask"))
    return row.with_facet(
        "objects",
        f.ObjectsFacet(
            arrays=arrays,
            visible_share=1,
            in_hand_share=1,
            confidence=1,
            area_share=0.01,
            flicker=0,
            backend=BackendRef(name="disc", version="1", licence="none"),
        ),
    )


def naive_frame(faces, vertices, camera: Camera) -> None:
    """What one frame costs with a new scene, mesh and context."""
    import pyrender
    import trimesh

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    scene = pyrender.Scene(bg_color=(0, 0, 0, 0))
    scene.add(pyrender.Mesh.from_trimesh(mesh))
    scene.add(
        pyrender.IntrinsicsCamera(camera.focal_px, camera.focal_px, *camera.principal_px),
        pose=np.eye(4),
    )
    scene.add(pyrender.DirectionalLight(intensity=3.0), pose=np.eye(4))
    renderer = pyrender.OffscreenRenderer(camera.width_px, camera.height_px)
    renderer.render(scene)
    renderer.delete()


def main() -> None:
    args = arguments()
    torch.set_num_threads(2)
    files = Files(FolderBlobs(args.scratch / "blobs"), args.scratch / "scratch")
    print(f"platform {choose_platform()}, median of {args.repeat}, {args.width}x{args.height}")
    with files.row_scope():
        row = with_disc(files, detected(files, args.video, args.frames, (args.width, args.height)))
        row = BodyStage(BodyConfig()).process(row, files).rows[0]
        files.frames(row.media.video)
        for style in ("silhouette", "shaded"):
            stage = StructureStage(StructureConfig(style=style))
            stage.process(row, files)
            seconds, busy, _ = timed(lambda stage=stage: stage.process(row, files), args.repeat)
            print(
                f"  {style:10} {seconds:6.2f} s ({busy:.2f} s CPU), {row.media.num_frames} frames "
                "rendered, fused, measured, encoded"
            )
        body = load_anny()
        arrays = files.arrays(row.body.arrays)
        with torch.inference_mode():
            vertices, _ = body.forward(
                *(torch.from_numpy(arrays[k]) for k in ("rotations", "translation_m", "shape"))
            )
    vertices = vertices.numpy()
    camera = Camera(
        args.width,
        args.height,
        float(arrays["focal_px"][0]),
        tuple(float(v) for v in arrays["principal_px"]),
    )
    renderer = MeshRenderer(body.faces, body.part_labels, camera)
    renderer.render(vertices[0])
    ours, ours_cpu, _ = timed(lambda: [renderer.render(v) for v in vertices], args.repeat)
    renderer.close()
    sample = vertices[:: max(len(vertices) // 6, 1)]
    naive, naive_cpu, _ = timed(
        lambda: [naive_frame(body.faces, v, camera) for v in sample], args.repeat
    )
    ours, ours_cpu = ours / len(vertices), ours_cpu / len(vertices)
    naive, naive_cpu = naive / len(sample), naive_cpu / len(sample)
    print(
        f"  renderer   {1e3 * ours:6.1f} ms a frame ({1e3 * ours_cpu:.1f} CPU); "
        f"naive pyrender {1e3 * naive:6.1f} ms ({1e3 * naive_cpu:.1f} CPU): "
        f"{naive / ours:.1f} times"
    )


if __name__ == "__main__":
    main()
