"""Speech: level, silence, clipping and voice, each on sound with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.studio.voice import speak
from schemas.base import BackendRef
from schemas.errors import DecodeError
from stages.kit import media
from stages.screening.dnsmos import DnsMos
from stages.screening.lips import lip_gap, lip_shares
from stages.screening.silero import CHUNK_SAMPLES, SileroVad
from stages.screening.speech import (
    FLOOR_DB,
    SpeechConfig,
    SpeechGate,
    SpeechStage,
    clipping_share,
    digital_silence_share,
    judge,
    loudness_lufs,
    peak_dbfs,
    silent_facet,
)
from tests.support.clips import make_clip
from tests.support.facets import speech_facet
from tests.unit.stages.source.synth import tone, toy_files

LIPS = SpeechGate(max_still_while_voiced_share=0.5, max_moving_while_silent_share=0.6)
REF = BackendRef(name="vad", version="1", licence="MIT")
GOOD = speech_facet()


def test_loudness_of_a_full_scale_1_khz_tone():
    """BS.1770: a 0 dBFS 997 Hz sine in one channel reads -3.01 LUFS."""
    time = np.arange(16_000 * 3) / 16_000
    samples = np.sin(2 * np.pi * 997 * time).astype(np.float32)
    assert loudness_lufs(samples) == pytest.approx(-3.01, abs=0.2)
    assert loudness_lufs(0.1 * samples) == pytest.approx(-23.01, abs=0.2)


@pytest.mark.parametrize(
    "samples",
    [np.zeros(32_000, np.float32), np.full(100, 0.5, np.float32), np.zeros(0, np.float32)],
)
def test_silence_and_snippets_sit_on_the_floor(samples):
    assert loudness_lufs(samples) == FLOOR_DB


def test_peak():
    assert peak_dbfs(np.array([0.1, -0.5], np.float32)) == pytest.approx(-6.02, abs=0.01)
    assert peak_dbfs(np.zeros(4, np.float32)) == FLOOR_DB


def test_digital_silence_counts_long_runs_of_zeros_only():
    samples = np.full(16_000, 0.1, np.float32)
    samples[::2] = 0  # a square wave passes through zero all the time
    assert digital_silence_share(samples) == 0
    samples[4000:8000] = 0
    assert digital_silence_share(samples) == pytest.approx(0.25, abs=0.001)


def test_clipping_counts_flat_tops_not_peaks():
    wave = np.sin(np.linspace(0, 2000, 16_000)).astype(np.float32)
    assert clipping_share(0.9 * wave) == 0
    assert clipping_share(np.clip(3 * wave, -1, 1)) > 0.3
    peak = np.zeros(1000, np.float32)
    peak[500:502] = 1.0
    assert clipping_share(peak) == 0


def test_noise_and_tone_are_no_speech():
    vad = SileroVad()
    noise = np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    probabilities = vad.probabilities(noise)
    assert len(probabilities) == -(-32_000 // CHUNK_SAMPLES)
    assert (probabilities > 0.5).mean() < 0.05
    assert (vad.probabilities(tone(2, 16_000)) > 0.5).mean() < 0.2


def test_noise_and_music_lower_the_background_score():
    network = DnsMos()
    voice = speak(3.24, 1).samples.astype(np.float32)
    level = np.sqrt(np.mean(voice**2))
    time = np.arange(len(voice)) / 16_000
    noise = np.random.default_rng(0).standard_normal(len(voice))
    chord = sum(np.sin(2 * np.pi * f * time) for f in (220, 277, 330, 440))
    clean, hissing, playing = (
        network.score(np.clip(voice + level * beside, -1, 1).astype(np.float32))
        for beside in (0, noise, chord / np.std(chord))
    )
    assert clean.background > hissing.background + 0.8
    assert clean.background > playing.background + 0.8
    assert clean == network.score(voice)


def test_noise_is_judged_where_it_is_asked():
    noisy = GOOD.replace(background_mos=1.5)
    assert judge(noisy, SpeechGate()) is None
    assert judge(noisy, SpeechGate(min_background_mos=2.5)).reason == "noisy"
    assert judge(GOOD, SpeechGate(min_background_mos=2.5)) is None
    assert "noisy" in SpeechStage.reasons


@pytest.mark.parametrize("score_sound", [True, False])
def test_opinions_are_of_sound_that_is_there(tmp_path, score_sound):
    files = toy_files(tmp_path)
    stage = SpeechStage(SpeechConfig(score_sound=score_sound))
    stage.check()
    stage.setup()
    with files.row_scope():
        heard = stage.process(make_clip(files), files).rows[0].speech
        silent = stage.process(make_clip(files, has_audio=False), files).rows[0].speech
    scores = (heard.speech_mos, heard.background_mos, heard.overall_mos)
    assert all(s is not None for s in scores) == score_sound
    assert (heard.sound_backend is not None) == score_sound
    assert silent.background_mos is None


@pytest.mark.parametrize(
    ("facet", "reason"),
    [
        (GOOD, None),
        (silent_facet(REF), "no_audio"),
        (GOOD.replace(digital_silence_share=0.9), "digital_silence"),
        (GOOD.replace(voiced_share=0.1), "no_speech"),
        (GOOD.replace(loudness_lufs=-70), "too_quiet"),
        (GOOD.replace(clipping_share=0.05), "clipped"),
        (GOOD.replace(still_while_voiced_share=0.9), "voice_without_lips"),
        (GOOD.replace(moving_while_silent_share=0.9), "lips_without_voice"),
        (GOOD.replace(still_while_voiced_share=0.1, moving_while_silent_share=0.2), None),
    ],
)
def test_gate_names_the_defect(facet, reason):
    verdict = judge(facet, LIPS)
    assert (verdict.reason if verdict else None) == reason
    assert reason is None or reason in SpeechStage.reasons
    if reason in {"voice_without_lips", "lips_without_voice"}:
        assert judge(facet, SpeechGate()) is None, "judged where it is asked for"
    assert judge(facet, SpeechGate(require_speech=False)) is None


def _stage() -> SpeechStage:
    stage = SpeechStage(SpeechConfig())
    stage.check()
    stage.setup()
    return stage


def test_the_stage_measures_the_target_only(tmp_path):
    files = toy_files(tmp_path)
    stage = _stage()
    with files.row_scope():
        clip = make_clip(files, num_target=25, num_motion=25)
        wav = files.scratch / "half.wav"
        media.write_wav(wav, np.concatenate([tone(1, 16_000), np.zeros(16_000, np.float32)]))
        facet = clip.media.replace(audio=files.put(wav))
        row = stage.process(clip.replace(media=facet), files).rows[0]
    assert row.speech.digital_silence_share == 1.0
    assert row.speech.peak_dbfs == FLOOR_DB
    assert stage.gate(row).reason == "digital_silence"


def test_a_clip_without_sound(tmp_path):
    files = toy_files(tmp_path)
    stage = _stage()
    with files.row_scope():
        row = stage.process(make_clip(files, has_audio=False), files).rows[0]
    assert not row.speech.has_audio
    assert stage.gate(row).reason == "no_audio"


def test_sound_of_another_length_is_bad_data(tmp_path):
    files = toy_files(tmp_path)
    stage = _stage()
    with files.row_scope():
        clip = make_clip(files)
        wav = files.scratch / "short.wav"
        media.write_wav(wav, tone(0.1, 16_000))
        broken = clip.replace(media=clip.media.replace(audio=files.put(wav)))
        with pytest.raises(DecodeError) as caught:
            stage.process(broken, files)
    assert caught.value.code == "audio_misaligned"


def face(gap):
    """Face meshes (T,468,3) of a face 100 px high whose lips are apart by ``gap`` (T,) of that."""
    out = np.zeros((len(gap), 468, 3), np.float32)
    out[:, 152, 1] = 100
    out[:, 13, 1], out[:, 14, 1] = 70, 70 + 100 * np.asarray(gap)
    return out


TALK = 0.03 + 0.03 * np.sin(np.arange(100) * 2 * np.pi / 6)
REST = 0.005 + 0.003 * np.sin(np.arange(100))


@pytest.mark.parametrize(
    ("gap", "voiced", "still", "moving"),
    [
        (TALK, np.ones(100, bool), 0.0, None),
        (REST, np.ones(100, bool), 1.0, None),
        (TALK, np.zeros(100, bool), None, 1.0),
        (REST, np.zeros(100, bool), None, 0.0),
        (np.r_[TALK[:50], REST[50:]], np.arange(100) < 50, 0.0, 0.0),
        (np.r_[REST[:50], TALK[50:]], np.arange(100) < 50, 0.86, 1.0),
    ],
)
def test_lips_and_voice_contradict_each_other(gap, voiced, still, moving):
    found = lip_shares(lip_gap(face(gap)), voiced)
    assert found.still_while_voiced == pytest.approx(still, abs=0.03)
    assert found.moving_while_silent == pytest.approx(moving, abs=0.03)


def test_without_a_face_nothing_is_said_of_lips():
    found = lip_shares(lip_gap(np.full((50, 468, 3), np.nan, np.float32)), np.ones(50, bool))
    assert found == (None, None)
    few = face(TALK)
    few[5:] = np.nan
    assert lip_shares(lip_gap(few), np.ones(100, bool)) == (None, None)


@pytest.mark.parametrize(("gap", "reason"), [(TALK, None), (REST, "voice_without_lips")])
def test_speech_over_a_mouth_at_rest_is_dropped(tmp_path, gap, reason):
    files = toy_files(tmp_path)
    stage = _stage()
    with files.row_scope():
        clip = make_clip(files, num_target=75, num_motion=25)
        wav = files.scratch / "speech.wav"
        media.write_wav(wav, speak(4.0, 1).samples.astype(np.float32))
        arrays = dict(files.arrays(clip.detect.arrays)) | {"face_landmarks_px": face(gap)}
        detect = clip.detect.replace(arrays=files.put_arrays(arrays))
        audio = clip.media.replace(audio=files.put(wav))
        row = stage.process(clip.replace(detect=detect, media=audio), files).rows[0]
    assert row.speech.voiced_share > 0.4
    verdict = judge(row.speech, LIPS)
    assert (verdict.reason if verdict else None) == reason
    assert stage.gate(row) is None
