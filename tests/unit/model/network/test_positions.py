"""Rotary coordinates of every modality."""

from __future__ import annotations

import pytest
import torch

from model.network.positions import positions, rotary_angles, sample_axis
from schemas.errors import ConfigError


def axis(coordinates, i):
    return sorted(set(coordinates[:, i].tolist()))


def test_hoi_shares_time_and_rows_and_shifts_width():
    rgb = positions("rgb", (3, 4, 5))
    shift = positions("hoi", (3, 4, 5))
    wrap = positions("hoi", (3, 4, 5), hoi_width="official_wrap")
    assert torch.equal(rgb[:, :2], shift[:, :2])
    assert axis(rgb, 2) == [0, 1, 2, 3, 4]
    assert axis(shift, 2) == [-5, -4, -3, -2, -1]
    assert axis(wrap, 2) == [1019, 1020, 1021, 1022, 1023]
    assert rgb[:6].tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3], [0, 0, 4], [0, 1, 0]]


def test_references_and_motion_sit_at_their_published_times():
    assert axis(positions("person", (1, 4, 6), time_index=30), 0) == [30]
    motion = positions("motion", (20, 60 // 2, 104 // 2))
    assert len(motion) == 1560 + 390 + 364  # 832x480
    assert axis(motion, 0) == [-19, -14, -9, -4, -3, -1]
    assert motion[0].tolist() == [-1, 0, 0]
    far = motion[-364:]
    assert axis(far, 1) == sample_axis(0, 30, 7)
    assert max(axis(far, 2)) == 51  # the coarse grid spans the whole frame
    assert len(positions("motion", (20, 45, 30))) == 1350 + 330 + 308  # 720x480
    assert len(positions("motion", (20, 45, 80))) == 3600 + 880 + 880  # 1280x720


def test_product_scale_compresses_its_grid():
    half = positions("product", (1, 8, 8), scale=0.5, time_index=31)
    assert axis(half, 0) == [31]
    assert axis(half, 1) == [0, 1, 2, 3]
    assert axis(positions("product", (1, 8, 8)), 1) == list(range(8))


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.5])
def test_product_scale_outside_its_range_is_refused(scale):
    with pytest.raises(ConfigError, match=str(scale)):
        positions("product", (1, 4, 4), scale=scale)


def test_more_frames_than_table_rows_are_refused_with_the_numbers():
    with pytest.raises(ConfigError, match=r"time position 1024.*1024 rows"):
        positions("rgb", (1025, 1, 1))
    assert len(positions("rgb", (1024, 1, 1))) == 1024


def test_negative_coordinates_turn_the_other_way():
    there, back = (rotary_angles(torch.tensor([[s * 3, 0, s * 2]]), 24) for s in (1, -1))
    assert torch.equal(there[0], back[0])
    assert torch.equal(there[1], -back[1])


@pytest.mark.parametrize("head_dim", [6, 16, 20, 24, 128])
def test_every_channel_pair_has_an_angle(head_dim):
    cos, sin = rotary_angles(torch.tensor([[5, 7, 9]]), head_dim)
    assert cos.shape == sin.shape == (1, head_dim // 2)
    assert torch.allclose(cos**2 + sin**2, torch.ones(1))
    if head_dim == 128:  # 22 pairs of time, 21 of height, 21 of width; first frequency is 1
        first = torch.tensor([5.0, 7.0, 9.0]).cos()
        assert torch.allclose(cos[0, [0, 22, 43]], first)


def test_attention_scores_depend_on_differences_alone():
    from model.network.functional import rotate

    q, k = torch.randn(2, 1, 1, 1, 24, dtype=torch.float32)
    scores = []
    for offset in (0, 11):
        at = rotary_angles(torch.tensor([[[3 + offset, 2, 1]]]), 24)
        other = rotary_angles(torch.tensor([[[1 + offset, 2, 5]]]), 24)
        scores.append(float((rotate(q, *at) * rotate(k, *other)).sum()))
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
