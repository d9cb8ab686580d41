"""The fit on real clips: landmarks found again, the mesh on the person."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stages.body.detections import HEAD_M, read_detections
from stages.body.fit import fit_body
from stages.body.hoi_metrics import matte_iou
from stages.body_models.rendering import Camera, MeshRenderer
from stages.body_models.rig import anny_roles
from stages.files import Files, FolderBlobs
from stages.kit.landmarks import Landmarks

SIZE_PX = (480, 832)


@pytest.fixture(scope="module")
def detect():
    from stages.screening.detect import DetectConfig, DetectStage

    stage = DetectStage(DetectConfig())
    stage.setup()
    return stage


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["co_out000_man_teapot", "co_out003_woman_bottle", "da_48_crop"])
def test_mesh_follows_the_person(shared_data: Path, tmp_path: Path, detect, name: str) -> None:
    from benchmarks.body import clip_of
    from stages.body_models.anny import load_anny

    files = Files(FolderBlobs(tmp_path / "blobs"), tmp_path / "scratch")
    with files.row_scope():
        clip = clip_of(files, shared_data / "videos" / f"{name}.mp4", 40, SIZE_PX)
        row = detect.process(clip, files).rows[0]
        landmarks = Landmarks.read(files.arrays(row.detect.arrays))
    body = load_anny()
    fit = fit_body(body.tables, anny_roles(body.bone_names), read_detections(landmarks, *SIZE_PX))
    assert fit.is_valid.mean() > 0.9
    assert np.nanmedian(fit.body_error_head) < 0.10
    assert np.nanmedian(fit.hand_error_head) < 0.10
    with torch.inference_mode():
        vertices, _ = body.forward(
            *(torch.from_numpy(a) for a in (fit.rotations, fit.translation, fit.shape))
        )
    camera = Camera(*SIZE_PX, fit.camera.focal_px, fit.camera.principal_px)
    renderer = MeshRenderer(body.faces, body.part_labels, camera)
    mattes = landmarks.matte(SIZE_PX[1], SIZE_PX[0])
    head_px = fit.camera.focal_px * HEAD_M / -np.median(fit.translation[:, 2])
    nothing = np.zeros_like(mattes[0])
    ious = [
        matte_iou(renderer.render(vertices[t].numpy()).part > 0, mattes[t], nothing, 0.1 * head_px)
        for t in range(0, 40, 8)
    ]
    renderer.close()
    assert np.median(ious) > 0.70
