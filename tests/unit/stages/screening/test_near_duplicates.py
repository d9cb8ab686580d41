"""One of several clips that show the same pictures stays; other moments of a scene are left alone."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.rows import Clip
from stages.kit import media
from stages.screening.near_duplicates import Twin, near_duplicates
from stages.screening.picture import MOTION_SIDE_PX, grey_frames, hash_distance, perceptual_hash
from stages.screening.quality import QualityConfig, QualityStage
from tests.support.clips import make_clip
from tests.unit.stages.screening.test_quality import GOOD
from tests.unit.stages.source.synth import textured, toy_files


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    files = toy_files(tmp_path_factory.mktemp("files"))
    with files.row_scope():
        return make_clip(files)


def clip(
    template: Clip, name: str, bits: int, *, source: str = "", shot: int = 0, **scores
) -> Clip:
    """A clip whose hash has the bits of an integer of 256 bits."""
    return template.replace(
        clip_id=name,
        source_id=source or f"source-{name}",
        media=template.media.replace(shot_index=shot),
        quality=GOOD.replace(phash=f"{bits:064x}", **scores),
    )


def test_a_near_copy_falls_and_another_scene_stays(template):
    rows = [clip(template, "a", 0), clip(template, "b", 0b111), clip(template, "c", (1 << 40) - 1)]
    assert near_duplicates(rows, 10) == {"b": Twin("a", 3)}


def test_the_limit_is_exact_wherever_the_bits_differ(template):
    for seed in range(30):
        flips = random.Random(seed).sample(range(256), 11)
        ten, eleven = (sum(1 << i for i in flips[:n]) for n in (10, 11))
        assert near_duplicates([clip(template, "a", 0), clip(template, "b", ten)], 10)
        assert not near_duplicates([clip(template, "a", 0), clip(template, "b", eleven)], 10)


def test_windows_of_one_shot_are_different_moments(template):
    same = [clip(template, "a", 0, source="s"), clip(template, "b", 1, source="s")]
    assert near_duplicates(same, 10) == {}
    repeated = [clip(template, "a", 0, source="s"), clip(template, "b", 1, source="s", shot=3)]
    assert near_duplicates(repeated, 10) == {"b": Twin("a", 1)}


def test_the_copy_with_fewest_repeated_frames_stays_then_the_sharper(template):
    slow = [clip(template, "a", 0, freeze_share=0.4), clip(template, "b", 1)]
    assert near_duplicates(slow, 10) == {"a": Twin("b", 1)}
    soft = [clip(template, "a", 0, sharpness=30), clip(template, "b", 1, sharpness=90)]
    assert near_duplicates(soft, 10) == {"a": Twin("b", 1)}


@given(st.lists(st.integers(0, (1 << 16) - 1), min_size=1, max_size=12, unique=True), st.randoms())
def test_the_order_of_the_rows_does_not_matter(template, hashes, shuffler):
    rows = [clip(template, f"{i:02d}", value) for i, value in enumerate(hashes)]
    expected = near_duplicates(rows, 3)
    shuffler.shuffle(rows)
    found = near_duplicates(rows, 3)
    assert found == expected
    stay = [r for r in rows if r.clip_id not in found]
    assert not near_duplicates(stay, 3)
    assert {twin.kept_id for twin in found.values()} <= {r.clip_id for r in stay}


def test_a_transcode_is_near_and_another_clip_is_far(tmp_path):
    frames = textured(27, 320, 256, seed=3)
    path = tmp_path / "again.mp4"
    media.write_video(path, frames, crf=32)
    own, again, other = (
        perceptual_hash(grey_frames(f, MOTION_SIDE_PX))
        for f in (frames, media.read_video(path), textured(27, 320, 256, seed=8))
    )
    assert hash_distance(own, again) <= 10 < 40 < hash_distance(own, other)


def test_the_gate_names_the_clip_that_stays_and_can_be_switched_off(template):
    rows = [clip(template, "a", 0), clip(template, "b", 1)]
    (verdict,) = QualityStage(QualityConfig()).gate_all(rows).values()
    assert (verdict.reason, verdict.detail) == ("near_duplicate", "1 of 256 bits from clip a")
    off = QualityConfig.model_validate({"gate": {"max_duplicate_bits": -1}})
    assert QualityStage(off).gate_all(rows) == {}
