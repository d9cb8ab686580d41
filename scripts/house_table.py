"""Prints how the house stands: files per folder, arrows between folders, tests per line of source, largest functions.

    python -m scripts.house_table [--at GITREF]

Without ``--at`` it reads the files that git knows as they lie here, else those of a commit. Modules named in strings
(the list of stages, what child processes run) are no arrows.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

REPO = Path(__file__).parents[1]
OUTSIDE = {"tests", "benchmarks", "scripts", "docs", "examples"}
"""Top folders that are no part of the house."""
MAX_LINES, MAX_ARGUMENTS = 60, 8
_COMMANDS = "jobs/commands/"
"""Here an argument is an option of the command line."""
_NUM_LARGEST = 5

Texts = Mapping[str, str]
"""Text by path of a Python file, relative to the repository."""


class Function(NamedTuple):
    """Where a function is and how large."""

    place: str
    num_lines: int
    num_arguments: int


def read_texts(ref: str | None) -> dict[str, str]:
    """All Python files of a commit, or as they lie here.

    Raises:
        CalledProcessError: There is no such commit.
    """
    if ref is None:
        names = _git("ls-files", "*.py").decode().split()
        return {name: (REPO / name).read_text() for name in names if (REPO / name).is_file()}
    with tarfile.open(fileobj=io.BytesIO(_git("archive", ref))) as archive:
        files = [m for m in archive.getmembers() if m.isfile() and m.name.endswith(".py")]
        return {m.name: archive.extractfile(m).read().decode() for m in files}


def _git(*argv: str) -> bytes:
    return subprocess.run(["git", *argv], cwd=REPO, capture_output=True, check=True).stdout


def source_of(texts: Texts) -> dict[str, str]:
    """The files of the house itself."""
    return {p: t for p, t in texts.items() if "/" in p and p.split("/")[0] not in OUTSIDE}


def folder_of(path: str) -> str:
    """The folder of a file.

    >>> folder_of("stages/kit/masks.py")
    'stages/kit'
    """
    return str(PurePosixPath(path).parent)


def imported(path: str, text: str, source: Texts) -> Iterator[str]:
    """Files of the house that a file imports, whatever the place in it."""
    for node in ast.walk(ast.parse(text, path)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if found := _file_of(name, source):
                yield found


def _file_of(name: str, source: Texts) -> str | None:
    """The file that a dotted name comes from: the module of that name, or the one that holds it."""
    for dotted in (name, name.rpartition(".")[0]):
        stem = dotted.replace(".", "/")
        for path in (f"{stem}.py", f"{stem}/__init__.py"):
            if path in source:
                return path
    return None


def arrows(source: Texts) -> Counter[tuple[str, str]]:
    """How many pairs of files stand behind each arrow from a folder to another one that it imports."""
    pairs = {
        (path, found) for path, text in source.items() for found in imported(path, text, source)
    }
    ends = ((folder_of(a), folder_of(b)) for a, b in pairs)
    return Counter((a, b) for a, b in ends if a != b)


def functions(source: Texts) -> Iterator[Function]:
    """Every function, without ``self`` and ``cls`` among its arguments."""
    for path, text in source.items():
        for node in ast.walk(ast.parse(text, path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = node.args
                named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
                count = sum(a.arg not in {"self", "cls"} for a in named)
                num_lines = (node.end_lineno or node.lineno) - node.lineno + 1
                yield Function(f"{path}:{node.name}", num_lines, count)


def num_lines(texts: Texts) -> int:
    """Lines of all files, blank ones too."""
    return sum(text.count("\n") for text in texts.values())


def folder_lines(source: Texts) -> Iterator[str]:
    """A line per folder: files, lines, arrows out and in."""
    graph = arrows(source)
    yield "| folder | files | lines | longest file | arrows out | arrows in |"
    yield "|---|---|---|---|---|---|"
    for folder in sorted({folder_of(path) for path in source}):
        here = {p: t for p, t in source.items() if folder_of(p) == folder}
        longest = max(here, key=lambda p: here[p].count("\n"))
        out, into = (sum(ends[side] == folder for ends in graph) for side in (0, 1))
        size = f"{PurePosixPath(longest).name} {here[longest].count(chr(10))}"
        files = sum(not path.endswith("__init__.py") for path in here)
        yield f"| {folder} | {files} | {num_lines(here)} | {size} | {out} | {into} |"


def arrow_lines(source: Texts) -> Iterator[str]:
    """A line per folder: whom it imports, with the number of pairs of files."""
    graph = arrows(source)
    two_way = sum((b, a) in graph for a, b in graph) // 2
    yield f"{len(graph)} arrows, {two_way} pairs of folders import each other"
    yield ""
    for folder in sorted({a for a, _ in graph}):
        ends = sorted((b, n) for (a, b), n in graph.items() if a == folder)
        yield f"- {folder} -> " + ", ".join(f"{b} ({n})" for b, n in ends)


def test_lines(texts: Texts) -> Iterator[str]:
    """A line per package: its unit tests against its source; then all tests against all source."""
    source = source_of(texts)
    yield "| package | lines of source | lines of unit tests | tests per line |"
    yield "|---|---|---|---|"
    for package in sorted({path.split("/")[0] for path in source}):
        own = num_lines({p: t for p, t in source.items() if p.startswith(f"{package}/")})
        tests = num_lines(
            {p: t for p, t in texts.items() if p.startswith(f"tests/unit/{package}/")}
        )
        yield f"| {package} | {own} | {tests} | {tests / max(own, 1):.2f} |"
    own, tests = (
        num_lines(source),
        num_lines({p: t for p, t in texts.items() if p.startswith("tests/")}),
    )
    yield f"| all, with tests of more than one package | {own} | {tests} | {tests / own:.2f} |"


def size_lines(source: Texts) -> Iterator[str]:
    """The longest functions and those with most arguments."""
    found = list(functions(source))
    long = [f for f in found if f.num_lines > MAX_LINES]
    wide = [f for f in found if not f.place.startswith(_COMMANDS)]
    many = [f for f in wide if f.num_arguments > MAX_ARGUMENTS]
    many_text = f"{len(many)} outside {_COMMANDS} with more than {MAX_ARGUMENTS} arguments"
    yield f"{len(found)} functions; {len(long)} over {MAX_LINES} lines, {many_text}"
    yield ""
    for f in sorted(found, key=lambda f: -f.num_lines)[:_NUM_LARGEST]:
        yield f"- {f.num_lines} lines: {f.place}"
    for f in sorted(wide, key=lambda f: -f.num_arguments)[:_NUM_LARGEST]:
        yield f"- {f.num_arguments} arguments: {f.place}"


def table(texts: Texts) -> str:
    """The whole page, in Markdown."""
    source = source_of(texts)
    parts = {
        "Files per folder": folder_lines(source),
        "Arrows between folders": arrow_lines(source),
        "Tests": test_lines(texts),
        "Largest functions": size_lines(source),
    }
    return "\n\n".join(f"## {head}\n\n" + "\n".join(lines) for head, lines in parts.items())


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at", metavar="GITREF", help="a commit instead of the files as they lie")
    sys.stdout.write(table(read_texts(parser.parse_args().at)) + "\n")


if __name__ == "__main__":
    main()
