"""The scripts of ``examples/``, each run as its first lines say, on the smallest clip that the chain takes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import handloom
from jobs.studio import generate, scripts
from model.training.shard_reader import shard_paths
from model.training.trainer import train
from stages.kit import media
from tests.support.shards import TINY_NETWORK
from tests.support.train_recipes import train_recipe

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```python\n(.*?)^```", (REPO / "docs/python.md").read_text(), re.M | re.S)
EXAMPLES = sorted((REPO / "examples").glob("*.py"))
TINY = """
name: tiny
run: {runner: here}
probe: {gate: {min_duration_s: 1.0}}
segment: {num_frames: 33, stride_frames: 33, max_motion_frames: 0, buckets: [[240, 416]]}
quality: {gate: {min_sharpness: 0.0}}
"""
"""One window of 33 frames, small enough for half a minute; pictures of that size are not sharp."""


def run(name: str, *args: object) -> str:
    return python(str(REPO / "examples" / name), *map(str, args), folder=REPO)


def python(*args: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, timeout=300, check=False,
        cwd=folder, env={**os.environ, "PYTHONPATH": str(REPO)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A studio clip of 40 frames, and a recipe for it."""
    path = tmp_path_factory.mktemp("examples")
    take = replace(scripts.SCRIPTS["clean"].takes[0], num_frames=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(scripts.SCRIPTS, "short", scripts.ClipScript("short", (take,)))
        generate.generate(path / "studio", clips=["short"], seed=1, size_px=(240, 416))
    (path / "tiny.yaml").write_text(TINY)
    return path


@pytest.fixture(scope="module")
def curated(folder) -> str:
    return run("curate.py", folder / "studio/videos", folder / "my-root", folder / "tiny.yaml")


@pytest.fixture(scope="module")
def checkpoint(folder, curated) -> Path:
    out = folder / "my-root/train-smoke"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    settings = {
        "network": {"overrides": {**TINY_NETWORK, "text_len": 64}}, "steps_full": 0, "steps_asymmetric": 1,
        "eval_every": 9, "eval_sigmas": (0.5,), "eval_clips": 1,
    }  # fmt: skip
    train(train_recipe("smoke", settings), shard_paths(folder / "my-root"), out)
    torch.set_num_threads(before)
    return out


def test_every_example_says_how_it_is_called_and_has_its_test() -> None:
    assert {p.name for p in EXAMPLES} == {"curate.py", "read_shards.py", "sample.py"}
    for path in EXAMPLES:
        assert f"    python examples/{path.name} " in path.read_text(), path


def test_curate(folder, curated) -> None:
    assert re.search(r"^shards +1 in +1 kept", curated, re.M)
    (kept,) = handloom.open(folder / "my-root").report().kept_clip_ids
    assert re.search(rf"^{kept} .* kept, sharpness \d", curated, re.M)
    assert curated.splitlines()[-1].startswith("PASS: 1 clips of run ")


def test_read_shards(folder, curated) -> None:
    said = run("read_shards.py", folder / "my-root", folder / "film.mp4")
    assert "(16, 8, 52, 30) dct@2: " in said
    film = media.read_video(folder / "film.mp4")
    root = handloom.open(folder / "my-root")
    real = root.decode(root.clips()[0])
    assert film.shape == (32, 416, 240, 3)
    assert np.abs(film.astype(int) - real.rgb[:32]).mean() < 8
    assert media.read_video(folder / "film.hoi.mp4").shape == film.shape


def test_sample(folder, checkpoint) -> None:
    run("sample.py", checkpoint, folder / "my-root", folder / "out", 1)
    films = sorted((folder / "out").iterdir())
    assert [p.name for p in films] == ["guidance-1.mp4", "guidance-5.mp4"]
    weak, strong = map(media.read_video, films)
    assert weak.shape == strong.shape == (32, 160, 96, 3)
    assert not np.array_equal(weak, strong)


SAID = {
    "root.clips()": r"\nPASS$",
    "error = np.abs": r"^\(16, 8, 52, 30\) the codec is off by [1-7]\.\d of 255$",
    "handloom.curate": r"^FAIL \{'probe': \{'too_short': 1\}\}$",
    "handloom.sample(": r"^$",
}
"""What a block of docs/python.md prints at its end, by what it shows. A clip of 40 frames is too short by default."""


@pytest.mark.parametrize(("code", "shows"), list(zip(BLOCKS, SAID, strict=True)), ids=SAID)
def test_a_block_of_the_page_runs(folder, checkpoint, code, shows, tmp_path) -> None:
    assert shows in code
    (tmp_path / "my-videos").symlink_to(folder / "studio/videos")
    if (
        shows != "handloom.curate"
    ):  # it has a root of its own: the newest run of the other one stays
        (tmp_path / "my-root").symlink_to(folder / "my-root")
    assert re.search(SAID[shows], python("-c", code, folder=tmp_path).strip())
