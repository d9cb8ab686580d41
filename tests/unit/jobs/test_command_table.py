"""The table of commands says what the commands say, and nothing is imported before it is needed."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys

import pytest
import typer

from jobs.cli import COMMANDS, main

HEAVY = ("torch", "scipy", "ray", "pandas", "pyarrow", "cv2", "av", "pydantic", "numpy", "rich")


def modules_after(code: str) -> set[str]:
    """Packages that are loaded once ``code`` has run in a fresh interpreter."""
    tail = (
        "\nimport sys, json; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code + tail], capture_output=True, text=True, check=True, timeout=120
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_quotes_the_docstring(name):
    module, _, attribute = COMMANDS[name].target.partition(":")
    target = getattr(importlib.import_module(module), attribute)
    text = target.info.help if isinstance(target, typer.Typer) else target.__doc__
    assert text.startswith(COMMANDS[name].summary)


def test_help_imports_nothing_heavy():
    loaded = modules_after("import jobs.cli")
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize(("asked", "given"), [(None, "1"), ("4", "4")])
def test_blas_takes_one_thread_unless_asked(asked, given, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["handloom", "--help"])
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", asked or "")
    if asked is None:
        monkeypatch.delenv("OPENBLAS_NUM_THREADS")
    with pytest.raises(SystemExit):
        main()
    assert os.environ["OPENBLAS_NUM_THREADS"] == given


def test_a_command_line_is_parsed_without_what_its_work_needs():
    names = {e.target.partition(":")[0] for e in COMMANDS.values()}
    loaded = modules_after("import " + ", ".join(sorted(names)))
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("worker", ["probe_worker", "segment_worker"])
def test_a_child_that_decodes_starts_without_the_rows_schemas(worker):
    loaded = modules_after(f"import stages.kit.isolate, stages.source.{worker}, stages.kit.media")
    assert not loaded & {"pydantic", "torch", "scipy"}


def test_stages_are_declared_without_torch_scipy_or_ray():
    code = "import importlib\nfrom curation.stage_list import STAGE_CLASSES\n"
    code += "for c in STAGE_CLASSES.values(): importlib.import_module(c.partition(':')[0])"
    assert not modules_after(code) & {"torch", "scipy", "ray", "pandas", "mediapipe", "trimesh"}
