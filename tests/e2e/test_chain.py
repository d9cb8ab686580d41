"""The whole product, as a user runs it: studio clip, shards, report, training, a sampled video."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from curation.report.write import report_inputs
from curation.root.store import Store
from jobs.sampling import first_clip, target_sound
from jobs.studio import generate, scripts
from schemas.clock import SAMPLE_RATE_HZ
from schemas.manifest import RunRecord
from stages.kit import media
from stages.source.foreign_sound import read_foreign_sound
from tests.support import command_line

PINNED = Path(__file__).with_name("pinned_root.json")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def handloom(*args: object, code: int = 0) -> dict:
    """Run a command with --json in a process of its own; its parsed answer."""
    done = command_line.handloom(*args, "--json", timeout=1400)
    assert done.returncode == code, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A studio clip of four seconds, a file that is no video, and an empty one."""
    path = tmp_path_factory.mktemp("chain")
    take = replace(scripts.SCRIPTS["clean"].takes[0], num_frames=96)
    scripts.SCRIPTS["short"] = scripts.ClipScript("short", (take,))
    try:
        generate.generate(path / "studio", clips=["short"], seed=1)
    finally:
        del scripts.SCRIPTS["short"]
    (path / "studio/videos/page.mp4").write_text("<html>not found</html>")
    (path / "studio/videos/empty.mp4").touch()
    return path


@pytest.fixture(scope="module")
def curated(folder) -> dict:
    gates = ("--set", "run.gates.max_failed_share=0.9")
    return handloom("curate", folder / "studio/videos", "--out", folder / "root", *gates)


def kept_streams(root: Path, run_id: str):
    """The one kept clip, its RGB and its HOI video."""
    store = Store(str(root))
    run = RunRecord.model_validate_json(store.read(f"runs/{run_id}/run.json"))
    with report_inputs(store, run) as inputs:
        (clip,) = inputs.clips
        rgb = media.read_video(inputs.blobs.fetch(clip.media.video))
        return clip, rgb, media.read_video(inputs.blobs.fetch(clip.structure.video))


def test_the_books_balance_and_the_clip_is_kept(folder, curated):
    report = curated["report_json"]
    for stage in report["stages"]:
        ends = ("num_kept", "num_dropped", "num_failed", "num_quarantined")
        assert stage["num_in"] == sum(stage[k] for k in ends), stage
    assert report["num_samples"] == 1
    probe = next(s for s in report["stages"] if s["name"] == "probe")
    assert probe["reasons"] == {"empty_file": 1, "not_video": 1}
    assert Path(curated["report"]).is_file()


def test_streams_agree_with_the_studios_truth(folder, curated):
    """Mask and structure lie where the truth says, in the clip's own frames."""
    from stages.kit.masks import decode_masks

    clip, rgb, hoi = kept_streams(folder / "root", curated["run_id"])
    assert hoi.shape == rgb.shape == (clip.media.num_frames, 832, 480, 3)
    truth = dict(np.load(folder / "studio/truth/short.npz"))
    first = round(clip.motion_start_s * 25)
    span = slice(first, first + clip.media.num_frames)
    product = decode_masks(truth, "product", 832, 480)[span]
    person = decode_masks(truth, "person", 832, 480)[span]
    is_object = (hoi[..., 2] > 128) & (hoi[..., 0] < 128) & (hoi[..., 1] < 128)
    is_body = (hoi[..., 0] > 128) | (hoi[..., 1] > 128)
    assert iou(is_object, product) > 0.5
    assert iou(is_body, person) > 0.7


def test_a_root_is_looked_at_from_all_sides(folder, curated, tmp_path):
    """Runs, shards, films, sources and clips of a finished root, and a plan that reads nothing."""
    root, source = folder / "root", folder / "studio/videos"
    assert [r["run_id"] for r in handloom("runs", root)["runs"]] == [curated["run_id"]]
    (shard,) = handloom("shards", root)["shards"]
    assert pq.read_metadata(shard["path"]).num_rows == shard["num_samples"] == 1
    (clip_id,) = curated["report_json"]["kept_clip_ids"]
    shown = handloom("show", root, clip_id[:6], "--out", tmp_path / "clip.mp4")
    assert shown["panels"] == ["rgb", "boxes", "mask", "structure"]
    film = media.read_video(tmp_path / "clip.mp4")
    assert film.shape == (shown["num_frames"], 832, 4 * 480, 3)
    assert read_foreign_sound(tmp_path / "clip.mp4").std() > 0.01
    decoded = handloom("show", root, clip_id, "--out", tmp_path / "latents.mp4", "--from-latents")
    again = media.read_video(tmp_path / "latents.mp4")
    assert again.shape == (decoded["num_frames"], 832, 2 * 480, 3)
    assert np.abs(again[-1, :, :480].astype(int) - film[-2, :, :480]).mean() < 10
    told = handloom("explain", root, "short.mp4")
    assert [c["clip_id"] for c in told["clips"]] == [clip_id]
    assert told["clips"][0]["end"]["stage"] == "shards"
    plan = handloom("curate", source, "--out", root, "--dry-run")
    assert plan["num_sources"] == 3
    assert plan["num_clips"]["value"] >= 1
    assert all(c["is_ok"] for c in plan["checks"])


def iou(a, b) -> float:
    """Median over frames."""
    both = (a & b).sum(axis=(1, 2)) / np.maximum((a | b).sum(axis=(1, 2)), 1)
    return float(np.median(both))


def test_training_and_sampling(folder, curated):
    root, out = folder / "root", folder / "train"
    shards = [
        p for p in (root / "blobs").rglob("*.parquet") if "rgb_latent" in pq.read_schema(p).names
    ]
    assert len(shards) == 1
    handloom(
        "train",
        root,
        "--recipe",
        "smoke",
        "--out",
        out,
        "--set",
        "steps_full=2",
        "--set",
        "steps_asymmetric=1",
        "--set",
        "eval_every=3",
    )
    lines = [json.loads(t) for t in (out / "metrics.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines if x["kind"] == "train"] == [1, 2, 3]
    assert all(np.isfinite(x["loss"]) for x in lines if x["kind"] == "train")
    video = folder / "sample.mp4"
    assert handloom("sample", out, "--root", root, "--out", video, "--set", "steps=2")["has_sound"]
    frames = media.read_video(video)
    assert len(frames) >= 80
    assert frames.std() > 1
    said, wanted = read_foreign_sound(video), target_sound(first_clip(root), root)
    both = np.fft.irfft(np.fft.rfft(said, 1 << 18) * np.conj(np.fft.rfft(wanted, 1 << 18)))
    late = (int(both.argmax()) + (1 << 17)) % (1 << 18) - (1 << 17)
    assert abs(late) < 0.02 * SAMPLE_RATE_HZ, "the sound of another moment"


def test_a_second_run_does_no_work_and_a_threshold_decides_anew(folder, curated):
    source, root = folder / "studio/videos", folder / "root"
    gates = ("--set", "run.gates.max_failed_share=0.9")
    again = handloom("curate", source, "--out", root, *gates)
    assert sum(again["num_stage_calls"].values()) == 0
    assert again["snapshot"] == curated["snapshot"]
    strict = handloom(
        "curate", source, "--out", root, *gates, "--set", "objects.gate.min_confidence=0.99", code=3
    )
    assert sum(strict["num_stage_calls"].values()) == 0
    assert strict["report_json"]["num_samples"] == 0
    objects = next(s for s in strict["report_json"]["stages"] if s["name"] == "objects")
    assert objects["num_dropped"] == 1


def test_its_content_is_the_pinned_one(folder, curated):
    """Every file of the kept clip and the shard, by content: moving code about changes no byte.

    Numbers may differ in their last digits on another kind of processor: the pin counts on the kind it was made on.
    """
    clip, _, _ = kept_streams(folder / "root", curated["run_id"])
    (shard,) = handloom("shards", folder / "root")["shards"]
    found = {name: ref["sha256"] for name, ref in file_refs(clip.model_dump(mode="json"))}
    found["shard"] = Path(shard["path"]).stem
    if os.environ.get("HANDLOOM_PIN"):
        PINNED.write_text(json.dumps({"processor": processor(), "files": found}, indent=1) + "\n")
    pinned = json.loads(PINNED.read_text())
    if pinned["processor"] != processor():
        pytest.skip(f"pinned on {pinned['processor']}, this is {processor()}")
    assert found == pinned["files"]


def file_refs(value, at=""):
    """Every content-named file in a row's plain form, with its place in the row."""
    if isinstance(value, dict) and "sha256" in value:
        yield at, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from file_refs(inner, f"{at}.{key}".strip("."))
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield from file_refs(inner, f"{at}[{n}]")


def processor() -> str:
    """What decides the order of sums: the vector instructions that the libraries choose by."""
    flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    kinds = sorted(f for f in flags if f.startswith(("avx", "fma", "amx")))
    return platform.machine() + " " + " ".join(kinds)
