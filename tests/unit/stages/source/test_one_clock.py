"""One clock from a source file to the trainer's tensors: every stream agrees with the world, offset 0.

A source shows a square that moves at a known speed and clicks at known times. It goes through segment,
latents and shards and is read as the trainer reads it. Structure video and boxes are drawn from the
truth at the time that the row gives to each of its frames.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.codecs.dct import DctCodec
from model.codecs.pixels import to_frames
from model.training.data import clip_from_sample
from model.training.shard_reader import ShardReader
from schemas.clock import SAMPLE_RATE_HZ, SAMPLES_PER_FRAME
from stages.kit import media
from stages.packing.latents import LatentsConfig, LatentsStage
from stages.packing.shards import ShardsConfig, ShardsStage, plan_shards
from stages.source.segment import SegmentStage
from stages.source.segment_config import SegmentConfig
from tests.support.clips import make_clip
from tests.support.landmarks import whole
from tests.support.shards import shard_path
from tests.unit.stages.source.synth import source_of, toy_files, write_source

HEIGHT, WIDTH, SIDE_PX = 128, 224, 24
SPEED_PX_S = 60.0
CLICKS_S = (0.22, 0.38, 0.74, 1.02, 1.38, 1.54, 1.74, 1.9)
"""Irregular, so that no shift by a few frames looks the same; each in the middle of a frame."""
NUM_TARGET, NUM_MOTION, DURATION_S, RATE_HZ = 25, 9, 2.08, 48_000
OFFSETS = range(-4, 5)


def left_px(time_s):
    return 6 + SPEED_PX_S * np.asarray(time_s)


def draw(times_s, ground: int) -> np.ndarray:
    frames = np.full((len(times_s), HEIGHT, WIDTH, 3), ground, np.uint8)
    for frame, left in zip(frames, left_px(times_s), strict=True):
        frame[50:80, round(left) : round(left) + SIDE_PX] = 235
    return frames


def source(folder, fps: int):
    """Times of 25 and 30 fps, the second with irregular frame times."""
    pts = np.arange(int(DURATION_S * fps))
    if fps != 25:
        pts = np.delete(pts, slice(5, None, 7))
    sound = np.zeros(int(DURATION_S * RATE_HZ), np.float32)
    for at in CLICKS_S:
        sound[int(at * RATE_HZ) :][: RATE_HZ // 500] = 0.7
    return write_source(
        folder / "clock.mkv",
        draw(pts / fps, 60),
        fps=fps,
        pts=pts.tolist(),
        audio=sound,
        audio_codec="flac",
    )


@pytest.fixture(scope="module", params=[25, 30], ids=["constant", "variable"])
def samples(request, tmp_path_factory):
    """(clip, training clip) with and without context, read back from one shard."""
    folder = tmp_path_factory.mktemp("clock")
    files = toy_files(folder)
    segment = SegmentStage(
        SegmentConfig(
            detector="pyscenedetect",
            num_frames=NUM_TARGET,
            max_motion_frames=NUM_MOTION,
            stride_frames=NUM_TARGET,
            buckets=((WIDTH, HEIGHT),),
        )
    )
    latents, shards = LatentsStage(LatentsConfig()), ShardsStage(ShardsConfig())
    for stage in (segment, latents):
        stage.setup()
    with files.row_scope():
        clips = segment.process(source_of(source(folder, request.param)), files).rows
        rows = [latents.process(complete(files, c), files).rows[0] for c in clips]
        (plan,) = (shards.process(p, files).rows[0] for p in plan_shards(rows, 9))
    reader = ShardReader([shard_path(plan, files._blobs.root)])
    trained = {s.clip_id: clip_from_sample(s) for s in (reader[i] for i in range(len(reader)))}
    pairs = [(clip, files, trained[clip.clip_id]) for clip in clips]
    assert {c.media.num_motion_frames for c, _, _ in pairs} == {0, NUM_MOTION}
    return pairs


def complete(files, clip):
    """Facets that the stages between would fill, drawn from the truth at each frame's time."""
    total = clip.media.num_frames
    toy = make_clip(files, num_target=5, num_motion=0, height=HEIGHT, width=WIDTH)
    times = clip.motion_start_s + np.arange(total) / 25
    left = left_px(times).astype(np.float32)
    hand = np.stack(
        [left, np.full(total, 50), left + SIDE_PX, np.full(total, 80)], 1, dtype=np.float32
    )
    found = whole({"left_hand_box_xyxy_px": hand})
    return clip.replace(
        speech=toy.speech,
        detect=toy.detect.replace(arrays=files.put_arrays(found)),
        references=toy.references,
        structure=toy.structure.replace(video=files.put_video(draw(times, 0))),
        caption=toy.caption,
    )


def seen_left_px(frames) -> np.ndarray:
    """Left edge of the square in each frame, below a pixel: middle of its bright columns."""
    columns = frames[:, 56:74].mean(axis=(1, 3))
    weight = np.clip(columns - 145, 0, None)
    return (weight * np.arange(WIDTH)).sum(1) / weight.sum(1) - (SIDE_PX - 1) / 2


def best_offset(seen, first_s: float) -> int:
    """By how many frames the truth must be shifted to lie nearest to what was seen."""
    times = first_s + np.arange(len(seen)) / 25
    errors = {o: np.abs(seen - left_px(times + o / 25)).mean() for o in OFFSETS}
    assert errors[0] < 0.45 * SPEED_PX_S / 25, errors  # less than half a frame's step
    return min(errors, key=errors.get)


def test_clip_frames_show_the_moment_that_the_row_says(samples):
    for clip, files, _ in samples:
        frames = files.frames(clip.media.video)
        assert len(frames) == clip.media.num_frames
        assert best_offset(seen_left_px(frames), clip.motion_start_s) == 0


@pytest.mark.parametrize("stream", ["rgb", "hoi"])
def test_latent_k_shows_target_frames_4k_to_4k_plus_3(samples, stream):
    for clip, _, trained in samples:
        latent = getattr(trained, stream)
        assert latent.shape[1] == NUM_TARGET // 4
        frames = to_frames(DctCodec(stream).decode_blocks(latent[None]))
        assert len(frames) == 4 * latent.shape[1]
        assert best_offset(seen_left_px(frames), clip.start_s) == 0


def test_context_latents_show_what_comes_before(samples):
    for clip, _, trained in samples:
        if clip.media.num_motion_frames == 0:
            assert trained.motion is None
            continue
        later = to_frames(DctCodec().decode_blocks(trained.motion[None, :, 1:]))
        first_s = clip.start_s - len(later) / 25
        assert best_offset(seen_left_px(later), first_s) == 0


def test_boxes_of_latent_k_enclose_the_square_of_its_frames(samples):
    for clip, _, trained in samples:
        for k, hands in enumerate(trained.hands):
            left = left_px(clip.start_s + (4 * k + np.arange(4)) / 25)
            assert len(hands) == 1
            assert hands[0][0] == pytest.approx(left[0], abs=0.01)
            assert hands[0][2] == pytest.approx(left[-1] + SIDE_PX, abs=0.01)


def test_audio_window_and_features_hear_the_clicks_at_their_frames(samples):
    for clip, files, trained in samples:
        sound = media.read_wav(files.local(clip.media.audio))
        assert len(sound) == clip.media.num_frames * SAMPLES_PER_FRAME
        onsets = [at - clip.motion_start_s for at in CLICKS_S]
        onsets = [at for at in onsets if 0 <= at < len(sound) / SAMPLE_RATE_HZ]
        assert len(onsets) >= 3
        loud = np.flatnonzero(np.abs(sound) > 0.2) / SAMPLE_RATE_HZ
        for at in onsets:
            assert np.abs(loud - at).min() < 0.001
        steps = trained.audio[0].mean(dim=1)
        assert len(steps) == 4 * trained.rgb.shape[1]
        heard = torch.nonzero(steps > (steps.max() + steps.median()) / 2).flatten().tolist()
        expected = [int((at - clip.start_s) * 25) for at in CLICKS_S if at >= clip.start_s]
        assert heard == [step for step in expected if step < len(steps)]
