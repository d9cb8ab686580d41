"""The bench on real videos: masks are matched to their frames, gates are applied, figures add up."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

from jobs.bench.real import (
    PART_FRAMES,
    PartScores,
    measure_real,
    parts_of,
    render_real,
    summarise_real,
)
from jobs.bench.scores import calibration_error
from schemas.errors import ConfigError
from stages.kit.media import write_video


@pytest.fixture
def data(tmp_path):
    """A video of 100 frames, whose brightness is its frame number, with two masks."""
    frames = np.zeros((100, 64, 96, 3), np.uint8)
    frames += np.arange(100, dtype=np.uint8)[:, None, None, None] * 2
    write_video(tmp_path / "v.mp4", frames)
    folder = tmp_path / "held_products"
    folder.mkdir()
    with (folder / "frames.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, ["clip", "frame_index", "video"])
        out.writeheader()
        for index in (7, 90):
            mask = np.zeros((64, 96), np.uint8)
            mask[10:30, index // 2 : index // 2 + 20] = 255
            cv2.imwrite(str(folder / f"a__{index:06}.png"), mask)
            out.writerow({"clip": "a", "frame_index": index, "video": "v.mp4"})
    return tmp_path


def test_parts_hold_every_frame_once_and_masks_lie_on_their_frames(data):
    from jobs.bench.real import annotated_videos

    (path, masks) = annotated_videos(data)["a"]
    parts = list(parts_of("a", path, masks))
    assert sum(len(p.frames) for p in parts) == 100
    assert len(parts) == 1, "a rest of 19 frames joins the part before"
    assert set(parts[0].masks) == {7, 90}
    height, width = parts[0].frames.shape[1:3]
    assert (height, width) == (480, 720)
    for index, mask in parts[0].masks.items():
        assert abs(float(parts[0].frames[index].mean()) - 2 * index) < 4
        columns = np.flatnonzero(mask.any(axis=0)) / (width / 96)
        assert columns.min() == pytest.approx(index // 2, abs=0.5)
    assert PART_FRAMES == 81


def test_the_whole_bench_runs_and_counts_what_shows_nobody_as_missed(data, tmp_path):
    with_video = data / "held_products" / "frames.csv"
    frames = np.full((24, 64, 96, 3), 90, np.uint8)
    (data / "v.mp4").unlink()
    write_video(data / "v.mp4", frames)
    lines = with_video.read_text().splitlines()
    with_video.write_text("\n".join(lines[:2]) + "\n")
    held, none = measure_real(data, {}, lambda *_: None, tmp_path / "pictures")
    assert [s.part for s in held] == ["a-0000"]
    assert held[0].overlap == [0.0]
    assert held[0].lost_at
    assert none == []
    assert (tmp_path / "pictures" / "a-0000.png").exists()
    figures = summarise_real(held, none)
    assert figures["product mask J"] == figures["parts kept"] == 0


def test_a_clip_that_is_not_there_is_named_with_those_that_are(data):
    with pytest.raises(ConfigError, match=r"no annotated clip 'b'; there are a"):
        measure_real(data, {}, lambda *_: None, clips=["a", "b"])


def part(name, overlap, confidence, lost_at=""):
    return PartScores(
        name, name, lost_at, overlap, confidence, 0.0, {"detect": 2.0, "objects": 1.0}
    )


def test_figures_count_frames_parts_and_clips():
    held = [
        part("a", [0.8, 0.6], [0.9, 0.5]),
        part("b", [0.2], [0.2], "objects: low_confidence"),
        part("c", [0.3], [0.8]),
    ]
    none = [PartScores("e", "e", "objects: no_held_object", [], [], 0.25, {})]
    figures = summarise_real(held, none)
    assert figures["product mask J"] == pytest.approx(1.9 / 4)
    assert figures["frames with J >= 0.7"] == 0.25
    assert figures["clips with a kept part"] == 2
    assert figures["kept parts with J < 0.5"] == 1
    assert figures["nothing held: frames with a mask"] == 0.25
    assert "| b | 0.20 (0.20) | 0.20 | objects: low_confidence |" in render_real(
        held, none, figures
    )


def test_calibration_error_is_the_mean_gap_of_what_is_said_and_what_is():
    sure = np.array([0.95, 0.95, 0.15, 0.15])
    assert calibration_error(sure, np.array([0.95, 0.95, 0.15, 0.15])) == pytest.approx(0)
    assert calibration_error(sure, np.array([0.45, 0.45, 0.15, 0.15])) == pytest.approx(0.25)
    assert np.isnan(calibration_error(np.zeros(0), np.zeros(0)))
