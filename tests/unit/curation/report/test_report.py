"""The report counts what the decisions say, shows every gated score beside its threshold, and hides nothing."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from curation.recipe import RunGates
from curation.report import ReportInputs, build_report
from curation.report.build import summarise
from curation.report.scores import score_lines
from curation.report.seconds import seconds_line, seconds_text
from schemas import facets as f
from schemas.base import FileRef
from schemas.errors import HandloomError, InvariantError
from schemas.manifest import RunRecord, StageRecord
from schemas.outcome import Decision, Outcome
from schemas.rows import SourceVideo
from stages.files import Files, FolderBlobs
from stages.kit.masks import encode_masks
from tests.support.clips import make_clip
from tests.support.facets import body_facet, latents_facet, objects_facet, probe_facet

FILE = FileRef(sha256="a" * 64, suffix=".json", num_bytes=1)
SOURCE = SourceVideo(uri="/data/<b>a.mp4", num_bytes=5, content_sha256="0123456789abcdef" * 4)


def stage(name, facet="", **gate):
    return StageRecord(
        name=name,
        facet=facet,
        version=1,
        fingerprint="f",
        closure_fingerprint="c",
        needs=(),
        reasons=(),
        config={"gate": gate},
    )


def decision(row_id, name, outcome=Outcome.KEPT, reason="", emitted=1):
    return Decision(
        row_id=row_id,
        source_id=SOURCE.row_id,
        stage=name,
        outcome=outcome,
        reason=reason,
        seconds=3.24,
        num_emitted=emitted,
    )


@pytest.fixture
def clip(tmp_path):
    files = Files(FolderBlobs(tmp_path / "blobs"), tmp_path / "scratch")
    with files.row_scope():
        yield full_clip(files)


def full_clip(files):
    """A clip with every facet that the page shows."""
    row = make_clip(files)
    total = row.media.num_frames
    mask = np.zeros((total, 64, 96), bool)
    mask[:, 20:40, 30:50] = True
    objects = objects_facet(arrays=files.put_arrays(encode_masks(mask, "mask")), confidence=0.7)
    body, latents = body_facet(arrays=objects.arrays), latents_facet(arrays=objects.arrays)
    return row.replace(objects=objects, body=body, latents=latents)


def inputs(clip, decisions, tmp_path):
    run = RunRecord(
        run_id="r1",
        recipe={"name": "toy"},
        stages=(
            stage("segment"),
            stage("objects", "objects", min_confidence=0.6, max_area_share=None),
        ),
        sources=FILE,
        clips=FILE,
        decisions=FILE,
        num_stage_calls={"segment": 1},
        wall_s=2.0,
        started_at="2026-01-01T00:00:00+00:00",
        versions={"handloom": "0"},
    )
    other = clip.replace(clip_id="clip1", objects=clip.objects.replace(confidence=0.2))
    return ReportInputs(
        run=run,
        decisions=tuple(decisions),
        sources=(SOURCE,),
        clips=(clip, other),
        gates=RunGates(),
        blobs=FolderBlobs(tmp_path / "blobs"),
    )


BALANCED = [
    decision(SOURCE.row_id, "sources"),
    decision(SOURCE.row_id, "segment", emitted=2),
    decision("clip0", "objects"),
    decision("clip1", "objects", Outcome.DROPPED, "no_held_object"),
]


def test_page_and_numbers_agree_with_the_decisions(clip, tmp_path):
    report = build_report(inputs(clip, BALANCED, tmp_path), tmp_path / "out")
    saved = json.loads((tmp_path / "out/report.json").read_text())
    assert saved == json.loads(report.model_dump_json())
    assert [(s.name, s.num_in, s.num_kept, s.num_out) for s in report.stages] == [
        ("sources", 1, 1, 1),
        ("segment", 1, 1, 2),
        ("objects", 2, 1, 1),
    ]
    assert report.sources[0].clip_ends == {"no_held_object": 1}
    assert (report.sources[0].num_clips, report.sources[0].num_kept) == (2, 1)
    assert report.verdict == "PASS"
    page = (tmp_path / "out/index.html").read_text()
    assert "no_held_object" in page
    assert "<b>a.mp4" not in page, "names from outside are escaped"
    for kind in ("clip0-*?.jpg", "clip0-*.mp4", "clip0-*-person.jpg", "clip0-*-product.jpg"):
        path = next((tmp_path / "out/media").glob(kind))
        assert path.stat().st_size > 300
        assert f"media/{path.name}" in page


def test_pictures_of_an_earlier_report_are_taken_if_they_show_the_same(clip, tmp_path):
    made = inputs(clip, BALANCED, tmp_path)
    build_report(made, tmp_path / "first")
    taken = []

    def earlier(name, path):
        there = tmp_path / "first/media" / name
        if there.exists():
            taken.append(shutil.copy(there, path))
        return there.exists()

    missing = dataclasses.replace(made, blobs=FolderBlobs(tmp_path / "nowhere"))
    build_report(missing, tmp_path / "second", earlier)
    assert len(taken) == 4
    other = clip.replace(detect=clip.detect.replace(arrays=clip.objects.arrays))
    changed = dataclasses.replace(missing, clips=(other,))
    with pytest.raises(HandloomError, match="clip_unreadable"):
        build_report(changed, tmp_path / "third", earlier)


def test_a_gate_of_the_run_fails_the_report(clip, tmp_path):
    decisions = [
        *BALANCED[:2],
        *(decision(c, "objects", Outcome.FAILED, "bad") for c in ("clip0", "clip1")),
    ]
    report = build_report(inputs(clip, decisions, tmp_path), tmp_path / "out")
    assert report.verdict == "FAIL"
    assert {g.name for g in report.gates if not g.passed} == {
        "min_kept_clips",
        "max_failed_clip_share",
    }


def observed(clip, tmp_path, decisions):
    gates = summarise(inputs(clip, decisions, tmp_path)).gates
    return {g.name: (round(g.observed, 3), g.passed) for g in gates}


def test_sources_are_gated_by_sources_and_clips_by_clips(clip, tmp_path):
    """One bad clip of a long source is one of many clips, not one of one source."""
    clips = [f"clip{n}" for n in range(10)]
    decisions = [
        *BALANCED[:1],
        decision(SOURCE.row_id, "segment", emitted=10),
        decision("clip0", "objects", Outcome.FAILED, "bad"),
        *(decision(c, "objects") for c in clips[1:]),
    ]
    found = observed(clip, tmp_path, decisions)
    assert found["max_failed_share"] == (0, True)
    assert found["max_failed_clip_share"] == (0.1, True)
    assert found["max_quarantined_clip_share"] == (0, True)


def test_what_is_no_video_or_was_left_out_is_in_no_gate(clip, tmp_path):
    def source(n, stage, outcome, reason=""):
        return decision(f"s{n}", stage, outcome, reason).replace(source_id=f"s{n}")

    kept, failed, dropped = Outcome.KEPT, Outcome.FAILED, Outcome.DROPPED
    decisions = [
        *(source(n, "sources", kept) for n in range(4)),
        source(0, "sources", dropped, "duplicate_content"),
        *(source(9, "sources", dropped, "hidden") for _ in range(5)),
        *(source(9, "sources", failed, "archived") for _ in range(2)),
        source(0, "segment", kept),
        source(1, "segment", failed, "not_video"),
        source(2, "segment", failed, "truncated"),
        source(3, "segment", Outcome.QUARANTINED, "timeout"),
    ]
    found = observed(clip, tmp_path, decisions)
    assert found["max_failed_share"] == (0.6, False)  # two archived and one truncated of five
    assert found["max_quarantined_share"] == (0.2, False)


def test_every_input_has_a_line_in_the_report(clip, tmp_path):
    from schemas.manifest import InputLine

    line = InputLine(uri="/data/.x", row_id="1" * 16, outcome=Outcome.DROPPED, reason="hidden")
    asked = dataclasses.replace(inputs(clip, BALANCED, tmp_path), others=(line,))
    build_report(asked, tmp_path / "out")
    saved = json.loads((tmp_path / "out/report.json").read_text())
    assert [(s["uri"], s["reason"]) for s in saved["sources"]] == [
        ("/data/.x", "hidden"),
        (SOURCE.uri, ""),
    ]
    assert "/data/.x" in (tmp_path / "out/index.html").read_text()


def test_scores_count_dropped_clips_and_what_lies_beyond(clip, tmp_path):
    made = inputs(clip, BALANCED, tmp_path)
    area, confidence = sorted(score_lines(made.run.stages, made.clips), key=lambda s: s.name)
    assert (area.name, area.threshold, area.num_beyond) == ("area_share", None, 0)
    assert (confidence.threshold, confidence.num_beyond, confidence.side) == (0.6, 1, "min")
    assert confidence.quantiles[0] == 0.2
    assert confidence.quantiles[-1] == 0.7
    assert sum(confidence.bins) == 2
    assert confidence.low <= 0.2 < 0.7 <= confidence.high


def probed(duration_s, *left_out, index=0):
    facet = probe_facet(
        duration_s=duration_s,
        left_out=[f.LeftOut(reason=reason, seconds=seconds) for reason, seconds in left_out],
    )
    return SOURCE.replace(content_sha256=f"{index}" * 64, probe=facet)


def test_every_second_of_the_sources_is_in_a_clip_or_left_out_by_name(clip):
    used = probed(20, ("clock_jump", 3.0), ("pause", 40.0), index=1)
    short = probed(2, index=2)
    broken = SOURCE.replace(content_sha256="3" * 64)
    text = SOURCE.replace(content_sha256="4" * 64)
    clips = [
        clip.replace(clip_id=name, source_id=used.row_id, motion_start_s=a, start_s=a, end_s=b)
        for name, a, b in (("a", 0.0, 4.0), ("b", 3.0, 8.0))
    ]
    ends = [
        decision(used.row_id, "sources", Outcome.DROPPED, "duplicate_content"),  # its copy
        decision(short.row_id, "probe", Outcome.DROPPED, "too_short"),
        decision(broken.row_id, "probe", Outcome.FAILED, "truncated"),
        decision(text.row_id, "probe", Outcome.FAILED, "not_video"),
    ]
    line = seconds_line([used, short, broken, text], clips, ends)
    assert line.in_clips_s == pytest.approx(8)
    assert line.left_out_s == {
        "clock_jump": 3,
        "pause": 40,
        "too_short": 2,
        "not_in_a_clip": pytest.approx(12),
    }
    assert line.found_s == pytest.approx(20 + 43 + 2)
    assert line.num_unknown == 1
    assert "65.0 s of video found: 8.0 s in clips, 3.0 s clock_jump" in seconds_text(line)


def test_the_page_shows_the_seconds(clip, tmp_path):
    made = inputs(clip, BALANCED, tmp_path)
    source = probed(20, ("damaged", 3.5))
    report = build_report(replace(made, sources=(source,)), tmp_path / "out")
    assert report.seconds.left_out_s["damaged"] == 3.5
    assert "left out: damaged" in (tmp_path / "out/index.html").read_text()


def test_broken_books_are_refused_but_written_down(clip, tmp_path, monkeypatch):
    honest = summarise(inputs(clip, BALANCED, tmp_path))
    lossy = honest.replace(stages=(honest.stages[0].replace(num_in=7), *honest.stages[1:]))
    monkeypatch.setattr("curation.report.build.summarise", lambda _: lossy)
    with pytest.raises(InvariantError, match=r"broken at \['sources'\]"):
        build_report(inputs(clip, BALANCED, tmp_path), tmp_path / "bad")
    assert (tmp_path / "bad/report.json").is_file()
    assert not (tmp_path / "bad/index.html").exists()


def test_nothing_that_steers_a_terminal_gets_into_the_page(clip, tmp_path):
    escapes = "\x1b[2J\x9b31m\u202egpj.exe"
    hostile = [d.replace(detail=f"said {escapes}") if d.reason else d for d in BALANCED]
    made = inputs(clip, hostile, tmp_path)
    made = dataclasses.replace(made, sources=(SOURCE.replace(uri=f"/data/{escapes}.mp4"),))
    build_report(made, tmp_path / "out")
    page = (tmp_path / "out/index.html").read_text()
    assert "gpj.exe" in page
    assert "said " in page
    assert not set(page) & set("\x1b\x9b\u202e")
