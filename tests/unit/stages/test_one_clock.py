"""One clock from the source file to the trainer: picture, structure, boxes, sound and latents, offset zero.

A square runs 4 px per frame and clicks come every fifth frame. Segment cuts the source; the structure
stream and the boxes are drawn from where the square is in the decoded clip; latents and shards are the real
stages; what the trainer's reader hands out is decoded and compared with the source's own clock.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.codec_dct import DctCodec
from model.data import TrainingClip, clip_from_sample
from model.pixels import to_frames
from model.shards import ShardReader
from schemas.rows import Clip
from stages import segment_passes
from stages.files import Files
from stages.latents import LatentsConfig, LatentsStage
from stages.segment import SegmentStage
from stages.segment_config import SegmentConfig
from stages.shards import ShardsConfig, ShardsStage, plan_shards, shard_path
from tests.support.clips import make_clip
from tests.unit.stages.synth import source_of, toy_files, write_source
from tests.unit.stages.test_segment import SMALL, call_directly, moving_square, square_left_px

SIDE = 24


def true_left_px(tick: int) -> int:
    """Left edge of the square at a frame of the source."""
    return 4 * tick % 192


def with_other_streams(cut: Clip, files: Files) -> Clip:
    """The clip with structure, boxes and references that follow the square in its decoded frames."""
    frames = files.frames(cut.media.video)
    left = np.array([square_left_px(picture) for picture in frames])
    hoi = np.zeros_like(frames)
    for picture, x in zip(hoi, left.round().astype(int), strict=True):
        picture[50:80, x : x + SIDE] = 255
    context = cut.media.num_motion_frames
    toy = make_clip(
        files, cut.clip_id, num_target=len(frames) - context, num_motion=context,
        height=cut.media.height_px, width=cut.media.width_px, hoi_frames=hoi,
    )  # fmt: skip
    boxes = files.arrays(toy.boxes.arrays)
    top, bottom = np.full_like(left, 50), np.full_like(left, 80)
    boxes["left_hand_box_xyxy_px"] = np.stack([left, top, left + SIDE, bottom], 1).astype(
        np.float32
    )
    return toy.replace(
        source_id=cut.source_id, source_uri=cut.source_uri, start_s=cut.start_s, end_s=cut.end_s,
        motion_start_s=cut.motion_start_s, media=cut.media,
        boxes=toy.boxes.replace(arrays=files.put_arrays(boxes)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained_on(tmp_path_factory) -> list[tuple[Clip, TrainingClip]]:
    folder = tmp_path_factory.mktemp("clock")
    frames, sound = moving_square(48)
    # clicks in the middle of their frames: a lossy codec smears them over some milliseconds
    path = write_source(folder / "clock.mp4", frames, audio=np.roll(sound, 48_000 // 50))
    files = toy_files(folder)
    segment = SegmentStage(SegmentConfig(**SMALL, cut_margin_frames=0))
    latents, shards = LatentsStage(LatentsConfig()), ShardsStage(ShardsConfig())
    segment.setup()
    latents.setup()
    with pytest.MonkeyPatch.context() as patch, files.row_scope():
        patch.setattr(segment_passes, "run_isolated", call_directly)
        cuts = segment.process(source_of(path), files).rows
        rows = [latents.process(with_other_streams(cut, files), files).rows[0] for cut in cuts]
        plans = [shards.process(plan, files).rows[0] for plan in plan_shards(rows, 2)]
    reader = ShardReader([shard_path(plan, folder / "root") for plan in plans])
    by_id = {row.clip_id: row for row in rows}
    read = [clip_from_sample(reader[i]) for i in range(len(reader))]
    return [(by_id[clip.clip_id], clip) for clip in read]


def first_target_tick(row: Clip) -> int:
    return round(row.start_s * 25)


def decoded(latent: torch.Tensor) -> np.ndarray:
    return to_frames(DctCodec().decode_blocks(latent[None]))


def test_there_are_clips_with_and_without_motion_context(trained_on):
    assert {row.media.num_motion_frames for row, _ in trained_on} == {0, 5}
    assert {clip.motion is None for _, clip in trained_on} == {True, False}


@pytest.mark.parametrize("stream", ["rgb", "hoi"])
def test_latents_show_the_source_at_their_own_time(trained_on, stream):
    for row, clip in trained_on:
        seen = np.array([square_left_px(f) for f in decoded(getattr(clip, stream))])
        errors = {
            offset: np.abs(
                seen - [true_left_px(first_target_tick(row) + i + offset) for i in range(len(seen))]
            ).max()
            for offset in (-4, -1, 0, 1, 4)
        }
        assert min(errors, key=errors.__getitem__) == 0, errors
        assert errors[0] < 2.0, errors  # half a frame step


def test_boxes_of_a_latent_surround_the_square_over_its_four_frames(trained_on):
    for row, clip in trained_on:
        for k, hands in enumerate(clip.hands):
            ticks = first_target_tick(row) + 4 * k + np.arange(4)
            lefts = [true_left_px(int(tick)) for tick in ticks]
            assert hands[0][0] == pytest.approx(min(lefts), abs=1.5)
            assert hands[0][2] == pytest.approx(max(lefts) + SIDE, abs=1.5)


def test_sound_features_are_loud_where_the_source_clicks(trained_on):
    for row, clip in trained_on:
        level = clip.audio[0].mean(dim=1).numpy()
        ticks = first_target_tick(row) + np.arange(len(level))
        loud = set(ticks[level > level.mean() + 0.5 * level.std()].tolist())
        clicks = {int(t) for t in ticks if t % 5 == 0}
        assert loud == clicks


def test_motion_context_ends_right_before_the_target(trained_on):
    for row, clip in trained_on:
        if clip.motion is None:
            continue
        shown = decoded(clip.motion)
        last = square_left_px(shown[-1])
        assert last == pytest.approx(true_left_px(first_target_tick(row) - 1), abs=2.0)
