"""SAM 3 through a stand-in that keeps to the documented requests of ``build_sam3_video_predictor``."""

from __future__ import annotations

import importlib.machinery
import itertools
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

from schemas.errors import ConfigError, ModelOutputError
from stages.product import sam3 as sam3_objects
from stages.product.carried_masks import make_prompt
from stages.product.objects import ObjectsConfig, ObjectsStage
from stages.product.sam3 import Sam3Objects, best_object, relative_box

SIZE = (96, 128)
SPEED = 4


class StandIn:
    """A predictor that sees coloured rectangles: the text finds red ones, points find what they lie on.

    Every rule that its requests must keep to is one of the package's own assertions.
    """

    def __init__(self, checkpoint_path=None, bpe_path=None):
        assert Path(checkpoint_path).is_file()
        assert Path(bpe_path).is_file()
        self.log, self.sessions, self.names = [], {}, itertools.count()

    def handle_request(self, request):
        self.log.append(request)
        return getattr(self, request["type"])(**{k: v for k, v in request.items() if k != "type"})

    def handle_stream_request(self, request):
        self.log.append(request)
        assert request["type"] == "propagate_in_video"
        assert request["propagation_direction"] == "forward"
        state = self.sessions[request["session_id"]]
        assert state["frames"]
        for index in range(request["start_frame_index"], len(state["frames"])):
            state["cached"].add(index)
            yield {"frame_index": index, "outputs": self._outputs(state, index)}

    def start_session(self, resource_path):
        names = sorted(Path(resource_path).iterdir(), key=lambda p: int(p.stem))
        frames = [cv2.imread(str(p))[..., ::-1].astype(int) for p in names]
        session = f"s{next(self.names)}"
        self.sessions[session] = {"frames": frames, "text": None, "points": {}, "cached": set()}
        return {"session_id": session}

    def add_prompt(
        self,
        session_id,
        frame_index,
        text=None,
        points=None,
        point_labels=None,
        bounding_boxes=None,
        bounding_box_labels=None,
        obj_id=None,
    ):
        state = self.sessions[session_id]
        if points is not None:
            assert text is None
            assert bounding_boxes is None
            assert obj_id is not None
            assert frame_index in state["cached"], "No cached outputs found"
            assert all(0 <= v <= 1 for p in points for v in p)
            inside = next(p for p, label in zip(points, point_labels, strict=True) if label)
            height, width = state["frames"][0].shape[:2]
            pixel = state["frames"][frame_index][int(inside[1] * height), int(inside[0] * width)]
            state["points"][obj_id] = pixel
        else:
            state.update(text=text, points={})  # a semantic prompt starts over
            box = np.array(bounding_boxes)
            assert box.shape == (1, 4)
            assert bounding_box_labels == [1]
            assert ((box >= 0) & (box <= 1)).all()
            assert (box[:, :2] + box[:, 2:] <= 1 + 1e-6).all()
        return {"frame_index": frame_index, "outputs": self._outputs(state, frame_index)}

    def close_session(self, session_id):
        del self.sessions[session_id]
        return {"is_success": True}

    def _outputs(self, state, index):
        frame = state["frames"][index]
        masks, ids = [], []
        red = (frame[..., 0] > 150) & (frame[..., 1:] < 90).all(-1)
        count, labels = cv2.connectedComponents(red.astype(np.uint8))
        for number in range(1, count):
            if (labels == number).sum() > 20:
                masks.append(labels == number)
                ids.append(number + 2)
        for number, colour in state["points"].items():
            masks.append(np.abs(frame - colour).max(-1) < 40)
            ids.append(number)
        empty = np.zeros((0, *frame.shape[:2]), bool)
        return {
            "out_obj_ids": np.array(ids, np.int64),
            "out_probs": np.ones(len(ids), np.float32),
            "out_binary_masks": np.stack(masks) if masks else empty,
        }


@pytest.fixture
def sam3(monkeypatch: pytest.MonkeyPatch) -> list[StandIn]:
    """The package as it is seen from outside; the predictors that were built."""
    import torch

    built: list[StandIn] = []

    def build(*args, gpus_to_use=None, **kwargs):
        built.append(StandIn(*args, **kwargs))
        return built[-1]

    package, builder = types.ModuleType("sam3"), types.ModuleType("sam3.model_builder")
    package.__spec__ = importlib.machinery.ModuleSpec("sam3", None, is_package=True)
    package.__path__ = []
    builder.build_sam3_video_predictor = build
    monkeypatch.setitem(sys.modules, "sam3", package)
    monkeypatch.setitem(sys.modules, "sam3.model_builder", builder)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sam3_objects.importlib.metadata, "version", lambda name: "0.1.4")
    return built


@pytest.fixture
def weights(tmp_path: Path) -> tuple[str, str]:
    for name in ("sam3.pt", "bpe.txt.gz"):
        (tmp_path / name).write_bytes(name.encode())
    return str(tmp_path / "sam3.pt"), str(tmp_path / "bpe.txt.gz")


def movie(colour: tuple[int, int, int], count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """A product that moves to the right above a red decoy that stands still; frames and truth."""
    frames = np.full((count, *SIZE, 3), 230, np.uint8)
    truth = np.zeros((count, *SIZE), bool)
    for t in range(count):
        frames[t, 70:90, 90:115] = (200, 30, 30)
        truth[t, 20:50, 20 + SPEED * t : 40 + SPEED * t] = True
        frames[t][truth[t]] = colour
    return frames, truth


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize("start", [0, 5, 11])
def test_the_thing_at_the_box_is_followed_not_its_like(sam3, weights, tmp_path, start) -> None:
    frames, truth = movie((200, 30, 30))
    backend = Sam3Objects(*weights, "red box", chunk_frames=4)
    backend.check()
    prompt = make_prompt(start, truth[start], [])
    masks = backend.segment(frames, [prompt], tmp_path / "scratch")
    assert min(iou(m, t) for m, t in zip(masks, truth, strict=True)) > 0.8
    log = sam3[0].log
    assert not sam3[0].sessions  # all closed
    assert all(r["text"] == "red box" for r in log if r["type"] == "add_prompt")
    assert not any(r.get("points") for r in log)
    assert max(len(list(p)) for p in [tmp_path.glob("scratch/*")]) == 0  # chunks cleaned up


def test_points_start_what_the_text_does_not_name(sam3, weights, tmp_path) -> None:
    frames, truth = movie((30, 160, 60))
    backend = Sam3Objects(*weights, "red box", chunk_frames=5)
    hand = np.full((21, 2), (100, 80), np.float32)
    prompt = make_prompt(6, truth[6], [hand])
    masks = backend.segment(frames, [prompt], tmp_path / "scratch")
    assert min(iou(m, t) for m, t in zip(masks, truth, strict=True)) > 0.8
    assert any(r.get("points") for r in sam3[0].log)


def test_nothing_at_the_prompt_is_said(sam3, weights, tmp_path, monkeypatch) -> None:
    def nothing(self, state, index):
        return {"out_obj_ids": [], "out_probs": [], "out_binary_masks": np.zeros((0, *SIZE), bool)}

    monkeypatch.setattr(StandIn, "_outputs", nothing)
    frames, truth = movie((30, 160, 60), 3)
    backend = Sam3Objects(*weights, "red box", chunk_frames=5)
    with pytest.raises(ModelOutputError, match="sam3 found nothing") as caught:
        backend.segment(frames, [make_prompt(1, truth[1], [])], tmp_path / "scratch")
    assert caught.value.code in ObjectsStage.reasons


def test_a_session_is_closed_even_where_the_package_fails(sam3, weights, tmp_path) -> None:
    frames, truth = movie((200, 30, 30), 3)
    backend = Sam3Objects(*weights, "red box", chunk_frames=5)
    backend.setup()
    sam3[0].handle_stream_request = lambda request: (_ for _ in ()).throw(RuntimeError("CUDA"))
    with pytest.raises(RuntimeError, match="CUDA"):
        backend.segment(frames, [make_prompt(1, truth[1], [])], tmp_path / "scratch")
    assert not sam3[0].sessions


def test_the_fit_wants_the_box_and_the_points() -> None:
    mask = np.zeros(SIZE, bool)
    mask[20:60, 10:50] = True
    prompt = make_prompt(0, mask, [np.full((21, 2), (80, 80), np.float32)])
    other = np.roll(mask, 60, 1)
    outputs = {"out_obj_ids": np.array([4, 9]), "out_binary_masks": np.stack([other, mask])}
    assert best_object(outputs, prompt) == (9, pytest.approx(1.0))
    assert best_object({"out_obj_ids": [], "out_binary_masks": []}, prompt) == (-1, 0.0)
    hollow = mask.copy()
    hollow[25:55, 15:45] = False  # the same box, but the points lie in the hole
    outputs = {"out_obj_ids": np.array([1]), "out_binary_masks": hollow[None]}
    assert best_object(outputs, prompt)[1] == pytest.approx(0.8)
    assert relative_box(prompt, SIZE) == pytest.approx([10 / 128, 20 / 96, 40 / 128, 40 / 96])


def test_the_stage_runs_it_on_a_gpu_and_hashes_text_and_weights(sam3, weights) -> None:
    def stage(**changes: str) -> ObjectsStage:
        config = {"backend": "sam3", "weights_file": weights[0], "sam3_bpe_file": weights[1]}
        return ObjectsStage(ObjectsConfig(**(config | changes)))

    stage().check()
    assert stage().resources.num_gpus == 1.0
    assert stage().fingerprint != stage(sam3_prompt="bottle").fingerprint
    assert stage().fingerprint != stage(sam3_bpe_file=weights[0]).fingerprint
    with pytest.raises(ConfigError, match="is pinned"):
        stage(weights_sha256="0" * 64).check()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("weights_file", r"objects\.backend\.weights_file: no weight file .*sam3\.pt"),
        ("sam3_bpe_file", r"objects\.backend\.bpe_file: no weight file .*bpe_simple_vocab"),
    ],
)
def test_missing_files_say_which(sam3, weights, missing: str, message: str) -> None:
    config = {"weights_file": weights[0], "sam3_bpe_file": weights[1], missing: "/no/such/file"}
    with pytest.raises(ConfigError, match=message):
        ObjectsStage(ObjectsConfig(backend="sam3", **config)).check()


def test_without_the_package_its_installation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sam3_objects.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"package sam3 is not installed.*docs/install\.md"):
        ObjectsStage(ObjectsConfig(backend="sam3")).check()


def test_without_cuda_it_says_so(sam3, weights, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="CUDA"):
        Sam3Objects(*weights, "box", 4).setup()
