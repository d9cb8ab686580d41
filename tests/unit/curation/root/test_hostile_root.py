"""A root, a recipe or a name from outside: it leads nowhere but into the root, steers no terminal, has an end."""

from __future__ import annotations

import json
import pickle
import resource
from pathlib import Path

import pytest
import typer
from pydantic import ValidationError

from curation.recipe import load_recipe
from curation.root.leases import living
from curation.root.ledger import Ledger
from curation.root.store import Store
from curation.root.tables import models_to_parquet, put_blob_bytes
from jobs.console import Exit, guarded, say
from schemas.errors import ConfigError, DataError, HandloomError, InvariantError
from schemas.manifest import Retried, RunRecord, ShardEntry
from schemas.outcome import Decision, StageResult
from schemas.rows import Clip, SourceVideo
from schemas.text import plain, shorten
from tests.support.facets import media_facet

HOSTILE_IDS = ["../x", "/etc/x", "a/b", "..", ".hidden", "", "a\x1b[31m", "a\nb", "a" * 200, "ü"]
REF = {"sha256": "ab" * 32, "suffix": ".parquet", "num_bytes": 1}


def record(run_id: str) -> dict[str, object]:
    return {
        "run_id": run_id,
        "recipe": {"name": "toy"},
        "stages": [],
        "sources": REF,
        "clips": REF,
        "decisions": REF,
        "num_stage_calls": {},
        "wall_s": 1,
        "started_at": "",
        "versions": {},
    }


def clip(**changed: str) -> dict[str, object]:
    media = media_facet().model_dump(mode="json")
    times = {"start_s": 0, "end_s": 1, "motion_start_s": 0}
    return {"clip_id": "c", "source_id": "s", "media": media, **times, **changed}


@pytest.mark.parametrize("bad", HOSTILE_IDS)
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (RunRecord, record),
        (Retried, lambda bad: {"unit_key": bad}),
        (ShardEntry, lambda bad: {"file": REF, "num_samples": 1, "clip_ids": [bad]}),
        (
            StageResult,
            lambda bad: {
                "unit_key": bad,
                "stage": "quality",
                "fingerprint": "f",
                "closure": "c",
                "row_id": "r",
                "outcome": "kept",
            },
        ),
        (SourceVideo, lambda bad: {"uri": "x", "num_bytes": 1, "content_sha256": bad}),
        (Clip, lambda bad: clip(clip_id=bad)),
        (Clip, lambda bad: clip(source_id=bad)),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_ids_that_become_paths_have_a_pattern(kind, values, bad):
    with pytest.raises(ValidationError, match=r"pattern"):
        kind.model_validate(values(bad))


@pytest.mark.parametrize("bad", ["../out", "/tmp/out", "a/../../out", "..", "", "a\0b"])
def test_stores_refuse_names_that_lead_out(tmp_path, bad):
    store = Store(str(tmp_path / "root"))
    for call in (
        lambda: store.put_new(bad, b"x"),
        lambda: store.read(bad),
        lambda: store.exists(bad),
        lambda: store.delete(bad),
        lambda: list(store.stream(bad)),
    ):
        with pytest.raises(ConfigError, match="refused"):
            call()
    if bad:
        with pytest.raises(ConfigError, match="refused"):
            store.list(bad)
    assert not (tmp_path / "out").exists()


def hostile_root(tmp_path: Path, run_id: str) -> Store:
    store = Store(str(tmp_path / "root"))
    ledger = Ledger(store)
    decisions = put_blob_bytes(store, models_to_parquet([], Decision), ".parquet")
    text = json.dumps({**record(run_id), "decisions": decisions.model_dump()})
    store.put_new("runs/r1/run.json", text.encode())
    assert ledger
    return store


@pytest.mark.parametrize(
    ("run_id", "said"), [("../../../out", "no record of a run"), ("r2", "about another run")]
)
def test_a_run_record_cannot_send_the_report_elsewhere(tmp_path, run_id, said):
    store = hostile_root(tmp_path, run_id)
    with pytest.raises(InvariantError, match=said):
        Ledger(store).latest_run()
    with pytest.raises(InvariantError, match=said):
        Ledger(store).runs()


def test_a_store_that_travelled_begins_no_root(tmp_path):
    worker = pickle.loads(pickle.dumps(Store(str(tmp_path / "root"))))
    with pytest.raises(ConfigError, match="workers never make one"):
        Ledger(worker)
    with pytest.raises(ConfigError, match="nothing was written"):
        worker.put_new("blobs/x", b"x")
    assert not (tmp_path / "root").exists()
    Ledger(Store(str(tmp_path / "root")))
    assert worker.put_new("blobs/x", b"x")


ESCAPES = "\x1b[2J\x1b]0;title\x07 \x9b31m \u202egpj.exe \u2028 \udcff\r"


def test_nothing_that_steers_a_terminal_is_printed(capsys):
    say(f"clip {ESCAPES}\nnext\tcolumn")
    with pytest.raises(typer.Exit) as ended:
        guarded(_raise(HandloomError(f"[bold]{ESCAPES}")))()
    assert ended.value.exit_code == Exit.FAILED
    with pytest.raises(typer.Exit):
        guarded(_raise(ZeroDivisionError(ESCAPES)))()
    out, err = capsys.readouterr()
    assert "next\tcolumn" in out
    assert "[bold]" in err
    assert "ZeroDivisionError" in err
    for text in (out, err):
        assert not set(text) & set("\x1b\x9b\x07\r\u202e\u2028\udcff")


def test_plain_text_keeps_what_people_write():
    for text in ("müller/視頻 (1).mp4", "नमस्\u200dते", "👩\u200d🔬", "a\u00a0b"):
        assert plain(text) == text


def _raise(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize("code", [Exit.REQUEST])
def test_a_config_error_is_a_wrong_request(code):
    with pytest.raises(typer.Exit) as ended:
        guarded(_raise(ConfigError("no")))()
    assert ended.value.exit_code == code


def test_every_message_has_an_end():
    long = "x" * 10_000_000
    for error in (HandloomError(long), ConfigError(long), DataError("not_video", long)):
        assert len(str(error)) < 5000
        assert "more characters" in str(error)
        assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert shorten("short") == "short"


def aliases(levels: int) -> str:
    """Some hundred bytes that are ``10 ** levels`` values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


def merges(levels: int) -> str:
    """The same by merge keys, which unfold while the file is read."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        aliases(9) + "\nquality: {gate: *a8}",
        merges(9) + "\nquality: *a8",
        "quality: &q {gate: *q}",
        "quality: " + "[" * 5000 + "]" * 5000,
        "quality: 2024-99-99",
        "quality: \x1b[31m",
        "run: {max_workers: " + "y" * 100_000 + "}",
    ],
    ids=["aliases", "merges", "self", "nested", "date", "escape", "long"],
)
def test_a_recipe_that_unfolds_without_end_is_a_short_error(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ConfigError) as caught:
        load_recipe(path, [], ["quality"], tmp_path)
    assert len(str(caught.value)) < 5000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 100_000


def test_aliases_that_say_little_are_welcome(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("quality: &q {gate: {x: 1}}\nspeech: *q")
    recipe = load_recipe(path, [], ["quality", "speech"], tmp_path)
    assert recipe.stages["speech"] == {"gate": {"x": 1}}


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"version": "x"}', '{"version": null}', "[" * 5000 + "]" * 5000, "\x1b"]
)
def test_a_marker_that_is_none_is_a_wrong_request(tmp_path, text):
    (tmp_path / "_format.json").write_text(text)
    with pytest.raises(ConfigError, match=r"_format\.json is"):
        Ledger(Store(str(tmp_path)))


@pytest.mark.parametrize(
    "text", ["[]", "{}", "no json", '{"machine": 1, "pid": "../../etc", "started": ""}']
)
def test_a_lease_in_foreign_words_is_judged_by_its_age(tmp_path, text):
    store = Store(str(tmp_path))
    Ledger(store)
    store.put_new("leases/run/somebody/1.json", text.encode())
    store.put_new("leases/vacuum/us/1.json", b"{}")
    (alive,) = living(store, "run", "leases/vacuum/us/1.json")
    assert alive.startswith("somebody (a run")
