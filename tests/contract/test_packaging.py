"""What is installed is what is checked: one list of packages, told in five places."""

from __future__ import annotations

import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import yaml

REPO = Path(__file__).parents[2]
SETTINGS = tomllib.loads((REPO / "pyproject.toml").read_text())
TOOL = SETTINGS["tool"]
PACKAGES = TOOL["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_every_package_is_copied_typed_layered_and_tested() -> None:
    copied = (REPO / "Dockerfile").read_text().splitlines()
    for name in PACKAGES:
        assert (REPO / name / "__init__.py").is_file()
        assert f"COPY {name} {name}" in copied
        assert name in TOOL["mypy"]["packages"]
        assert name in TOOL["importlinter"]["root_packages"]
        assert name in TOOL["pytest"]["ini_options"]["testpaths"]


def test_the_script_and_the_package_of_one_name_are_both_there() -> None:
    import handloom.__main__
    from jobs.cli import main

    (script,) = entry_points(group="console_scripts", name="handloom")
    assert script.load() is handloom.__main__.main is main


def test_citation_and_project_agree() -> None:
    cited = yaml.safe_load((REPO / "CITATION.cff").read_text())
    project = SETTINGS["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])


def test_hooks_run_the_checks_of_make() -> None:
    hooks = yaml.safe_load((REPO / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    entries = [hook["entry"].removeprefix(".venv/bin/") for hook in hooks]
    assert entries == ["ruff format", "ruff check", "mypy", "lint-imports"]
    check = (REPO / "Makefile").read_text().split("\ncheck:")[1].split("\n\n")[0]
    assert all(f"$(BIN)/{entry}" in check for entry in entries)


def test_forms_are_forms() -> None:
    forms = sorted((REPO / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    for path in forms:
        form = yaml.safe_load(path.read_text())
        if path.name != "config.yml":
            assert {"name", "description", "body"} <= form.keys()
            assert len({part["id"] for part in form["body"]}) == len(form["body"])
    assert len(forms) == 3
