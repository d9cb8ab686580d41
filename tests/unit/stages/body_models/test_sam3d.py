"""SAM 3D Body: saved results read safely, one camera, gaps, parts, and a stream drawn from them."""

from __future__ import annotations

import io
import sys
import types
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial import cKDTree

from schemas.errors import ConfigError, DataError, ModelOutputError
from schemas.rows import Clip
from stages.base import Dropped, Kept
from stages.body.body import BodyConfig, BodyStage
from stages.body.detections import read_detections
from stages.body.sequence import (
    HAND_POINTS,
    POSE_POINTS,
    cuts_of,
    fill,
    one_camera,
    record,
    smooth_places,
    solve_lens,
)
from stages.body.solve import project
from stages.body.structure import Scene, StructureConfig, StructureStage, draw
from stages.body_models.mesh_parts import HEAD, LEFT_HAND, RIGHT_HAND, label_parts
from stages.body_models.open_body import MeshSequenceModel, stored_body
from stages.body_models.rendering import Camera, MeshRenderer
from stages.body_models.sam3d import Sam3dBody, Sam3dFiles
from stages.body_models.sam3d_results import (
    FrameResult,
    folder_digest,
    read_clip,
    read_faces,
    read_result,
)
from stages.files import Files, FolderBlobs
from tests.support.landmarks import table
from tests.unit.stages.body.test_body_and_structure import make_clip
from tests.unit.stages.body_models.toy_sam3d import (
    WRIST_X,
    detections,
    toy_keypoints,
    toy_mesh,
    toy_result,
    write_faces,
    write_result,
)
from tests.unit.stages.conftest import NUM_FRAMES, SIZE_PX

FOCAL_PX = 500.0


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(FolderBlobs(tmp_path / "blobs"), tmp_path / "scratch")


def walking(t: int) -> dict:
    """The toy person moves to the side and away."""
    return toy_result(4.0 + 0.02 * t, 0.01 * t, FOCAL_PX, SIZE_PX)


def results_of(frames: range) -> list[FrameResult | None]:
    return [FrameResult.of(walking(t), "here") for t in frames]


def seen_of(results: list[dict]):
    pixels = np.stack([r["pred_keypoints_2d"] for r in results])
    return read_detections(table(detections(pixels)), *SIZE_PX)


# ---- reading ----------------------------------------------------------------------------------------------


def test_a_saved_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = read_result(write_result(tmp_path / "000000.npz"))
    assert np.allclose(result.vertices_m, toy_mesh()[0])
    assert np.allclose(result.keypoints_m, toy_keypoints())
    assert result.focal_px is None


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_focal_length_is_taken_where_it_is_there(tmp_path: Path, shape: tuple) -> None:
    path = write_result(tmp_path / "a.npz", focal_length=np.full(shape, 321.0, np.float32))
    assert read_result(path).focal_px == 321.0


def bomb() -> np.ndarray:
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was opened",))

    out = np.empty(3, object)
    out[0] = Bomb()
    return out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pred_vertices": None}, "pred_vertices"),
        ({"pred_cam_t": bomb()}, "pred_cam_t is object"),
        ({"pred_cam_t": np.zeros(4, np.float32)}, r"pred_cam_t is float32\[4\]"),
        ({"pred_vertices": np.zeros((0, 3), np.float32)}, "pred_vertices is"),
        ({"pred_vertices": np.zeros((8, 2), np.float32)}, "pred_vertices is"),
        ({"pred_vertices": np.zeros((8, 3), np.int64)}, "pred_vertices is int64"),
        ({"pred_keypoints_2d": np.zeros((69, 2), np.float32)}, "pred_keypoints_2d is"),
        ({"pred_keypoints_3d": np.full((70, 3), np.nan, np.float32)}, "not finite"),
        ({"pred_cam_t": np.array([0, 0, np.inf], np.float32)}, "not finite"),
        ({"pred_cam_t": np.array([0, 0, -3], np.float32)}, "not in front of the camera"),
        ({"focal_length": np.float32(-4)}, "not in front"),
        ({"focal_length": np.zeros(2, np.float32)}, "focal_length is"),
    ],
)
def test_broken_and_hostile_results_are_refused(tmp_path: Path, changes, message: str) -> None:
    path = write_result(tmp_path / "000000.npz", **changes)
    with pytest.raises(ModelOutputError, match=message) as caught:
        read_result(path)
    assert caught.value.code in BodyStage.reasons


def test_a_header_that_claims_too_much_is_refused_before_reading(tmp_path: Path) -> None:
    path = write_result(tmp_path / "a.npz", pred_vertices=None)
    header = io.BytesIO()
    claim = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 3)}
    np.lib.format.write_array_header_1_0(header, claim)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("pred_vertices.npy", header.getvalue())
    with pytest.raises(ModelOutputError, match="pred_vertices is"):
        read_result(path)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + b"\0" * 40])
def test_no_archive_at_all(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ModelOutputError, match=r"a\.npz"):
        read_result(tmp_path / "a.npz")


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = write_result(tmp_path / "a.npz")
    data = bytearray(path.read_bytes())
    data[2000] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ModelOutputError, match="CRC"):
        read_result(path)


def test_missing_frames_are_none_and_other_meshes_are_refused(tmp_path: Path) -> None:
    write_result(tmp_path / "000000.npz")
    write_result(tmp_path / "000002.npz")
    assert [r is None for r in read_clip(tmp_path, 4)] == [False, True, False, True]
    write_result(tmp_path / "000003.npz", pred_vertices=np.ones((9, 3), np.float32))
    with pytest.raises(ModelOutputError, match="vertices"):
        read_clip(tmp_path, 4)


def test_the_digest_is_of_names_and_content(tmp_path: Path) -> None:
    def digest() -> str:
        folder_digest.cache_clear()
        return folder_digest(str(tmp_path))

    path = write_result(tmp_path / "clip" / "000000.npz")
    first = digest()
    assert digest() == first
    write_result(path, expr_params=np.ones(72, np.float32))
    second = digest()
    path.rename(path.with_name("000001.npz"))
    third = digest()
    (tmp_path / "notes.txt").write_text("a")
    assert len({first, second, third, digest()}) == 4


@pytest.mark.parametrize(
    "faces", [np.zeros((3, 4), np.int32), np.zeros((2, 3)), np.array([[0, 1, -1]]), bomb()]
)
def test_faces_that_are_none(tmp_path: Path, faces: np.ndarray) -> None:
    np.savez(tmp_path / "faces.npz", faces=faces)
    with pytest.raises(ConfigError, match=r"body\.backend\.faces_file"):
        read_faces(str(tmp_path / "faces.npz"))


# ---- camera, time, parts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("focal", [None, FOCAL_PX])
def test_the_lens_comes_from_the_keypoints(focal: float | None) -> None:
    output = toy_result(3.0, 0.2, FOCAL_PX, SIZE_PX) | {"focal_length": focal}
    solved, centre = solve_lens(FrameResult.of(output, "here"))
    assert solved == pytest.approx(FOCAL_PX, rel=1e-3)
    assert np.allclose(centre, np.array(SIZE_PX) / 2, atol=0.1)


def test_keypoints_of_another_picture_are_refused() -> None:
    output = toy_result(3.0, 0.0, FOCAL_PX, SIZE_PX)
    output["pred_keypoints_2d"] = output["pred_keypoints_2d"][::-1]
    with pytest.raises(ModelOutputError, match="keypoints differ by"):
        solve_lens(FrameResult.of(output, "here"))


def test_frames_with_other_lenses_look_the_same_through_one() -> None:
    outputs = [toy_result(4.0, 0.3, f, SIZE_PX) for f in (450.0, 500.0, 560.0)]
    results = [FrameResult.of(o, "here") for o in outputs]
    roots = np.stack([r.keypoints_m[[9, 10]].mean(0) for r in results])
    camera, places = one_camera(results, roots)
    assert camera.focal_px == pytest.approx(500.0, rel=1e-3)
    points = toy_keypoints() - roots[0]
    for place, output in zip(places, outputs, strict=True):
        pixels = project((points + place) * [1, -1, -1], camera)
        away = np.linalg.norm(pixels - output["pred_keypoints_2d"], axis=-1)
        assert away.max() < 3.0  # the rest is perspective


def test_gaps_are_interpolated_and_marked() -> None:
    outputs = [walking(t) for t in range(10)]
    results = results_of(range(10))
    results[0] = results[4] = results[5] = None
    body = record(results, toy_mesh()[1], seen_of(outputs), 2, 1)
    assert body.is_valid.astype(int).tolist() == [0, 1, 1, 1, 0, 0, 1, 1, 1, 1]
    assert np.allclose(np.diff(body.translation_m[1:, 2]), -0.02, atol=1e-4)
    assert np.allclose(body.translation_m[0], body.translation_m[1])
    assert np.nanmedian(body.body_error_head[1:]) < 0.01
    assert record(results, toy_mesh()[1], seen_of(outputs), 1, 1) is None
    assert record([None] * 10, toy_mesh()[1], seen_of(outputs), 8, 1) is None


def test_fill_is_linear_inside_and_constant_outside() -> None:
    filled = fill(np.array([[1.0], [4.0]]), np.array([1, 4]), 6)
    assert filled[:, 0].tolist() == [1, 1, 2, 3, 4, 4]


def test_smoothing_takes_jitter_out_and_keeps_motion() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(60)
    true = np.stack([0.3 * np.sin(time / 12), np.zeros(60), 3 + 0.2 * np.cos(time / 15)], 1)
    depth_noise = rng.normal(0, 0.05, (60, 1)) * true / true[:, 2:]
    smoothed = smooth_places(true + depth_noise, 7)
    before = np.abs(depth_noise[:, 2]).mean()
    assert np.abs(smoothed - true)[:, 2].mean() < 0.7 * before
    seen, kept = true[:, 0] / true[:, 2], smoothed[:, 0] / smoothed[:, 2]
    assert np.abs(seen - kept).max() < 1e-3
    jump = true.copy()
    jump[30] *= 2.0  # twice as far away for one frame, at the same pixel
    assert np.abs(smooth_places(jump, 7) - true).max() < 0.05
    assert smooth_places(true, 1) is true


def test_parts_follow_the_surface_even_where_a_hand_touches_the_head() -> None:
    vertices, faces = toy_mesh()
    labels = label_parts(vertices, faces, cuts_of(toy_keypoints()))
    assert (labels[vertices[:, 0] > WRIST_X + 0.03] == LEFT_HAND).all()
    assert (labels[vertices[:, 0] < -WRIST_X - 0.03] == RIGHT_HAND).all()
    assert (labels[np.abs(vertices[:, 0]) < WRIST_X - 0.03] % 3 == 0).all()
    assert (labels[vertices[:, 1] < -1.62] == HEAD).all()
    elbow = np.array([-0.44, -1.42, 0.0])  # the forearm swings up until the fingers are in the face
    across, up = np.array([0.3, -0.32]) / np.hypot(0.3, 0.32)
    turn = np.array([[-across, up, 0], [-up, -across, 0], [0, 0, 1]])
    forearm = vertices[:, 0] < elbow[0]
    bent, keypoints = vertices.copy(), toy_keypoints()
    bent[forearm] = (vertices[forearm] - elbow) @ turn.T + elbow
    keypoints[HAND_POINTS["R"]] = (keypoints[HAND_POINTS["R"]] - elbow) @ turn.T + elbow
    inside = (np.abs(keypoints[HAND_POINTS["R"]][:, 0]) < 0.12).any()
    assert inside  # the case is the hard one
    assert (label_parts(bent, faces, cuts_of(keypoints)) == labels).mean() > 0.99


def test_faces_of_another_mesh_are_refused() -> None:
    vertices, faces = toy_mesh()
    shuffled = np.random.default_rng(0).permutation(len(vertices))[faces]
    with pytest.raises(ModelOutputError, match="does not come off"):
        label_parts(vertices, shuffled.astype(np.int32), cuts_of(toy_keypoints()))
    too_many = faces.copy()
    too_many[0, 0] = len(vertices)
    results = results_of(range(5))
    with pytest.raises(ModelOutputError, match="faces name vertex"):
        record(results, too_many, seen_of([walking(t) for t in range(5)]), 2, 1)


# ---- stages -----------------------------------------------------------------------------------------------


def saved_clip(files: Files, folder: Path, missing: set[int] = frozenset()) -> Clip:
    """A clip and its saved results."""
    outputs = [walking(t) for t in range(NUM_FRAMES)]
    for t, output in enumerate(outputs):
        if t not in missing:
            write_result(folder / "results" / "c" / f"{t:06d}.npz", **output)
    write_faces(folder / "faces.npz")
    pixels = np.stack([o["pred_keypoints_2d"] for o in outputs])
    masks = np.zeros((NUM_FRAMES, SIZE_PX[1], SIZE_PX[0]), np.uint8)
    for mask, points in zip(masks, pixels, strict=True):
        x, y = points[HAND_POINTS["L"]].mean(0)
        cv2.circle(mask, (int(x), int(y)), 9, 1, -1)
    return make_clip(files, None, masks.astype(bool), detections(pixels))


def stage_of(folder: Path, **changes: object) -> BodyStage:
    config = {
        "backend": "sam3d-body",
        "results_dir": str(folder / "results"),
        "faces_file": str(folder / "faces.npz"),
    }
    return BodyStage(BodyConfig(**(config | changes)))


def test_saved_results_become_a_stream(files: Files, tmp_path: Path) -> None:
    with files.row_scope():
        clip = saved_clip(files, tmp_path, missing={6, 7})
        stage = stage_of(tmp_path)
        stage.check()
        done = stage.process(clip, files)
        assert isinstance(done, Kept)
        row = done.rows[0]
        drawn = StructureStage(StructureConfig()).process(row, files).rows[0]
    facet = row.body
    assert facet.backend.name == "sam3d-body"
    assert facet.backend.weights_sha256 == stage.weights_sha256
    assert facet.reprojection_error_head < 0.02
    assert facet.hand_reprojection_error_head < 0.02
    assert facet.valid_share == pytest.approx(10 / 12)
    assert stage.gate(row) is None
    arrays = files.arrays(facet.arrays)
    assert arrays["vertices_m"].dtype == np.float16
    assert arrays["is_valid"].tolist().count(0) == 2
    assert drawn.structure.left_contact_share == 1.0
    assert drawn.structure.right_contact_share == 0.0
    assert drawn.structure.body_visible_share == 1.0
    frame = files.frames(drawn.structure.video)[8]
    for side, name in (("R", "right"), ("L", "left")):
        x, y = walking(8)["pred_keypoints_2d"][HAND_POINTS[side]].mean(0)
        assert frame[int(y), int(x)].argmax() == (1 if name == "right" else 2)


def test_half_floats_move_no_vertex_by_a_pixel(files: Files, tmp_path: Path) -> None:
    with files.row_scope():
        row = stage_of(tmp_path, smooth_frames=1).process(saved_clip(files, tmp_path), files)
        arrays = files.arrays(row.rows[0].body.arrays)
    model = stored_body("sam3d-body", "", arrays)
    assert isinstance(model, MeshSequenceModel)
    vertices = model.vertices(arrays, 3, 5)
    assert vertices.dtype == np.float32
    output = walking(4)
    there = output["pred_vertices"] + output["pred_cam_t"]
    assert np.abs(vertices[1] * [1, -1, -1] - there).max() < 1e-3


def test_a_long_gap_drops_and_a_clip_without_results_fails(files: Files, tmp_path: Path) -> None:
    with files.row_scope():
        clip = saved_clip(files, tmp_path, missing=set(range(3, 9)))
        done = stage_of(tmp_path, max_gap_frames=5).process(clip, files)
        assert isinstance(done, Dropped)
        assert done.reason == "no_pose"
        with pytest.raises(DataError) as caught:
            stage_of(tmp_path).process(clip.replace(clip_id="other"), files)
    assert caught.value.code == "no_results"
    assert caught.value.code in BodyStage.reasons


def test_results_and_settings_enter_the_fingerprint(files: Files, tmp_path: Path) -> None:
    with files.row_scope():
        saved_clip(files, tmp_path)
    first = stage_of(tmp_path).fingerprint
    assert stage_of(tmp_path, smooth_frames=9).fingerprint != first
    folder_digest.cache_clear()
    (tmp_path / "results" / "c" / "000003.npz").unlink()
    assert stage_of(tmp_path).fingerprint != first
    folder_digest.cache_clear()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"results_dir": "", "faces_file": ""},
            r"needs results or weights: set body\.backend\.results_dir",
        ),
        ({"results_dir": "/no/folder"}, r"body\.backend\.results_dir: /no/folder is no folder"),
        ({"faces_file": ""}, r"body\.backend\.faces_file: saved results hold no triangles"),
        ({"faces_file": "/no/file.npz"}, r"body\.backend\.faces_file: cannot read"),
        ({"checkpoint_file": "/a.ckpt"}, "clear one"),
        ({"results_dir": "", "checkpoint_file": "/a.ckpt"}, "sam_3d_body is not installed"),
    ],
)
def test_what_is_missing_is_said_before_anything_runs(tmp_path: Path, changes, message) -> None:
    (tmp_path / "results").mkdir()
    write_faces(tmp_path / "faces.npz")
    with pytest.raises(ConfigError, match=message):
        stage_of(tmp_path, **changes).check()


# ---- the package, by a stand-in that has its interface ----------------------------------------------------


class StandInEstimator:
    """``SAM3DBodyEstimator`` as far as it is used: the toy person, seen where the box is."""

    def __init__(
        self,
        sam_3d_body_model,
        model_cfg,
        human_detector=None,
        human_segmentor=None,
        fov_estimator=None,
    ):
        assert (sam_3d_body_model, model_cfg) == ("model", "config")
        self.faces = toy_mesh()[1].astype(np.int64)
        self.calls = []

    def process_one_image(self, img, bboxes=None, masks=None, cam_int=None, **_):
        assert img.dtype == np.uint8
        assert img.flags["C_CONTIGUOUS"]
        assert bboxes.shape == (1, 4)
        focal = float(cam_int[0, 0, 0])
        assert cam_int.shape == (1, 3, 3)
        self.calls.append(bboxes)
        size = (img.shape[1], img.shape[0])
        result = toy_result(4.0, 0.0, focal, size) | {"focal_length": np.float32(focal)}
        return [] if len(self.calls) == 3 else [result]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    import torch

    module = types.ModuleType("sam_3d_body")
    module.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec("sam_3d_body", None)
    module.SAM3DBodyEstimator = StandInEstimator
    module.load_sam_3d_body = lambda checkpoint_path="", device="cuda", mhr_path="": (
        "model",
        "config",
    )
    monkeypatch.setitem(sys.modules, "sam_3d_body", module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("model.ckpt", "mhr_model.pt", "model_config.yaml"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def run_files(folder: Path, **changes: str) -> Sam3dFiles:
    return Sam3dFiles(
        checkpoint_file=str(folder / "model.ckpt"), mhr_file=str(folder / "mhr_model.pt"), **changes
    )


def test_the_package_runs_on_the_persons_box_frame_by_frame(package: Path) -> None:
    backend = Sam3dBody(run_files(package), focal_ratio=1.2)
    backend.check()
    mattes = np.zeros((5, SIZE_PX[1], SIZE_PX[0]), bool)
    mattes[:4, 40:300, 30:200] = True
    frames = np.zeros((*mattes.shape, 3), np.uint8)
    results = backend.run(frames, mattes)
    assert [r is not None for r in results] == [True, True, False, True, False]
    assert results[0].focal_px == pytest.approx(1.2 * SIZE_PX[1])
    assert backend.faces.dtype == np.int32
    assert backend._estimator.calls[0].tolist() == [[30, 40, 200, 300]]
    assert len(backend._estimator.calls) == 4  # nobody in the last matte


def test_weights_are_pinned_and_their_configuration_wanted(package: Path) -> None:
    with pytest.raises(ConfigError, match=r"body\.backend\.checkpoint_file.*is pinned"):
        Sam3dBody(run_files(package, checkpoint_sha256="0" * 64), 1.2).check()
    with pytest.raises(ConfigError, match=r"body\.backend\.mhr_file.*is pinned"):
        Sam3dBody(run_files(package, mhr_sha256="0" * 64), 1.2).check()
    (package / "model_config.yaml").unlink()
    with pytest.raises(ConfigError, match="model_config"):
        Sam3dBody(run_files(package), 1.2).check()


def test_a_worker_of_the_package_asks_for_a_gpu(package: Path) -> None:
    files = run_files(package)
    config = {"checkpoint_file": files.checkpoint_file, "mhr_file": files.mhr_file}
    stage = stage_of(package, results_dir="", faces_file="", **config)
    assert stage.resources.num_gpus == 1.0
    assert stage_of(package).resources.num_gpus == 0.0


def test_without_cuda_the_package_says_so(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="CUDA"):
        Sam3dBody(run_files(package), 1.2).setup()


# ---- real results -----------------------------------------------------------------------------------------

REAL = [f"img_subj0{i}" for i in range(4)]
REAL_SIZE_PX = (1920, 890)


def fans(vertices: np.ndarray, count: int = 6) -> np.ndarray:
    """Triangles for a mesh whose own are not at hand: each vertex with neighbouring pairs of its nearest.

    Both windings, since which side is outside is not known. Good enough to see parts and outlines.
    """
    _, near = cKDTree(vertices).query(vertices, count + 1)
    fan = [near[:, [0, i, i + 1]] for i in range(1, count)]
    faces = np.concatenate(fan).astype(np.int32)
    return np.concatenate([faces, faces[:, ::-1]])


@pytest.mark.shared_data
@pytest.mark.parametrize("name", REAL)
def test_a_real_result_fits_its_picture(shared_data: Path, name: str) -> None:
    path = shared_data / "gt" / "sam3dbody_outputs" / f"{name}.npz"
    result = read_result(path)
    focal, centre = solve_lens(result)
    points = result.keypoints_m + result.camera_t_m
    pixels = points[:, :2] / points[:, 2:] * focal + centre
    assert np.abs(pixels - result.keypoints_px).max() < 1.0
    assert np.allclose(centre, np.array(REAL_SIZE_PX) / 2, atol=1)
    skin = result.vertices_m + result.camera_t_m
    pixels = skin[:, :2] / skin[:, 2:] * focal + centre
    with np.load(path) as saved:
        boxes = {key: saved[key] for key in ("bbox", "lhand_bbox", "rhand_bbox")}
    slack = 0.05 * (boxes["bbox"][2:] - boxes["bbox"][:2]).max()
    assert (pixels >= boxes["bbox"][:2] - slack).all()
    assert (pixels <= boxes["bbox"][2:] + slack).all()
    labels = label_parts(result.vertices_m, fans(result.vertices_m), cuts_of(result.keypoints_m))
    for label, key in ((LEFT_HAND, "lhand_bbox"), (RIGHT_HAND, "rhand_bbox")):
        hand = pixels[labels == label]
        assert 0.05 < (labels == label).mean() < 0.2
        assert ((hand >= boxes[key][:2]) & (hand <= boxes[key][2:])).all()
    assert 0.1 < (labels == HEAD).mean() < 0.4


@pytest.mark.shared_data
def test_a_real_result_is_drawn_by_the_structure_stage(shared_data: Path, tmp_path: Path) -> None:
    result = read_result(shared_data / "gt" / "sam3dbody_outputs" / "img_subj01.npz")
    width, height = REAL_SIZE_PX
    pixels = np.repeat(result.keypoints_px[None], 3, 0)
    seen = read_detections(table(detections(pixels)), width, height)
    body = record([result] * 3, fans(result.vertices_m), seen, 0, 1)
    assert np.nanmax(body.body_error_head) < 0.01
    from stages.body.recorded import sequence_arrays

    arrays = sequence_arrays(body)
    model = stored_body("sam3d-body", "", arrays)
    camera = Camera(width, height, body.camera.focal_px, body.camera.principal_px)
    nothing = np.zeros((3, height, width), bool)
    held = nothing.copy()
    x, y = result.keypoints_px[HAND_POINTS["R"]].mean(0)
    held[:, int(y) - 40 : int(y), int(x) - 15 : int(x) + 15] = True
    for style in ("silhouette", "shaded"):
        seen = np.ones((3, 2), bool)
        scene = Scene(arrays, held, nothing, np.full((3, height, width, 3), 90, np.uint8), 0, seen)
        renderer = MeshRenderer(model.faces, model.part_labels, camera)
        frames, metrics = draw(model, renderer, scene, StructureConfig(style=style))
        renderer.close()
        cv2.imwrite(str(tmp_path / f"{style}.png"), frames[0][..., ::-1])
        drawn = cv2.dilate(frames[0].max(-1), np.ones((7, 7))) > 0  # fans leave slits
        points = result.keypoints_px[list(POSE_POINTS.values())].astype(int)
        assert drawn[points[:, 1], points[:, 0]].all()
        assert metrics[0].contact == (False, True)
