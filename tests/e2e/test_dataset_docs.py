"""What docs/dataset.md tells a user to run, run as it stands on a small root, by every reader that it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from stages.files import Files, FolderBlobs
from stages.packing.latents import LatentsConfig, LatentsStage
from stages.packing.shards import plan_shards, write_shard
from tests.support.clips import make_clip
from tests.support.roots import finish_run, new_root, publish_clips

pytestmark = pytest.mark.slow

REPO = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (REPO / "docs/dataset.md").read_text(), re.M | re.S)
PYTHON = [code for kind, code in BLOCKS if kind == "python"]
SHELL = [code for kind, code in BLOCKS if kind == "sh"]
HEIGHT, WIDTH, NUM_TARGET, NUM_MOTION = 64, 176, 81, 73

CHECK_FRAMES = f"""
import numpy as np
import torch
from model.codecs.dct import DctCodec
from model.codecs.pixels import to_frames
from model.training.data import to_torch
from tests.support.clips import square_frames

def first_shown(decoded, truth):
    # the square moves two pixels a frame: the start at which the films agree best; the ends give room to slide
    inner = decoded[4:-4]
    starts = range(len(truth) - len(inner) + 1)
    truth = truth.astype(int)
    errors = [np.abs(truth[start : start + len(inner)] - inner).mean() for start in starts]
    return int(np.argmin(errors)) - 4

codec = DctCodec("rgb")
num_with_context = 0
for sample in root.samples():
    num_motion, rgb = sample.num_motion_frames, to_torch(sample.rgb_latent)
    seed = int(sample.clip_id.removeprefix("clip"))
    film = square_frames({NUM_TARGET} + num_motion, {HEIGHT}, {WIDTH}, seed=seed)
    truth = film[num_motion:]
    assert rgb.shape[1] == 20
    shown = root.decode(sample)
    assert len(shown.rgb) == len(shown.hoi) == 80
    assert first_shown(shown.rgb, truth) == 0, sample.clip_id
    black = square_frames({NUM_TARGET} + num_motion, {HEIGHT}, {WIDTH}, hoi=True)[num_motion:]
    assert first_shown(shown.hoi, black) == 0
    assert shown.audio is None if seed == 2 else len(shown.audio) == 80 * 640
    alone = to_frames(codec.decode(rgb[None]))
    assert len(alone) == 77 and first_shown(alone[1:], truth) == 1 + 3, sample.clip_id
    mean = truth[:4].astype(float).mean(axis=0)
    assert np.abs(alone[0] - mean).mean() < 6 < np.abs(alone[0] - truth[8].astype(float)).mean()
    if sample.rgb_motion_latent is not None:
        num_with_context += 1
        motion = to_torch(sample.rgb_motion_latent)
        whole = to_frames(codec.decode(torch.cat([motion, rgb], dim=1)[None]))
        assert motion.shape[1] == 19 and len(whole) == 153
        assert first_shown(whole, film) == 0
        assert first_shown(whole[4 * 18 + 1 :], truth) == 0
    assert len(to_frames(codec.decode(to_torch(sample.person_latent)[None]))) == 1
assert num_with_context == 1
"""

SAME_ROWS = """
import numpy, pyarrow.parquet

def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, numpy.ndarray)):
        return [plain(v) for v in value]
    return None if value != value else value  # pandas writes a string that is null as NaN

def check_rows(rows):
    wanted = pyarrow.parquet.read_table(shards).to_pylist()
    assert len(wanted) == 3 and sum(row["rgb_motion_latent"] is None for row in wanted) == 2
    found = sorted((plain(row) for row in rows), key=lambda row: row["clip_id"])
    assert found == sorted(wanted, key=lambda row: row["clip_id"])
"""
"""What a reader makes of all columns is what pyarrow makes of them, to the last byte."""

CHECKS = {
    "pyarrow": """
assert latent.shape == (16, 20, 8, 22) and latent.dtype == "float16" and np.isfinite(latent).all()
assert scores["structure.matte_iou"] == 0.9
""",
    "samples()": """
assert len(samples) == 3 and sample.scores["structure.matte_iou"] == 0.9
assert sample.rgb_latent.shape == (16, 20, 8, 22)
""",
    "datasets": """
assert row["rgb_latent"]["shape"] == [16, 20, 8, 22] and scores["structure.matte_iou"] == 0.9
check_rows(data)
check_rows(load_dataset("parquet", data_files=shards, split="train"))
""",
    "duckdb": """
assert [(r[0], r[2], r[3]) for r in found] == [(f"clip{n}", [16, 20, 8, 22], 0.9) for n in range(3)]
rows = duckdb.execute("SELECT * FROM read_parquet($shards)", {"shards": shards})
names = [column[0] for column in rows.description]
check_rows(dict(zip(names, row, strict=True)) for row in rows.fetchall())
""",
    "pandas": """
assert sorted(scores.index) == ["clip0", "clip1", "clip2"] and set(scores["structure.matte_iou"]) == {0.9}
check_rows(pd.concat(map(pd.read_parquet, shards)).to_dict("records"))
""",
    "polars": """
assert sorted(scores["clip_id"]) == ["clip0", "clip1", "clip2"]
assert set(scores["structure.matte_iou"]) == {0.9}
check_rows(pl.read_parquet(shards).to_dicts())
""",
    "root.decode": CHECK_FRAMES,
}
"""By the reader, in the page's order: what must hold after its block ran."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with ``my-root``: two snapshots, and a shard that no snapshot names."""
    path = tmp_path_factory.mktemp("docs")
    root = path / "my-root"
    ledger = new_root(root)
    files = Files(FolderBlobs(root), path / "scratch")
    latents = LatentsStage(LatentsConfig())
    latents.setup()
    with files.row_scope():
        rows = [
            latents.process(
                make_clip(
                    files, f"clip{n}", num_target=NUM_TARGET, num_motion=NUM_MOTION * (n == 1),
                    has_audio=n != 2, seed=n, height=HEIGHT, width=WIDTH,
                ),
                files,
            ).rows[0]
            for n in range(4)
        ]  # fmt: skip
        publish_clips(ledger, [rows[0], rows[3]], files, "run/0")
        publish_clips(ledger, rows[:3], files, "run/1")
        write_shard(plan_shards(rows[3:], 2)[0], files)
        finish_run(ledger, rows[:3])
    return path


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env={
            **os.environ, "PYTHONPATH": str(REPO), "HF_HOME": str(folder / "hf"),
            "HF_HUB_OFFLINE": "1",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def listed(folder) -> Path:
    """The folder after the page's one shell command: ``shards.txt`` names the current shards."""
    (command,) = SHELL
    ours = f'handloom() {{ "{sys.executable}" -m jobs.cli "$@"; }}\n'
    run(["bash", "-ec", ours + command], folder)
    return folder


def test_the_list_names_the_current_shards_alone(listed) -> None:
    shards = [Path(line) for line in (listed / "shards.txt").read_text().splitlines()]
    clips = [
        i for p in shards for i in pq.read_table(p, columns=["clip_id"])["clip_id"].to_pylist()
    ]
    assert sorted(clips) == ["clip0", "clip1", "clip2"]
    below = {
        p
        for p in (listed / "my-root").rglob("*.parquet")
        if "rgb_latent" in pq.read_schema(p).names
    }
    assert len(below) == len(shards) + 2, "a pattern would find an older snapshot and an orphan"


def test_the_list_of_an_older_schema_says_so(listed, tmp_path) -> None:
    new_root(tmp_path / "old")
    name = "dataset/00000000000000000002.json"
    text = (listed / "my-root" / name).read_text()
    assert '"schema_version": "3"' in text
    (tmp_path / "old/dataset").mkdir()
    (tmp_path / "old" / name).write_text(
        text.replace('"schema_version": "3"', '"schema_version": "2"')
    )
    done = run([sys.executable, "-m", "jobs.cli", "shards", str(tmp_path / "old")], listed)
    assert len(done.stdout.splitlines()) == 2
    assert "schema version 2, not 3" in done.stderr


def test_every_block_has_its_check() -> None:
    assert len(PYTHON) == len(CHECKS) == len(BLOCKS) - len(SHELL)


@pytest.mark.parametrize(("code", "reader"), list(zip(PYTHON, CHECKS, strict=True)), ids=CHECKS)
def test_a_block_of_the_page_runs(listed, code, reader) -> None:
    assert reader in code
    run([sys.executable, "-c", code + SAME_ROWS + CHECKS[reader]], listed)
