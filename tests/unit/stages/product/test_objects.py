import numpy as np
import pytest

from stages.kit.masks import decode_masks
from stages.product.objects import ObjectsConfig, ObjectsGate, ObjectsStage, holding_hand_share
from tests.unit.stages.product import held_scene


def mean_iou(masks, truth):
    both, either = (masks & truth).sum(axis=(1, 2)), (masks | truth).sum(axis=(1, 2))
    return float(np.mean(both / np.maximum(either, 1)))


@pytest.fixture(scope="module")
def held():
    return held_scene.render()


@pytest.fixture
def computed(held, files):
    row = held_scene.clip_of(held, files)
    return ObjectsStage(ObjectsConfig(backend="cues")).process(row, files).rows[0]


def test_a_held_box_is_found_in_every_frame(held, computed, files):
    found = files.arrays(computed.objects.arrays)
    masks = decode_masks(found, "mask", held_scene.HEIGHT, held_scene.WIDTH)
    assert masks.shape == held.truth.shape
    assert mean_iou(masks, held.truth) > 0.7
    assert found["in_hand"][:, 1].mean() > 0.9
    assert found["in_hand"][:, 0].sum() == 0
    assert ObjectsStage(ObjectsConfig(backend="cues")).gate(computed) is None


def test_boxes_fit_their_masks(computed, files):
    found = files.arrays(computed.objects.arrays)
    masks = decode_masks(found, "mask", held_scene.HEIGHT, held_scene.WIDTH)
    for mask, box in zip(masks, found["box_xyxy_px"], strict=True):
        rows, cols = np.nonzero(mask)
        assert box.tolist() == [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]


def test_the_same_clip_gives_the_same_bytes(held, computed, files):
    row = held_scene.clip_of(held, files)
    again = ObjectsStage(ObjectsConfig(backend="cues")).process(row, files).rows[0]
    assert again.objects == computed.objects


def test_an_empty_hand_is_dropped(files):
    row = held_scene.clip_of(held_scene.render(holds=False), files)
    stage = ObjectsStage(ObjectsConfig(backend="cues"))
    assert stage.gate(stage.process(row, files).rows[0]).reason in {
        "no_held_object",
        "low_confidence",
    }


def test_a_clip_without_hands_has_no_product(held, files):
    scene = held_scene.HeldScene(held.frames, held.truth, dict(held.arrays))
    scene.arrays["right_hand_landmarks_px"] = np.full_like(
        held.arrays["right_hand_landmarks_px"], np.nan
    )
    stage = ObjectsStage(ObjectsConfig(backend="cues"))
    row = stage.process(held_scene.clip_of(scene, files), files).rows[0]
    assert row.objects.visible_share == 0
    assert stage.gate(row).reason == "no_held_object"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"in_hand_share": 0.1}, "no_held_object"),
        ({"visible_share": 0.3}, "object_rarely_visible"),
        ({"confidence": 0.1}, "low_confidence"),
        ({"area_share": 0.0001}, "object_too_small"),
        ({"area_share": 0.6}, "object_too_large"),
        ({"area_jump_share": 0.5}, "object_unsteady"),
        ({"holding_hand_share": 0.3}, "holding_hand_lost"),
        ({"second_product_share": 0.8}, "second_product"),
    ],
)
def test_each_gate_names_its_reason(computed, change, reason):
    row = computed.with_facet("objects", computed.objects.replace(**change))
    stage = ObjectsStage(ObjectsConfig(backend="cues"))
    assert stage.gate(row).reason == reason
    assert reason in stage.reasons


def test_the_share_of_a_holding_hand_that_is_seen():
    """The right hand holds; then both; a hand that only brushes the product does not count; nothing held is nothing seen."""
    visible, right = np.ones(8, bool), np.array([[0, 1]] * 8, np.uint8)
    seen = np.array([[1, 1]] * 6 + [[1, 0]] * 2, bool)
    assert holding_hand_share(right, seen, visible) == 0.75
    both = np.array([[1, 1]] * 8, np.uint8)
    assert holding_hand_share(both, seen, visible) == 1.0
    brushed = right.copy()
    brushed[0] = 1
    assert holding_hand_share(brushed, seen, visible) == 0.75
    assert holding_hand_share(right * 0, seen, visible) == 0.0


def test_thresholds_do_not_enter_the_fingerprint():
    strict = ObjectsConfig(backend="cues", gate=ObjectsGate(min_confidence=0.9))
    assert (
        ObjectsStage(strict).fingerprint == ObjectsStage(ObjectsConfig(backend="cues")).fingerprint
    )
    assert (
        ObjectsStage(ObjectsConfig(backend="cues", every=2)).fingerprint
        != ObjectsStage(ObjectsConfig(backend="cues")).fingerprint
    )
