"""What commands answer when all goes well: exit code, words for people, and the document that ``--json`` promises."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from curation.recipe import RunGates
from curation.root.ledger import Ledger
from curation.root.store import Store
from jobs.cli import app
from jobs.outputs import check_output
from tests.unit.curation import toy
from tests.unit.curation.toy_runs import HERE, curate

DOOR = "door"
TEXTS = {"a.txt": "hello", "b.txt": "a longer text", "c.txt": "short", "d.txt": "needs {door}"}
RUN = HERE.replace(gates=RunGates(max_quarantined_share=0.5))
NUM_CLIPS = 4
"""Of the two sources that come through, two each."""


def said(*argv: object, code: int = 0) -> str:
    """What a command prints for people."""
    done = CliRunner().invoke(app, [str(a) for a in argv])
    assert done.exit_code == code, done.output
    return done.stdout


def told(command: str, *argv: object, code: int = 0) -> dict:
    """What a command prints for programs, checked against its model."""
    document = json.loads(said(*command.split(), *argv, "--json", code=code))
    check_output(command, document)
    return document


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    """A report shows pictures of kept clips; the toy's are texts."""
    monkeypatch.setattr("curation.report.build._MAX_STRIPS", 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two runs of the toy chain, the second with a stricter gate; one source crashes until a file is there."""
    texts = {name: text.format(door=tmp_path / DOOR) for name, text in TEXTS.items()}
    sources = toy.write_sources(tmp_path / "sources", texts)
    curate(sources, tmp_path / "root", RUN, shards=True)
    curate(sources, tmp_path / "root", RUN, shards=True, quality={"gate": {"min_sharpness": 6}})
    return tmp_path / "root"


@pytest.fixture
def newest(root: Path) -> str:
    return Ledger(Store(str(root))).latest_run().run_id


def test_runs(root, newest):
    runs = told("runs", root)["runs"]
    assert [run["run_id"] for run in runs][-1] == newest
    assert [run["snapshot"] for run in runs] == [1, 2]
    lines = said("runs", root).splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(newest)
    assert lines[1].endswith("recipe toy  snapshot 2")


def test_report(root, newest):
    document = told("report", root)
    assert document["run_id"] == newest
    assert document["verdict"] == "WARN"  # one source crashed
    assert len(document["kept_clip_ids"]) == NUM_CLIPS // 2
    shown = said("report", root)
    assert "WARN" in shown
    page = Path(shown.rsplit("report: ", 1)[1].strip())
    assert page.is_file()
    assert newest in page.read_text()


def test_report_of_an_older_run(root, newest):
    older = told("runs", root)["runs"][0]["run_id"]
    document = told("report", root, "--run", older)
    assert document["run_id"] == older != newest
    assert len(document["kept_clip_ids"]) == NUM_CLIPS


def test_report_of_a_run_that_misses_a_gate_says_so_by_its_code(root):
    sources = root.parent / "sources"
    curate(sources, root, HERE, shards=True)
    document = told("report", root, code=3)
    assert [gate["name"] for gate in document["gates"] if not gate["passed"]] == [
        "max_quarantined_share"
    ]
    assert "FAIL" in said("report", root, code=3)


def test_shards(root):
    found = told("shards", root)
    assert found["snapshot"] == 2
    assert sum(shard["num_samples"] for shard in found["shards"]) == NUM_CLIPS // 2
    paths = [shard["path"] for shard in found["shards"]]
    assert all(Path(path).is_file() for path in paths)
    assert said("shards", root).split() == paths
    before = told("shards", root, "--snapshot", 1)
    assert sum(shard["num_samples"] for shard in before["shards"]) == NUM_CLIPS


def test_diff(root):
    found = told("diff", root)
    assert not found["same"]
    assert [change["stage"] for change in found["settings"]] == ["quality"]
    assert found["funnel"]["quality"]["kept"] == [NUM_CLIPS, NUM_CLIPS // 2]
    assert sum(flip["num_rows"] for flip in found["rows"]["flips"]) == NUM_CLIPS // 2
    shown = said("diff", root)
    assert shown.splitlines()[2] == "not the same:"
    assert "min_sharpness" in shown
    newest = found["runs"][1]
    same = said("diff", root, root, "--run-a", newest, "--run-b", newest)
    assert "same: settings, fates and shards" in same


def test_verify(root):
    found = told("verify", root)
    assert found["problems"] == []
    assert (found["num_snapshots"], found["num_unreferenced"]) == (2, 0)
    assert found["num_blobs"] > NUM_CLIPS
    assert said("verify", root).startswith("0 problems; read ")


def test_verify_names_the_file_that_is_not_what_it_was(root):
    shard = Path(told("shards", root)["shards"][0]["path"])
    shard.write_bytes(b"x" + shard.read_bytes()[1:])
    (problem,) = told("verify", root, code=3)["problems"]
    assert problem["name"] == str(shard.relative_to(root))
    assert "1 problems" in said("verify", root, code=3)


def test_vacuum(root):
    digest = hashlib.sha256(b"nobody's").hexdigest()
    stray = root / "blobs" / digest[:2] / f"{digest}.bin"
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"nobody's")
    name = str(stray.relative_to(root))
    young = told("vacuum", root)
    assert (name in young["names"], young["num_too_young"]) == (False, 1)
    looked = told("vacuum", root, "--min-age-hours", 0)
    assert set(looked["by_folder"]) == {"attempts", "blobs"}  # marks of runs that are over
    assert name in looked["names"]
    assert not looked["applied"]
    assert "delete them with" in said("vacuum", root, "--min-age-hours", 0)
    assert stray.is_file()
    deleted = said("vacuum", root, "--min-age-hours", 0, "--apply")
    assert f"deleted {looked['num_objects']} objects" in deleted
    assert not stray.exists()
    assert told("vacuum", root, "--min-age-hours", 0, "--apply")["num_objects"] == 0
    assert told("verify", root)["problems"] == []


@pytest.fixture
def its_own_chain(monkeypatch):
    """``retry`` builds the stages of the run from its record: here, the toy ones."""

    def chain_of(recipe):
        return toy.toy_chain(**{**recipe.stages, "shards": True})

    monkeypatch.setattr("curation.upkeep.retry.build_chain", chain_of)


def test_retry_that_only_marks(root, its_own_chain):
    marked = told("retry", root, "--reason", "crash_SIGBUS", "--mark-only")
    assert marked["num_rows"] == 1
    assert marked["log_entry"] >= 1
    shown = said("retry", root, "--reason", "crash_SIGBUS", "--stage", "segment", "--mark-only")
    assert shown.startswith("1 rows will be done again (log entry ")


def test_retry_that_runs(root, newest, its_own_chain):
    (root.parent / DOOR).touch()
    done = told("retry", root, "--reason", "crash_SIGBUS")
    assert done["run_id"] != newest
    assert done["verdict"] == "PASS"
    assert done["num_stage_calls"]["segment"] == 1
    assert done["snapshot"] == 3
    assert [r["run_id"] for r in told("runs", root)["runs"]][-1] == done["run_id"]


@pytest.fixture
def roomy(monkeypatch):
    """A test's machine may be full; that is not what is asked here."""
    for name in ("_MIN_FREE_DISK_BYTES", "_MIN_FREE_MEMORY_BYTES"):
        monkeypatch.setattr(f"jobs.commands.doctor.{name}", 0)


def test_doctor(roomy):
    checks = {check["name"]: check for check in told("doctor", "--no-ray")["checks"]}
    assert all(check["is_ok"] for check in checks.values())
    assert checks["default recipe"]["found"] == "13 stages ready"
    assert "ray starts" not in checks
    lines = said("doctor", "--no-ray").splitlines()
    assert [line for line in lines if line.startswith("FAIL")] == []
    assert {line.split()[1] for line in lines if line.startswith("ok")} >= {"python", "ffmpeg"}


@pytest.mark.slow
def test_doctor_starts_ray(roomy):
    (ray,) = [c for c in told("doctor")["checks"] if c["name"] == "ray starts"]
    assert ray["is_ok"]


def test_models_list():
    backends = told("models list")["backends"]
    *shown, legend = said("models", "list").splitlines()
    assert legend.startswith("* used unless")
    for line, backend in zip(shown, backends, strict=True):
        key, name = line.split()[:2]
        assert key == ".".join(filter(None, (backend["stage"], backend["setting"])))
        assert name == backend["name"]
        assert (f"{name} *" in line) == backend["is_default"]
        assert ("missing" in line) != backend["installed"]


def test_models_check():
    found = told("models check", "--train", "smoke")
    assert len(found["stages"]) == 13
    shown = said("models", "check", "--train", "smoke")
    for stage in found["stages"]:
        assert f"{stage['stage']:<11} {stage['fingerprint']}" in shown
    assert "network of training recipe smoke" in shown


def test_models_pin(tmp_path):
    weights = tmp_path / "weights.bin"
    weights.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert told("models pin", weights) == {"file": str(weights), "sha256": digest}
    assert said("models", "pin", weights).strip() == digest
