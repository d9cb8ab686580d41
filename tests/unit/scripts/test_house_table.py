"""The table of the house counts what is there."""

from __future__ import annotations

import subprocess

import pytest

from scripts.house_table import arrows, functions, read_texts, source_of, table

TEXTS = {
    "low/__init__.py": "",
    "low/a.py": "def f(x, *, y):\n    return x\n",
    "low/b.py": "from low.a import f\n",
    "high/__init__.py": "",
    "high/c.py": "import low.a\nfrom low import b\n\n\nclass C:\n    def g(self):\n        from low.a import f\n",
    "tests/unit/low/test_a.py": "def test_f():\n    assert 1\n",
    "tests/e2e/test_all.py": "import high.c\n",
    "setup.py": "import low.a\n",
}


def test_tests_and_loose_files_are_no_part_of_the_house():
    assert {path.split("/")[0] for path in source_of(TEXTS)} == {"low", "high"}


def test_an_arrow_counts_pairs_of_files_and_none_within_a_folder():
    assert arrows(source_of(TEXTS)) == {("high", "low"): 2}


def test_functions_are_measured_without_self():
    found = {f.place: (f.num_lines, f.num_arguments) for f in functions(source_of(TEXTS))}
    assert found == {"low/a.py:f": (2, 2), "high/c.py:g": (2, 0)}


def test_the_page():
    page = table(TEXTS)
    assert "| high | 1 | 7 | c.py 7 | 1 | 0 |" in page
    assert "| low | 2 | 3 | a.py 2 | 0 | 1 |" in page
    assert "- high -> low (2)" in page
    assert "| low | 3 | 2 | 0.67 |" in page
    assert "2 functions; 0 over 60 lines, 0 outside" in page


def test_a_commit_that_is_not_there():
    with pytest.raises(subprocess.CalledProcessError):
        read_texts("no-such-commit")


def test_the_files_that_lie_here():
    texts = read_texts(None)
    assert "class Stage" in texts["stages/base.py"]
