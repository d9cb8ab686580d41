"""Documents name files that are there, in backticks, links and shown diffs; the diffs of CONTRIBUTING.md apply."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
OURS = "curation|docs|examples|handloom|jobs|model|schemas|scripts|stages|tests|training|benchmarks"
FENCE = re.compile(r"^(```+)(\w*)\n(.*?)^\1", re.M | re.S)
LINK = re.compile(r"\]\(([^)\s]+)\)")
QUOTED = re.compile(r"`([^`\n]+)`")
PATH = re.compile(rf"(?<![\w/.-])(?:(?:{OURS})/[\w./-]*\w|[\w/.-]+\.(?:py|md|toml|sh|cff))\b")
DIFF_HEADER = re.compile(r"^(?:---|\+\+\+) ([ab])/(\S+)$", re.M)


def listed_files() -> list[str]:
    """What git has or would add: not what builds and tests leave behind."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (REPO / name).exists()]


FILES = listed_files()
KNOWN = {*FILES, *(str(parent) for name in FILES for parent in Path(name).parents)}
ENDS = {"/".join(parts[i:]) for parts in (n.split("/") for n in KNOWN) for i in range(len(parts))}
"""Every path, also without its first folders: a table may name files below the folder it is about."""
PAGES = sorted(name for name in FILES if name.endswith(".md"))


def missing_links(page: str, text: str) -> list[str]:
    """Links to files that are not there, or to headings that their page has not."""
    missing = []
    for target in LINK.findall(FENCE.sub("", text)):
        if "://" in target:
            continue
        address, _, anchor = target.partition("#")
        path = os.path.normpath(Path(page).parent / address) if address else page
        if path not in KNOWN or (anchor and anchor not in anchors((REPO / path).read_text())):
            missing.append(target)
    return missing


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.M)
    plain = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings)
    return {re.sub(r"\s", "-", heading.strip()) for heading in plain}


def missing_paths(page: str, text: str) -> list[str]:
    """Quoted paths of ours that are no file, no folder, and no end of one."""
    prose = FENCE.sub("", text)
    named = {path for quoted in QUOTED.findall(prose) for path in PATH.findall(quoted)}
    beside = {name: os.path.normpath(Path(page).parent / name) for name in named}
    return sorted(n for n in named if n not in ENDS and beside[n] not in KNOWN)


def missing_in_diffs(text: str) -> list[str]:
    """Files that a shown diff changes and that are not there; those that it makes must not be there."""
    wrong = []
    for _, kind, body in FENCE.findall(text):
        if kind != "diff":
            continue
        headers = DIFF_HEADER.findall(body)
        assert headers, f"a diff without a header: {body[:80]}"
        before = {name for side, name in headers if side == "a"}
        after = {name for side, name in headers if side == "b"}
        wrong += [name for name in before if name not in KNOWN]
        wrong += [f"{name} exists" for name in after - before if name in KNOWN]
    return wrong


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_what_is_there(page) -> None:
    text = (REPO / page).read_text(encoding="utf-8")
    found = {"links": missing_links(page, text), "paths": missing_paths(page, text),
             "diffs": missing_in_diffs(text)}  # fmt: skip
    assert found == {"links": [], "paths": [], "diffs": []}


def shown_diffs() -> list[str]:
    text = (REPO / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return [body for _, kind, body in FENCE.findall(text) if kind == "diff"]


@pytest.mark.parametrize("diff", shown_diffs(), ids=lambda d: DIFF_HEADER.findall(d)[0][1])
def test_a_worked_task_applies_to_todays_tree(diff) -> None:
    """Take the diff again where this fails: the page shows what a newcomer would do today."""
    done = subprocess.run(
        ["git", "apply", "--check", "-C1", "-"], cwd=REPO, input=diff, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_what_is_not_there_is_found() -> None:
    text = "[a](gone.md) [b](model.md#nowhere) [c](model.md#using-it) `stages/gone.py` `flow.py`\n"
    assert missing_links("docs/x.md", text) == ["gone.md", "model.md#nowhere"]
    assert missing_paths("docs/x.md", text) == ["stages/gone.py"]
    diff = "```diff\n--- a/stages/gone.py\n+++ b/stages/gone.py\n+++ b/stages/base.py\n```\n"
    assert missing_in_diffs(diff) == ["stages/gone.py", "stages/base.py exists"]


def test_every_page_is_in_the_index() -> None:
    index = (REPO / "docs/README.md").read_text()
    pages = [Path(p).name for p in PAGES if p.startswith("docs/") and p != "docs/README.md"]
    assert [p for p in pages if f"]({p})" not in index] == []


def test_the_layers_are_drawn_as_they_are_held() -> None:
    settings = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (c["layers"] for c in settings["contracts"] if c["name"] == "layers point one way")
    page = (REPO / "docs/architecture.md").read_text()
    drawn = page[page.index("## Layers") :]
    lines = [re.search(rf"^  {re.escape(layer)}\s", drawn, re.M) for layer in layers]
    assert all(lines), layers
    assert [m.start() for m in lines] == sorted(m.start() for m in lines)
