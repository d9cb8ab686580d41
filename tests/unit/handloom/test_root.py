"""``handloom.open``: clips, samples, frames and report of a root, local or not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import handloom
from schemas.errors import ConfigError
from stages.files import Files, FolderBlobs
from stages.packing.latents import LatentsConfig, LatentsStage
from tests.support import s3
from tests.support.clips import make_clip, square_frames
from tests.support.roots import finish_run, new_root, publish_clips

HEIGHT, WIDTH, NUM_TARGET, NUM_MOTION = 64, 96, 9, 5
OLD, NEW = "20260101T000000001-abcdef", "20260101T000000002-abcdef"


def fill(root: Path) -> None:
    """Two runs and their snapshots: three clips, then four, of which one did not get as far as latents."""
    ledger = new_root(root)
    files = Files(FolderBlobs(root), root / "scratch")
    latents = LatentsStage(LatentsConfig())
    latents.setup()
    with files.row_scope():
        made = [
            make_clip(
                files, f"clip{n}", num_target=NUM_TARGET, num_motion=NUM_MOTION * (n == 1),
                has_audio=n != 2, seed=n, height=HEIGHT, width=WIDTH,
            )
            for n in range(4)
        ]  # fmt: skip
        rows = [latents.process(clip, files).rows[0] for clip in made[:3]]
        old = publish_clips(ledger, rows, files, "run/1")
        finish_run(ledger, rows, number=1, snapshot=old.snapshot)
        new = publish_clips(ledger, rows[:2], files, "run/2")
        ended = made[3].replace(structure=None, caption=None)
        finish_run(ledger, [*rows[:2], ended], number=2, snapshot=new.snapshot)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("handloom") / "my-root"
    fill(root)
    return root


@pytest.fixture
def root(folder) -> handloom.Root:
    return handloom.open(folder)


def test_clips_are_those_of_the_newest_run(folder, root) -> None:
    assert root.run_id == NEW
    assert root.runs() == (OLD, NEW)
    assert [c.clip_id for c in root.clips()] == ["clip0", "clip1", "clip3"]
    assert [c.clip_id for c in handloom.open(folder, run=OLD).clips()] == [
        "clip0",
        "clip1",
        "clip2",
    ]


@pytest.mark.parametrize(
    ("chosen", "ids"),
    [
        ({}, ["clip0", "clip1"]),
        ({"run": OLD}, ["clip0", "clip1", "clip2"]),
        ({"run": OLD, "snapshot": 2}, ["clip0", "clip1"]),
        ({"snapshot": 1}, ["clip0", "clip1", "clip2"]),
    ],
)
def test_a_run_or_a_number_chooses_the_samples(folder, chosen, ids) -> None:
    samples = handloom.open(folder, **chosen).samples()
    assert sorted(samples.clip_ids) == sorted(s.clip_id for s in samples) == ids


def test_samples_are_a_sequence_that_opens_a_shard_when_it_must(folder) -> None:
    samples = handloom.open(folder, run=OLD).samples()
    assert len(samples) == 3
    assert samples._readers == {}
    assert isinstance(samples[0], handloom.Sample)
    assert len(samples._readers) == 1
    assert samples[-1] == samples[2] == samples[1:][-1]
    assert samples[2].clip_id == samples.clip_ids[2]
    assert samples.of("clip2").audio_features is None
    with pytest.raises(IndexError):
        samples[3]
    with pytest.raises(KeyError, match="clip9 is not in snapshot 1"):
        samples.of("clip9")


def test_a_sample_and_its_clip_show_the_same_frames(folder) -> None:
    root = handloom.open(folder, run=OLD)
    for clip in root.clips():
        real, decoded = root.decode(clip), root.decode(root.samples().of(clip.clip_id))
        assert real.rgb.shape == real.hoi.shape == (NUM_TARGET, HEIGHT, WIDTH, 3)
        assert decoded.rgb.shape == decoded.hoi.shape == (NUM_TARGET - 1, HEIGHT, WIDTH, 3)
        assert best_shift(decoded.rgb, real.rgb) == best_shift(decoded.hoi, real.hoi) == 0
        assert (real.audio is None) == (decoded.audio is None) == (clip.clip_id == "clip2")
        if real.audio is not None:
            assert len(real.audio) == NUM_TARGET * 640
            assert np.array_equal(decoded.audio, real.audio[:-640])


def best_shift(decoded: np.ndarray, truth: np.ndarray) -> int:
    """By how many frames ``decoded`` is late: the square moves two pixels a frame."""
    inner = decoded[2:-2].astype(int)
    starts = range(len(truth) - len(inner) + 1)
    errors = [np.abs(truth[s : s + len(inner)] - inner).mean() for s in starts]
    return int(np.argmin(errors)) - 2


def test_context_is_left_out_of_frames_and_sound(root) -> None:
    clip = next(c for c in root.clips() if c.media.num_motion_frames)
    whole = square_frames(NUM_TARGET + NUM_MOTION, HEIGHT, WIDTH, seed=1)
    shown = root.decode(clip)
    assert np.abs(shown.rgb.astype(int) - whole[NUM_MOTION:]).mean() < 3
    first_click = int(np.argmax(np.abs(shown.audio) > 0.2))
    assert (NUM_MOTION * 640 + first_click - 300) % 1920 == 0


def test_a_clip_that_ended_early_has_no_structure(root) -> None:
    (ended,) = (c for c in root.clips() if c.latents is None)
    assert root.decode(ended).hoi is None


def test_latents_of_another_codec_are_refused(root) -> None:
    foreign = root.samples()[0].replace(codec="wan2.1-vae@diffusers#0123456789abcdef")
    with pytest.raises(
        ConfigError, match=r"sample clip\d has latents of wan2.1-vae.*this is dct@2"
    ):
        root.decode(foreign)


def test_a_file_that_a_facet_names_is_a_path(root, folder) -> None:
    clip = root.clips()[0]
    assert root.local(clip.media.video) == folder / clip.media.video.name


def test_the_report_is_found_again(root) -> None:
    report = root.report()
    assert report.run_id == NEW
    assert report.verdict == "FAIL"
    assert root.report() == report


def test_what_was_decoded_is_written_as_a_film_once(root, tmp_path) -> None:
    shown = root.decode(root.samples()[0])
    handloom.write_mp4(tmp_path / "new/clip.mp4", shown)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["clip.hoi.mp4", "clip.mp4"]
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        handloom.write_mp4(tmp_path / "new/clip.mp4", shown)


def test_what_is_no_root_or_has_no_such_run_is_refused(folder, tmp_path) -> None:
    with pytest.raises(ConfigError, match="not a Handloom root"):
        handloom.open(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="no finished run '20990101'"):
        handloom.open(folder, run="20990101")


def test_a_run_that_kept_nothing_has_no_samples(tmp_path) -> None:
    ledger = new_root(tmp_path)
    run = finish_run(ledger, [])
    for root in (handloom.open(tmp_path), handloom.open(tmp_path, run=run)):
        assert root.clips() == ()
        with pytest.raises(ConfigError, match="no shards: no clip was kept"):
            root.samples()


def test_a_snapshot_with_other_columns_is_refused(root) -> None:
    manifest = root._manifest().replace(schema_version="2")
    with pytest.raises(ConfigError, match="snapshot 2 of here has samples of schema version 2"):
        handloom.Samples(manifest, root.local, "here")


def test_a_damaged_shard_is_refused_when_it_is_opened(tmp_path) -> None:
    fill(tmp_path)
    samples = handloom.open(tmp_path).samples()
    (path,) = (tmp_path / s.file.name for s in samples._shards)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(ConfigError, match="is damaged"):
        samples[0]


def test_a_bucket_reads_like_a_folder(folder, tmp_path, monkeypatch) -> None:
    from curation.root.store import Store, StoreOptions

    (tmp_path / "server").mkdir()
    with s3.s3_server(tmp_path / "server") as endpoint:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.SECRET_KEY)
        s3.make_bucket(endpoint, "shards")
        store = Store("s3://shards/my-root", StoreOptions(endpoint_url=endpoint))
        for path in folder.rglob("*"):
            if path.is_file() and "scratch" not in path.parts:
                store.put_new(path.relative_to(folder).as_posix(), path)
        with handloom.open("s3://shards/my-root", endpoint_url=endpoint) as there:
            here = handloom.open(folder)
            assert there.clips() == here.clips()
            assert list(there.samples()) == list(here.samples())
            frames = there.decode(there.samples()[1])
            assert np.array_equal(frames.rgb, here.decode(here.samples()[1]).rgb)
            copy = there.local(there.clips()[0].media.video)
            assert copy.is_file()
        assert not copy.exists()


START = """
import sys, time
begun = time.perf_counter()
import handloom
root = handloom.open({root!r})
assert not {{"torch", "ray", "cv2", "scipy"}} & set(sys.modules), "open"
assert len(root.clips()) == 3 and len(root.samples()) == 2
assert not {{"torch", "ray", "cv2", "scipy"}} & set(sys.modules), "clips, samples"
assert root.report().verdict == "FAIL"
assert not {{"torch", "ray", "scipy"}} & set(sys.modules), "report"
root.decode(root.clips()[0])
assert not {{"torch", "ray"}} & set(sys.modules), "decode a clip"
"""


def test_reading_a_root_loads_no_torch(folder) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START.format(root=str(folder))], capture_output=True, text=True,
        check=False, cwd=Path(handloom.__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there() -> None:
    for name in handloom.__all__:
        assert getattr(handloom, name) is not None
    assert (Path(handloom.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no attribute 'clps'"):
        handloom.clps  # noqa: B018
