"""Functions fit on a screen, and what they need fits in a head."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("schemas", "model", "stages", "curation", "jobs", "handloom", "training")
MAX_LINES, MAX_ARGUMENTS = 60, 8
FunctionDef = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> Iterator[FunctionDef]:
    """Every function of a module, the methods and the inner ones too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, FunctionDef):
            yield node


def num_lines(function: FunctionDef, is_command: bool = False) -> int:
    """From ``def`` to the last line, without decorators; of a command without its options, which are help."""
    assert function.end_lineno is not None
    first = function.body[0].lineno if is_command else function.lineno
    return function.end_lineno - first + 1


def num_arguments(function: FunctionDef) -> int:
    """What a caller may give: all but ``self`` and ``cls``."""
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return sum(a.arg not in {"self", "cls"} for a in every)


def faults(source: str, is_command: bool = False) -> list[str]:
    """Functions of a module that are too long or take too much; options of a command do not count."""
    found = []
    for function in functions(source):
        length = num_lines(function, is_command)
        if length > MAX_LINES:
            found.append(f"{function.name}: {length} lines")
        if num_arguments(function) > MAX_ARGUMENTS and not is_command:
            found.append(f"{function.name}: {num_arguments(function)} arguments")
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_no_function_is_too_long_or_takes_too_much(package):
    found = []
    for path in sorted((ROOT / package).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        is_command = name.startswith("jobs/commands/")
        found += [f"{name} {fault}" for fault in faults(path.read_text(), is_command)]
    assert not found


def test_the_check_sees_what_it_should():
    long = "def long():\n" + "    x = 1\n" * MAX_LINES
    assert faults(long) == ["long: 61 lines"]
    assert not faults(long, is_command=True)
    names = ", ".join(f"a{n}" for n in range(MAX_ARGUMENTS - 1))
    wide = f"class A:\n    def wide(self, {names}, *, b, c): ..."
    assert faults(wide) == ["wide: 9 arguments"]
    assert not faults(wide, is_command=True)
    assert not faults(f"class A:\n    def fits(self, {names}, *, b): ...")
