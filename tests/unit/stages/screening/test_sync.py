"""How late the sound is: the search on embeddings that are known, the network by its published shape, the stage's seam."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from schemas.errors import ConfigError
from stages.screening.mfcc import mel_triangles, mfcc
from stages.screening.speech import SpeechConfig, SpeechGate, SpeechStage, judge
from stages.screening.sync import Sync, find_offset, measure_sync, mouth_crops, windows_of_sound
from stages.screening.syncnet import SyncNetBackend
from stages.screening.syncnet_net import SyncNet
from tests.support.clips import make_clip
from tests.unit.stages.screening.test_speech import GOOD


def embeddings(count=90, size=16, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (count, size)).astype(np.float32)


@pytest.mark.parametrize("late", [-15, -7, -1, 0, 1, 4, 15])
def test_the_offset_is_found_to_the_frame(late):
    """Sound that is late by n frames: what the lips do at t is heard at t + n."""
    both = embeddings(130)
    lips, sound = both[20:110], both[20 - late : 110 - late]
    found = find_offset(lips, sound + 0.2 * embeddings(90, seed=1))
    assert found.offset_frames == late
    assert found.confidence > 2


def test_lips_that_belong_to_no_sound_give_no_confidence():
    found = find_offset(embeddings(seed=2), embeddings(seed=3))
    assert found.confidence < 0.3


def test_windows_without_a_face_have_no_vote():
    both = embeddings(120)
    lips, sound = both[10:100].copy(), both[7:97]
    lips[:40] = both[2:42]  # a wrong face fits another shift
    seen = np.arange(90) >= 40
    found = find_offset(lips, sound, seen)
    assert found.offset_frames == 3
    assert find_offset(lips, sound, np.zeros(90, bool)) is None
    assert found.confidence > find_offset(lips, sound).confidence


def test_short_clips_are_compared_at_the_shifts_that_they_have():
    both = embeddings(40)
    assert find_offset(both[4:20], both[2:18]).offset_frames == 2
    assert find_offset(both[:12], both[:12]) is None
    assert find_offset(both[:0], both[:0]) is None


def test_equal_sound_everywhere_stays_at_zero():
    assert find_offset(np.ones((60, 4)), np.ones((60, 4))) == Sync(0, 0.0)


def test_coefficients_follow_the_sound():
    time = np.arange(16_000) / 16_000
    tone = (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    quiet, loud = mfcc(0.1 * tone), mfcc(tone)
    assert loud.shape == (99, 13)  # 1 + ceil((16000 - 400) / 160)
    # ten times the amplitude: log energy grows by log 100, the spectrum's form stays
    assert np.allclose(loud[:, 0] - quiet[:, 0], math.log(100), atol=1e-3)
    assert np.allclose(loud[:, 1:], quiet[:, 1:], atol=1e-2)
    assert np.isfinite(mfcc(np.zeros(16_000, np.float32))).all()
    assert mfcc(np.zeros(100, np.float32)).shape == (1, 13)


def test_coefficients_are_those_of_the_definition():
    """One frame by the textbook, term by term."""
    samples = np.random.default_rng(0).normal(0, 0.1, 400).astype(np.float32)
    wave = samples.astype(float) * 32_768
    flat = [wave[0], *(wave[n] - 0.97 * wave[n - 1] for n in range(1, 400))]
    power = np.array(
        [
            abs(sum(flat[n] * np.exp(-2j * np.pi * k * n / 512) for n in range(400))) ** 2 / 512
            for k in range(257)
        ]
    )
    logs = np.log(mel_triangles() @ power)
    expected = [math.log(power.sum())]
    for k in range(1, 13):
        term = sum(logs[n] * math.cos(math.pi * k * (2 * n + 1) / 52) for n in range(26))
        expected.append(math.sqrt(2 / 26) * term * (1 + 11 * math.sin(math.pi * k / 22)))
    assert np.allclose(mfcc(samples)[0], expected, rtol=1e-3, atol=1e-3)


def test_triangles_cover_all_bins_once_between_the_first_and_last_peak():
    weights = mel_triangles()
    assert weights.shape == (26, 257)
    peaks = weights.argmax(axis=1)
    assert (np.diff(peaks) > 0).all()
    assert np.allclose(weights[:, peaks[0] : peaks[-1]].sum(axis=0), 1)


def test_windows_of_sound_begin_with_their_frames():
    steps = np.arange(60, dtype=np.float32)[:, None] * np.ones((1, 13), np.float32)
    windows = windows_of_sound(steps, 12)
    assert windows.shape == (12, 20, 13)
    assert windows[3, :, 0].tolist() == list(range(12, 32))
    assert windows[-1, -1, 0] == 59  # the end is repeated: 64 steps would be needed


def test_crops_follow_the_face_and_are_grey_beyond_the_picture():
    frames = np.zeros((20, 200, 200, 3), np.uint8)
    boxes = np.tile(np.float32([60, 60, 140, 140]), (20, 1))
    frames[:, 140 - 2 : 140 + 2, 98:102] = 255  # the chin's middle
    boxes[5] = np.nan
    crops = mouth_crops(frames, boxes)
    assert crops.shape == (20, 224, 224, 3)
    side = 80 * 1.4
    rows, cols = np.nonzero(crops[5, :, :, 0])
    assert rows.mean() == pytest.approx(80 * 224 / side, abs=2)
    assert cols.mean() == pytest.approx(112, abs=2)
    edge = mouth_crops(frames, boxes - 60)
    assert (edge[0, :, :10] == 110).all()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("syncnet") / "random.model"
    torch.save(SyncNet().state_dict(), path)
    return path


def test_the_arrays_are_named_and_shaped_as_published():
    """Names and shapes of the first and last layers of each part, from the published layer list."""
    shapes = {name: tuple(v.shape) for name, v in SyncNet().state_dict().items()}
    published = {
        "netcnnaud.0.weight": (64, 1, 3, 3), "netcnnaud.4.weight": (192, 64, 3, 3),
        "netcnnaud.8.weight": (384, 192, 3, 3), "netcnnaud.14.weight": (256, 256, 3, 3),
        "netcnnaud.18.weight": (512, 256, 5, 4), "netcnnaud.19.running_mean": (512,),
        "netfcaud.0.weight": (512, 512), "netfcaud.3.weight": (1024, 512),
        "netcnnlip.0.weight": (96, 3, 5, 7, 7), "netcnnlip.4.weight": (256, 96, 1, 5, 5),
        "netcnnlip.14.weight": (256, 256, 1, 3, 3), "netcnnlip.18.weight": (512, 256, 1, 6, 6),
        "netfclip.1.bias": (512,), "netfclip.3.bias": (1024,),
    }  # fmt: skip
    assert {name: shapes[name] for name in published} == published


def test_both_towers_embed_every_window(weights):
    backend = SyncNetBackend(str(weights))
    backend.check()
    backend.setup()
    crops = np.random.default_rng(0).integers(0, 255, (6, 224, 224, 3), dtype=np.uint8)
    lips, sound = backend.embed(crops, np.zeros((2, 20, 13), np.float32))
    assert lips.shape == sound.shape == (2, 1024)
    assert not np.allclose(lips[0], lips[1])
    assert np.allclose(sound[0], sound[1])


def test_old_files_without_counters_load(weights, tmp_path):
    state = {k: v for k, v in torch.load(weights).items() if not k.endswith("num_batches_tracked")}  # noqa: TID251
    torch.save(state, tmp_path / "old.model")
    SyncNetBackend(str(tmp_path / "old.model")).setup()


class Planted:
    """What a hostile pickle would run."""

    def __reduce__(self):
        return print, ("run",)


def bad_files(folder):
    torch.save({"layer.weight": torch.zeros(3)}, folder / "other.model")
    torch.save({"a": Planted()}, folder / "hostile.model")
    (folder / "text.model").write_text("no weights")
    (folder / "empty.model").touch()
    state = SyncNet().state_dict()
    state["netfcaud.3.bias"] = torch.zeros(7)
    torch.save(state, folder / "shape.model")


@pytest.mark.parametrize("name", ["other", "hostile", "text", "empty", "shape"])
def test_a_wrong_file_is_a_clear_error(name, tmp_path, capsys):
    bad_files(tmp_path)
    with pytest.raises(ConfigError, match=r"speech\.sync_backend\.weights_file"):
        SyncNetBackend(str(tmp_path / f"{name}.model")).setup()
    assert "run" not in capsys.readouterr().out


def test_an_absent_or_unpinned_file_stops_the_run(weights):
    config = SpeechConfig(sync_backend="syncnet", sync_weights_file="/absent.model")
    with pytest.raises(ConfigError, match=r"speech\.sync_backend\.weights_file: no weight file"):
        SpeechStage(config).check()
    pinned = SpeechConfig(
        sync_backend="syncnet", sync_weights_file=str(weights), sync_weights_sha256="0" * 64
    )
    with pytest.raises(ConfigError, match="is pinned"):
        SpeechStage(pinned).check()


class Known:
    """Embeddings that are the picture's and the sound's own brightness pattern."""

    def embed(self, lips, sound):
        count = len(sound)
        seen = lips[:count].reshape(count, -1).mean(axis=1)
        heard = sound[:, 0, 0]
        return tuple(
            np.stack([(v - v.mean()) / v.std()] * 2, axis=1).astype(np.float32)
            for v in (seen, heard)
        )


def test_sound_of_a_clip_is_laid_to_its_frames():
    """Brightness and loudness follow one curve, the sound four frames later."""
    rng = np.random.default_rng(0)
    curve = rng.uniform(0.2, 1.0, 104)
    frames = np.zeros((100, 64, 64, 3), np.uint8)
    frames += (curve[:100] * 250).astype(np.uint8)[:, None, None, None]
    loud = np.repeat(np.exp(2 * np.concatenate([np.full(4, 0.5), curve])[:100] - 3), 640)
    samples = (loud * np.sin(np.arange(64_000) * 0.7)).astype(np.float32)
    faces = np.tile(np.float32([10, 10, 50, 50]), (100, 1))
    assert measure_sync(frames, faces, samples, Known()).offset_frames == 4
    assert measure_sync(frames, np.full_like(faces, np.nan), samples, Known()) is None
    assert measure_sync(frames[:8], faces[:8], samples[: 8 * 640], Known()) is None


def test_sync_is_measured_only_where_it_is_asked(weights, files):
    asked = SpeechStage(
        SpeechConfig(score_sound=False, sync_backend="syncnet", sync_weights_file=str(weights))
    )
    plain = SpeechStage(SpeechConfig(score_sound=False))
    assert asked.fingerprint != plain.fingerprint
    for stage in (asked, plain):
        stage.setup()
    clip = make_clip(files, num_target=20)
    heard, unasked = (s.process(clip, files).rows[0].speech for s in (asked, plain))
    assert heard.sync_confidence >= 0
    assert -15 <= heard.sync_offset_frames <= 15
    assert heard.sync_backend.weights_sha256
    assert unasked.sync_offset_frames is None
    assert unasked.sync_backend is None


@pytest.mark.parametrize(
    ("late", "reason"), [(3, None), (-3, None), (4, "out_of_sync"), (-12, "out_of_sync")]
)
def test_late_and_early_sound_is_dropped_alike(late, reason):
    verdict = judge(GOOD.replace(sync_offset_frames=late, sync_confidence=5.0), SpeechGate())
    assert (verdict.reason if verdict else None) == reason
    assert verdict is None or reason in SpeechStage.reasons


def test_confidence_is_judged_where_a_limit_is_set():
    unsure = GOOD.replace(sync_offset_frames=0, sync_confidence=0.4)
    assert judge(unsure, SpeechGate()) is None
    assert judge(unsure, SpeechGate(min_sync_confidence=1.0)).reason == "sync_unsure"
    assert judge(GOOD, SpeechGate(min_sync_confidence=1.0)) is None  # not asked
